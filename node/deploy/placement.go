package deploy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
)

// candidate is a machine as placement sees it: what the operator said of it and what it says now.
type candidate struct {
	member machine.Member
	seen   Observation
	// silent is why the machine could not be asked, or nil.
	silent error
	// reserved is what instances on it, of all namespaces, have reserved; held counts them.
	reserved reservation
	held     int
	// ofService counts the slots of the service being placed.
	ofService int
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
	kept    bool
}

// placeSlots chooses a machine for every slot of a service. It is a pure function. Slots that are well
// placed stay. Errors: deploy.no-eligible-machine with each machine's reason.
func placeSlots(name string, s api.Service, had map[string]api.Slot, machines []candidate) ([]choice, []*api.Error) {
	machines = slices.Clone(machines)
	for i := range machines {
		machines[i].ofService = 0
	}
	if s.Placement.Global {
		return placeGlobal(name, s, machines), nil
	}
	var (
		choices []choice
		errs    []*api.Error
	)
	for _, slot := range slotNames(name, s) {
		c, err := placeOne(slot, s, had[slot], machines)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		choices = append(choices, c)
	}
	return choices, errs
}

func slotNames(name string, s api.Service) []string {
	if s.Job != nil {
		return []string{name}
	}
	if s.Placement.Zero {
		return nil
	}
	names := make([]string, max(1, s.Placement.Replicas))
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", name, i)
	}
	return names
}

func placeGlobal(name string, s api.Service, machines []candidate) []choice {
	var choices []choice
	for _, m := range machines {
		if unfit(s, m, false) == "" {
			choices = append(choices, choice{slot: name + "-" + m.member.Name, machine: m.member.Name, reason: "one on every machine"})
		}
	}
	return choices
}

func placeOne(slot string, s api.Service, had api.Slot, machines []candidate) (choice, *api.Error) {
	var reasons []string
	best := -1
	for i, m := range machines {
		staying := had.Machine == m.member.Name
		why := unfit(s, m, staying)
		if why != "" {
			reasons = append(reasons, m.member.Name+": "+why)
			continue
		}
		if staying {
			machines[i].take(s)
			return choice{slot: slot, machine: m.member.Name, reason: "stays where it is", kept: true}, nil
		}
		if best < 0 || lessLoaded(m, machines[best]) {
			best = i
		}
	}
	if best < 0 {
		return choice{}, api.Errorf(api.CodeNoMachine, "no machine may take it (%s)", strings.Join(reasons, "; ")).About(slot).
			WithHint("look at the machines: ployzctl status")
	}
	reason := fmt.Sprintf("fewest of its kind (%d) among %d eligible", machines[best].ofService, len(machines)-len(reasons))
	machines[best].take(s)
	return choice{slot: slot, machine: machines[best].member.Name, reason: reason}, nil
}

// lessLoaded spreads a service first, then all instances; the name decides ties, so that a
// preview and its deploy choose the same.
func lessLoaded(a, b candidate) bool {
	return cmp.Or(cmp.Compare(a.ofService, b.ofService), cmp.Compare(a.held, b.held), cmp.Compare(a.member.Name, b.member.Name)) < 0
}

func (c *candidate) take(s api.Service) {
	c.ofService++
	c.held++
	c.reserved.cpus += s.Resources.ReserveCPUs
	c.reserved.memory += s.Resources.ReserveMemoryBytes
}

// unfit says why a machine may not take, or keep, an instance; "" is fit.
func unfit(s api.Service, c candidate, staying bool) string {
	m, p := c.member, s.Placement
	switch {
	case c.silent != nil:
		return "does not answer: " + c.silent.Error()
	case len(p.Machines) > 0 && !slices.Contains(p.Machines, m.Name):
		return "not among the machines asked for"
	case len(p.Regions) > 0 && !slices.Contains(p.Regions, m.Region):
		return fmt.Sprintf("region %q is not asked for", m.Region)
	case len(p.Zones) > 0 && !slices.Contains(p.Zones, m.Zone):
		return fmt.Sprintf("zone %q is not asked for", m.Zone)
	case !m.Role.Takes():
		return fmt.Sprintf("is %s", m.Role)
	case staying:
		return ""
	case !publishable(s, c):
		return "already holds a slot that publishes the same port"
	case c.reserved.cpus+s.Resources.ReserveCPUs > c.seen.CPUs:
		return fmt.Sprintf("has %.1f of %.1f CPUs reserved", c.reserved.cpus, c.seen.CPUs)
	case c.reserved.memory+s.Resources.ReserveMemoryBytes > c.seen.MemoryBytes:
		return fmt.Sprintf("has %d of %d MiB reserved", c.reserved.memory>>20, c.seen.MemoryBytes>>20)
	}
	return ""
}

// publishable: two slots of a service that publishes ports cannot share a machine.
func publishable(s api.Service, c candidate) bool { return len(s.Ports) == 0 || c.ofService == 0 }
