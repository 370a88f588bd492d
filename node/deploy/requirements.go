package deploy

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// requirements is everything that must hold before anything is touched.
func (c *change) requirements(l layout) []operation.Requirement {
	var list []operation.Requirement
	add := func(name string, errs ...*api.Error) {
		if len(errs) == 0 {
			list = append(list, operation.Met(name, nil))
		}
		for _, err := range errs {
			list = append(list, operation.Met(name, err))
		}
	}
	add("what is asked for can be found", c.problems...)
	add("a machine for every slot", l.errs...)
	add("volumes can be what is asked", c.volumeProblems(l)...)
	add("hostnames are free", c.takenClaims()...)
	add("published ports are free", c.takenPorts(l)...)
	add("limits can be enforced", c.unenforceable(l)...)
	add("machines that run the namespace answer", c.silentMachines()...)
	add("it fits into one commit", c.tooLarge(l)...)
	return list
}

func (c *change) takenClaims() []*api.Error {
	var errs []*api.Error
	for name, s := range c.next.spec.Services {
		for _, r := range s.Routes {
			held := c.claims[claimKey(r)].namespace
			if held == "" || held == c.ns {
				continue
			}
			what := "hostname " + r.Host
			if r.TCP != 0 {
				what = fmt.Sprintf("gateway port %d", r.TCP)
			}
			errs = append(errs, api.Errorf(api.CodeHostnameTaken, "%s belongs to namespace %s", what, held).
				About("services."+name+".routes").WithHint("choose another; or, where %s is to give it up, deploy that without it first", held))
		}
	}
	slices.SortFunc(errs, bySubject)
	return errs
}

func (c *change) takenPorts(l layout) []*api.Error {
	var errs []*api.Error
	for _, p := range l.places {
		for _, port := range c.next.spec.Services[p.service].Ports { // also of one that stays: ports can change under it
			if holder := c.holderOf(p.machine, port); holder != "" {
				errs = append(errs, api.Errorf(api.CodePublishedTaken, "port %d/%s on %s is held by %s", port.Published, port.Protocol, p.machine, holder).
					About("services."+p.service+".ports").WithHint("publish another port, or stop what holds it"))
			}
		}
	}
	return errs
}

// holderOf names who, other than this namespace, has a port of a machine.
func (c *change) holderOf(machineName string, port api.Port) string {
	switch ns := c.claims[portKey(machineName, port)].namespace; ns {
	case "":
	case c.ns:
		return "" // an instance of another's with that port was left behind by one that did not get the claim
	default:
		return "namespace " + ns
	}
	for _, m := range c.machines {
		if m.member.Name != machineName {
			continue
		}
		if who, taken := m.seen.Listening[fmt.Sprintf("%s/%d", port.Protocol, port.Published)]; taken {
			return who
		}
		for _, o := range m.seen.Instances {
			if o.Spec.Namespace != c.ns && slices.ContainsFunc(o.Spec.Ports, samePort(port)) {
				return "instance " + o.ID + " of namespace " + o.Spec.Namespace
			}
		}
	}
	return ""
}

func (c *change) unenforceable(l layout) []*api.Error {
	var errs []*api.Error
	for _, p := range l.places {
		if p.keep {
			continue
		}
		r := p.spec.Resources
		for controller, asked := range map[string]bool{"cpu": r.CPUs > 0, "memory": r.MemoryBytes > 0, "pids": r.PIDs > 0, "io": r.IOWeight > 0} {
			if asked && !slices.Contains(c.controllersOf(p.machine), controller) {
				errs = append(errs, api.Errorf(api.CodeControllerAbsent, "%s has no cgroup controller %q", p.machine, controller).
					About("services."+p.service+".resources").WithHint("take the limit away, or boot the machine with the controller enabled"))
			}
		}
	}
	slices.SortFunc(errs, bySubject)
	return errs
}

func (c *change) controllersOf(machineName string) []string {
	for _, m := range c.machines {
		if m.member.Name == machineName {
			return m.seen.Controllers
		}
	}
	return nil
}

// silentMachines are the ones that hold instances of the present commit and cannot be asked.
func (c *change) silentMachines() []*api.Error {
	if c.now.commit == nil {
		return nil
	}
	var errs []*api.Error
	for _, m := range c.machines {
		if m.silent == nil {
			continue
		}
		for _, slot := range c.now.commit.Slots {
			if slot.Machine == m.member.Name {
				errs = append(errs, api.Errorf(api.CodeMachineSilent, "%s runs %s and does not answer: %w", m.member.Name, slot.Name, m.silent).
					About(m.member.Name).Again())
				break
			}
		}
	}
	return errs
}

// tooLarge refuses what the store would not take as one batch, before anything is started for it.
func (c *change) tooLarge(l layout) []*api.Error {
	const fixed = 6 // head, commit, namespace id, route, lease, and lineage or a promoted branch's head
	writes := fixed + len(c.claims) + len(l.retired()) + len(l.machines()) + len(l.sets) + len(l.swapped()) + len(l.unasked) + len(c.values)
	for _, p := range l.places {
		if !p.keep {
			writes++
		}
	}
	if writes > store.MaxBatch {
		return []*api.Error{api.Errorf(api.CodeSpecInvalid, "it makes, takes away and stores so much that its commit has %d writes, the most is %d", writes, store.MaxBatch).
			About(c.ns).WithHint("change fewer services at a time")}
	}
	configs := 0
	for _, config := range c.next.spec.Configs {
		configs += len(config.Content)
	}
	if configs > maxConfigBytes {
		return []*api.Error{api.Errorf(api.CodeSpecInvalid, "the configs have %d bytes together, the most is %d", configs, maxConfigBytes).
			About("configs").WithHint("put large files into an image")}
	}
	return nil
}

// maxConfigBytes leaves room for the rest of a commit, and for base64, inside one fact.
const maxConfigBytes = store.MaxValueBytes / 2

func bySubject(a, b *api.Error) int {
	return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Message, b.Message))
}
