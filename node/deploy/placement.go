package deploy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
)

// candidate is a machine as placement sees it: what the operator said of it and what it says now.
type candidate struct {
	member machine.Member
	seen   Observation
	// stored is what its pool has of the namespace; empty where no volume is in question.
	stored Stored
	// silent is why the machine could not be asked, or nil.
	silent error
	// leaving is the operation that removes the machine, or "".
	leaving string
	// reserved is what instances on it, of all namespaces, have reserved; held counts them.
	reserved reservation
	held     int
}

type reservation struct {
	cpus   float64
	memory int64
}

// choice is one slot's machine, and why.
type choice struct {
	slot    string
	machine string
	reason  string
}

// placement is a machine for every slot, or why there is none.
type placement struct {
	choices map[string][]choice // by service, in the order of its slots
	errs    []*api.Error

	machines []candidate               // copies: their reservations grow with every slot
	of       map[string]map[string]int // how many slots, by service and machine
	stays    map[string]choice         // by slot
	taken    map[string]string         // slot → service

	volumes map[string]api.Volume
	// pins are where data sets are, and where new ones come: by name, growing with every slot that mounts one.
	pins, there map[string]string
}

// placeAll chooses a machine for every slot of a release. It is a pure function. Slots that are well placed
// stay, and count before anything new is placed. pins are the machines that have a data set, by its name. Errors:
// deploy.no-eligible-machine with each machine's reason, volume.several-machines.
func placeAll(spec api.Spec, had map[string]api.Slot, machines []candidate, pins map[string]string) placement {
	p := placement{
		choices: map[string][]choice{}, machines: slices.Clone(machines), volumes: spec.Volumes, pins: map[string]string{}, there: pins,
		of: map[string]map[string]int{}, stays: map[string]choice{}, taken: map[string]string{},
	}
	maps.Copy(p.pins, pins)
	services := slices.Sorted(maps.Keys(spec.Services))
	p.settle(spec, services, had)
	for _, name := range services {
		p.of[name] = map[string]int{}
		for _, slot := range slotNames(name, spec.Services[name]) {
			p.stay(slot, name, spec.Services[name], had[slot])
		}
	}
	for _, name := range services {
		p.service(name, spec.Services[name], had)
	}
	return p
}

func slotNames(name string, s api.Service) []string {
	if s.Job != nil {
		return []string{name}
	}
	if s.Placement.Zero || s.Placement.Global {
		return nil
	}
	names := make([]string, max(1, s.Placement.Replicas))
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", name, i)
	}
	return names
}

// stay keeps a slot on the machine that has it, if that one would take it anew.
func (p *placement) stay(slot, service string, s api.Service, had api.Slot) {
	at := p.find(had.Machine)
	if had.Machine == "" || at < 0 || p.unfit(slot, service, s, p.machines[at]) != "" {
		return
	}
	p.take(at, slot, service, s)
	p.stays[slot] = choice{slot, had.Machine, "stays where it is"}
}

func (p *placement) find(machineName string) int {
	return slices.IndexFunc(p.machines, func(c candidate) bool { return c.member.Name == machineName })
}

func (p *placement) service(name string, s api.Service, had map[string]api.Slot) {
	if s.Placement.Global && s.Job == nil {
		p.global(name, s)
		return
	}
	for _, slot := range slotNames(name, s) {
		c, stays := p.stays[slot]
		if !stays {
			var err *api.Error
			if c, err = p.one(slot, name, s, had[slot]); err != nil {
				p.errs = append(p.errs, err)
				continue
			}
		}
		p.choose(name, c)
	}
}

func (p *placement) global(name string, s api.Service) {
	if err := p.spread(name, s); err != nil {
		p.errs = append(p.errs, err)
		return
	}
	var reasons []string
	for i, m := range p.machines {
		slot := name + "-" + m.member.Name
		if why := p.unfit(slot, name, s, m); why != "" {
			reasons = append(reasons, m.member.Name+": "+why)
			continue
		}
		p.take(i, slot, name, s)
		p.choose(name, choice{slot, m.member.Name, "one on every machine"})
	}
	if len(p.choices[name]) == 0 {
		p.errs = append(p.errs, nowhere(name, reasons))
	}
}

// one chooses for a slot that is new or has to move.
func (p *placement) one(slot, service string, s api.Service, had api.Slot) (choice, *api.Error) {
	var reasons []string
	best := -1
	for i, m := range p.machines {
		if why := p.unfit(slot, service, s, m); why != "" {
			reasons = append(reasons, m.member.Name+": "+why)
		} else if best < 0 || p.lessLoaded(service, m, p.machines[best]) {
			best = i
		}
	}
	if best < 0 {
		return p.drained(slot, service, s, had, reasons)
	}
	reason := fmt.Sprintf("fewest of its kind (%d) among %d eligible%s",
		p.of[service][p.machines[best].member.Name], len(p.machines)-len(reasons), rejections(reasons))
	if name, pinned := p.pinnedBy(slot, s); pinned {
		reason = "its volume " + name + " is there"
	}
	p.take(best, slot, service, s)
	return choice{slot, p.machines[best].member.Name, reason}, nil
}

// drained lets a slot stay on a draining machine when no other takes it, and come to one that has its volume: draining
// moves what may move.
func (p *placement) drained(slot, service string, s api.Service, had api.Slot, reasons []string) (choice, *api.Error) {
	volume, pinned := p.pinnedBy(slot, s)
	at := p.find(had.Machine)
	if pinned {
		at = p.find(p.there[volume])
	}
	if at < 0 || p.machines[at].member.Role != machine.Draining {
		return choice{}, p.nowhereFor(slot, s, reasons)
	}
	undrained := p.machines[at]
	undrained.member.Role = ""
	if p.unfit(slot, service, s, undrained) != "" {
		return choice{}, p.nowhereFor(slot, s, reasons)
	}
	p.take(at, slot, service, s)
	why := "stays on a draining machine: no other may take it"
	if had.Machine != undrained.member.Name {
		why = "on a draining machine, since its volume " + volume + " is there"
	}
	return choice{slot, undrained.member.Name, why + rejections(reasons)}, nil
}

func nowhere(subject string, reasons []string) *api.Error {
	return api.Errorf(api.CodeNoMachine, "no machine may take it (%s)", strings.Join(reasons, "; ")).About(subject).
		WithHint("look at the machines: ployzctl status")
}

// rejections are the reasons against the other machines, the first few of many.
func rejections(reasons []string) string {
	const shown = 5
	switch {
	case len(reasons) == 0:
		return ""
	case len(reasons) > shown:
		return fmt.Sprintf("; not %s; and %d more", strings.Join(reasons[:shown], "; not "), len(reasons)-shown)
	}
	return "; not " + strings.Join(reasons, "; not ")
}

// choose refuses a slot name that two services come to, such as job "web-0" and the first of "web".
func (p *placement) choose(service string, c choice) {
	if other, taken := p.taken[c.slot]; taken {
		p.errs = append(p.errs, invalid("services."+service, "its slot %s has the name of one of service %s", c.slot, other))
		return
	}
	p.taken[c.slot] = service
	p.choices[service] = append(p.choices[service], c)
}

// lessLoaded spreads a service first, then all instances; the name decides ties, so that a
// preview and its deploy choose the same.
func (p *placement) lessLoaded(service string, a, b candidate) bool {
	of := p.of[service]
	return cmp.Or(cmp.Compare(of[a.member.Name], of[b.member.Name]), cmp.Compare(a.held, b.held), cmp.Compare(a.member.Name, b.member.Name)) < 0
}

func (p *placement) take(at int, slot, service string, s api.Service) {
	m := &p.machines[at]
	for _, name := range p.datasets(slot, s) {
		p.pins[name] = m.member.Name
	}
	p.of[service][m.member.Name]++
	m.held++
	m.reserved.cpus += s.Resources.ReserveCPUs
	m.reserved.memory += s.Resources.ReserveMemoryBytes
}

// unfit says why a machine may not take one more instance; "" is fit.
func (p *placement) unfit(slot, service string, s api.Service, c candidate) string {
	if why := p.unfitBesides(service, s, c); why != "" {
		return why
	}
	return p.unfitVolumes(slot, s, c)
}

// unfitBesides is unfit as far as volumes have no part in it.
func (p *placement) unfitBesides(service string, s api.Service, c candidate) string {
	m, want, ask := c.member, s.Placement, s.Resources
	switch {
	case c.silent != nil:
		return "does not answer: " + c.silent.Error()
	case c.leaving != "":
		return "is being removed by " + c.leaving
	case len(want.Machines) > 0 && !slices.Contains(want.Machines, m.Name):
		return "not among the machines asked for"
	case len(want.Regions) > 0 && !slices.Contains(want.Regions, m.Region):
		return fmt.Sprintf("region %q is not asked for", m.Region)
	case len(want.Zones) > 0 && !slices.Contains(want.Zones, m.Zone):
		return fmt.Sprintf("zone %q is not asked for", m.Zone)
	case !m.Role.Takes():
		return fmt.Sprintf("is %s", m.Role)
	case len(s.Ports) > 0 && p.of[service][m.Name] > 0:
		return "already holds a slot that publishes the same port"
	case ask.ReserveCPUs > 0 && c.reserved.cpus+ask.ReserveCPUs > c.seen.CPUs:
		return fmt.Sprintf("has %.1f of %.1f CPUs reserved", c.reserved.cpus, c.seen.CPUs)
	case ask.ReserveMemoryBytes > 0 && c.reserved.memory+ask.ReserveMemoryBytes > c.seen.MemoryBytes:
		return fmt.Sprintf("has %d of %d MiB reserved", c.reserved.memory>>20, c.seen.MemoryBytes>>20)
	}
	return ""
}
