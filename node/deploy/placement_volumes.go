package deploy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// datasets are the names of what a slot mounts, each once.
func (p *placement) datasets(slot string, s api.Service) []string {
	var names []string
	for _, m := range s.Mounts {
		names = append(names, datasetName(p.volumes[m.Volume], m.Volume, slot))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// pinnedBy names a data set of the slot that a machine has already.
func (p *placement) pinnedBy(slot string, s api.Service) (name string, pinned bool) {
	for _, name := range p.datasets(slot, s) {
		if _, pinned := p.there[name]; pinned {
			return name, true
		}
	}
	return "", false
}

// nowhereFor says of a slot with data that the way out is where the data is.
func (p *placement) nowhereFor(slot string, s api.Service, reasons []string) *api.Error {
	err := nowhere(slot, reasons)
	if name, pinned := p.pinnedBy(slot, s); pinned {
		err = err.WithHint("its volume %s is on %s: ployzctl machine show %s", name, p.there[name], p.there[name])
	}
	return err
}

// unfitVolumes says why a machine cannot have the volumes of a slot; "" is that it can.
func (p *placement) unfitVolumes(slot string, s api.Service, c candidate) string {
	if len(s.Mounts) == 0 {
		return ""
	}
	for _, name := range p.datasets(slot, s) {
		if at, pinned := p.pins[name]; pinned && at != c.member.Name {
			if p.there[name] == "" {
				return "the volume " + name + ", which it shares, comes to " + at
			}
			return "its volume " + name + " is on " + at
		}
	}
	if c.stored.None != nil {
		return "cannot keep volumes: " + c.stored.None.Message
	}
	for _, m := range s.Mounts {
		v := p.volumes[m.Volume]
		if _, pinned := p.pins[datasetName(v, m.Volume, slot)]; pinned || c.stored.Usage.SizeBytes == 0 {
			continue // it is there; or the pool was not asked
		}
		if free := c.stored.Usage.FreeBytes; v.SizeBytes > free {
			return fmt.Sprintf("its pool has %s free, and the volume %s may hold %s", storage.SizeText(free), m.Volume, storage.SizeText(v.SizeBytes))
		}
	}
	return ""
}

// settle decides, before any slot is placed, where a new volume comes that several services mount: on a machine that
// may take all of them, where most of them are by now.
func (p *placement) settle(spec api.Spec, services []string, had map[string]api.Slot) {
	done := map[string]bool{}
	for _, name := range services {
		group := map[string]bool{}
		p.together(spec, name, group)
		if done[name] || len(group) < 2 {
			continue
		}
		maps.Copy(done, group)
		best, most := -1, -1
		for i, m := range p.machines {
			if held := heldOf(group, m, had); p.takesAll(spec, group, m) && (held > most || held == most && p.lessLoaded(name, m, p.machines[best])) {
				best, most = i, held
			}
		}
		if best >= 0 { // else the slots say what is against each machine
			for _, volume := range p.shared(spec, group) {
				p.pins[volume] = p.machines[best].member.Name
			}
		}
	}
}

// together collects a service and those that share a volume without a machine with it, or with one of them.
func (p *placement) together(spec api.Spec, name string, group map[string]bool) {
	group[name] = true
	for _, m := range spec.Services[name].Mounts {
		if _, pinned := p.pins[m.Volume]; pinned || p.volumes[m.Volume].PerSlot() {
			continue
		}
		for other, s := range spec.Services {
			if !group[other] && slices.ContainsFunc(s.Mounts, func(o api.Mount) bool { return o.Volume == m.Volume }) {
				p.together(spec, other, group)
			}
		}
	}
}

// shared are the volumes of a group that have no machine yet.
func (p *placement) shared(spec api.Spec, group map[string]bool) (names []string) {
	for name := range group {
		for _, m := range spec.Services[name].Mounts {
			if _, pinned := p.pins[m.Volume]; !pinned && !p.volumes[m.Volume].PerSlot() {
				names = append(names, m.Volume)
			}
		}
	}
	return names
}

func (p *placement) takesAll(spec api.Spec, group map[string]bool, c candidate) bool {
	for name := range group {
		for _, slot := range slotNames(name, spec.Services[name]) {
			if p.unfit(slot, name, spec.Services[name], c) != "" {
				return false
			}
		}
	}
	return true
}

func heldOf(group map[string]bool, c candidate, had map[string]api.Slot) (n int) {
	for _, slot := range had {
		if group[slot.Service] && slot.Machine == c.member.Name {
			n++
		}
	}
	return n
}

// spread refuses a service that is to run on every machine and mounts a volume that is on one.
func (p *placement) spread(name string, s api.Service) *api.Error {
	var takers []string
	for _, c := range p.machines {
		if p.unfitBesides(name, s, c) == "" {
			takers = append(takers, c.member.Name)
		}
	}
	for _, m := range s.Mounts {
		if !p.volumes[m.Volume].PerSlot() && len(takers) > 1 {
			return api.Errorf(api.CodeVolumeSpread, "it would run on %d machines, and its volume %s is on one", len(takers), m.Volume).
				About("services." + name).WithHint("give the volume x-ployz.scope: slot, one for each instance, or name one machine in x-ployz.placement.machines")
		}
	}
	return nil
}
