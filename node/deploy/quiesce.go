package deploy

import (
	"maps"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
)

// Who writes a volume and is not replaced goes on while it is snapshot. Whether it holds still for that moment, and
// how, is its service's to say (api.Quiesce). Freezing, and commands inside, are part of the machine's snapshot; a stop
// and the start after it are steps of their own, which an interrupted operation leaves to be cleared like any other.

// quiescer is an instance that goes on, and how it holds still.
type quiescer struct {
	QuiesceInstance
	slot api.Slot
}

// quiesceOf are the instances, among slots of a spec, that write one of the data sets of a machine and do anything for
// a snapshot of them. oneMoment says that the machine's pool takes all of them in one moment.
func quiesceOf(spec api.Spec, slots []api.Slot, machineName string, sets []string, oneMoment bool) []quiescer {
	var all []quiescer
	for _, slot := range slots {
		written := writes(spec, slot.Service, slot.Name)
		if slot.Machine != machineName || !slices.ContainsFunc(sets, func(name string) bool { return written[name] }) {
			continue
		}
		asked := api.Quiesce{}
		if q := spec.Services[slot.Service].Quiesce; q != nil {
			asked = *q
		}
		q := quiescer{slot: slot, QuiesceInstance: QuiesceInstance{
			Instance: slot.Instance, Mode: asked.Mode, Before: asked.Before, After: asked.After, Timeout: asked.Timeout,
		}}
		if q.Mode == "" {
			q.Mode = api.QuiesceNone
			if q.commands() || len(sets) > 1 && !oneMoment {
				q.Mode = api.QuiesceFreeze
			}
		}
		if q.Mode != api.QuiesceNone || q.commands() {
			all = append(all, q)
		}
	}
	return all
}

func (q quiescer) commands() bool { return len(q.Before)+len(q.After) > 0 }

// how says it in the preview's words.
func (q quiescer) how() string {
	if q.Mode == api.QuiesceStop {
		return "it stops while its volumes are snapshot, and starts again"
	}
	text := "it stands still while its volumes are snapshot"
	if q.Mode == api.QuiesceNone {
		text = "it goes on writing while its volumes are snapshot"
	}
	for _, c := range []struct {
		when    string
		command []string
	}{{"before", q.Before}, {"after", q.After}} {
		if len(c.command) > 0 {
			text += "; " + c.when + " that it runs: " + strings.Join(c.command, " ")
		}
	}
	return text
}

// stops are the ones that stop, and orders what the machine does about the others.
func stops(all []quiescer) (stop []quiescer, orders []QuiesceInstance) {
	for _, q := range all {
		if q.Mode == api.QuiesceStop {
			stop = append(stop, q)
		} else {
			orders = append(orders, q.QuiesceInstance)
		}
	}
	return stop, orders
}

// quiescers are the instances that do anything for the commit's snapshots, by machine: those that stay, and those that
// go only after the commit.
func (c *change) quiescers(l layout) map[string][]quiescer {
	var stay, leave []api.Slot
	for _, p := range l.places {
		if p.keep {
			stay = append(stay, p.old)
		}
	}
	stopped := c.oldWriters(l)
	for _, slot := range l.retired() {
		if stopped[slot.Instance] == "" && c.stateOf(slot) == runtime.StateRunning {
			leave = append(leave, slot)
		}
	}
	by := map[string][]quiescer{}
	for machineName, sets := range c.toSnapshot(l) {
		var names []string
		for _, d := range sets {
			names = append(names, d.name)
		}
		oneMoment := c.candidate(machineName).stored.OneMoment
		all := append(quiesceOf(c.next.spec, stay, machineName, names, oneMoment), quiesceOf(c.presentSpec(), leave, machineName, names, oneMoment)...)
		if len(all) > 0 {
			by[machineName] = all
		}
	}
	return by
}

// quiesceChanges are the preview's lines about who holds still.
func (c *change) quiesceChanges(l layout) []api.Change {
	var list []api.Change
	by := c.quiescers(l)
	for _, machineName := range slices.Sorted(maps.Keys(by)) {
		for _, q := range by[machineName] {
			list = append(list, api.Change{Action: "quiesce", Subject: q.slot.Name, Machine: machineName, Reason: q.how()})
		}
	}
	by = c.originQuiescers(l)
	for _, machineName := range slices.Sorted(maps.Keys(by)) {
		for _, q := range by[machineName] {
			list = append(list, api.Change{Action: "quiesce", Subject: c.beginsAs.Namespace + "/" + q.slot.Name, Machine: machineName, Reason: q.how()})
		}
	}
	return list
}

// snapshotPhases take the commit's snapshots. What is to be stopped for them is stopped before, and started and waited for
// after.
func (c *change) snapshotPhases(l layout) []operation.Phase {
	return c.snapshotPhasesBeside(l, operation.Phase{Name: "snapshot"})
}

// snapshotPhasesBeside takes them beside the steps of another phase.
func (c *change) snapshotPhasesBeside(l layout, with operation.Phase) []operation.Phase {
	var stop, start, ready []operation.Step
	for _, q := range c.stopped(l) {
		step := c.stopOld(q.slot)
		step.Name = "stop " + q.slot.Name + " for the snapshot"
		stop = append(stop, step)
		start = append(start, c.act(q.slot.Machine, Action{Verb: "start", Instance: q.Instance}, "start "+q.slot.Name+" again"))
		ready = append(ready, c.await(place{slot: q.slot.Name, service: q.slot.Service, machine: q.slot.Machine, spec: c.observed(q.slot)}))
	}
	return []operation.Phase{
		{Name: "hold still", Steps: stop, Width: width},
		{Name: with.Name, Steps: append(with.Steps, c.snapshotSteps(l)...), Width: width},
		{Name: "go on", Steps: start, Width: width},
		{Name: "ready again", Steps: ready, Width: len(ready)},
	}
}

// stopped are those of the machines' quiescers that stop.
func (c *change) stopped(l layout) []quiescer {
	var all []quiescer
	by := c.quiescers(l)
	for _, machineName := range slices.Sorted(maps.Keys(by)) {
		stop, _ := stops(by[machineName])
		all = append(all, stop...)
	}
	return all
}

// observed is the spec of a slot's instance as its machine has it.
func (c *change) observed(slot api.Slot) runtime.Spec {
	for _, o := range c.candidate(slot.Machine).seen.Instances {
		if o.ID == slot.Instance {
			return o.Spec
		}
	}
	return runtime.Spec{}
}

// originQuiescers are the instances of another namespace that do anything for the snapshots of what the operation's
// data sets begin as, by machine. Nothing of it stops.
func (c *change) originQuiescers(l layout) map[string][]quiescer {
	on := map[string][]string{}
	for _, d := range l.sets {
		if d.back != nil && d.back.fresh {
			on[d.machine] = append(on[d.machine], d.back.of.Name)
		}
	}
	var slots []api.Slot
	for _, name := range slices.Sorted(maps.Keys(c.beginsAs.Slots)) {
		slots = append(slots, c.beginsAs.Slots[name])
	}
	by := map[string][]quiescer{}
	for machineName, sets := range on {
		m := c.candidate(machineName)
		if m == nil {
			continue // a requirement says so
		}
		all := quiesceOf(c.beginsAs.Spec, slots, machineName, sets, m.stored.OneMoment)
		for i := range all {
			if all[i].Mode == api.QuiesceStop {
				all[i].Mode = api.QuiesceFreeze
			}
		}
		if len(all) > 0 {
			by[machineName] = all
		}
	}
	return by
}
