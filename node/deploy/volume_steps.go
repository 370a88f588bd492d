package deploy

import (
	"context"
	"maps"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/storage"
)

// volumeSteps make, restore and resize the data sets, on their machines.
func (c *change) volumeSteps(l layout) []operation.Step {
	var steps []operation.Step
	for _, d := range l.sets {
		if d.from != "" {
			continue // it is handed over later
		}
		if d.back != nil {
			steps = append(steps, c.presentSteps(d)...)
			continue
		}
		if !l.needs(d) {
			continue
		}
		if d.action() == "restore" {
			steps = append(steps, c.restoreVolume(d.machine, d.spec.ID, d.name))
		}
		steps = append(steps, c.volumeStep(d))
	}
	return steps
}

// restoreVolume gives a data set its name back; its undo takes it again.
func (c *change) restoreVolume(machineName, id, name string) operation.Step {
	step := c.act(machineName, Action{Verb: "restore-volume", Volume: id}, "restore volume "+name)
	step.Undo = c.act(machineName, Action{Verb: "retire-volume", Volume: id}, "").Do
	return step
}

// needs reports whether a data set's machine has anything to do for it: also one that stays as it is has to be mounted
// there before an instance starts.
func (l layout) needs(d dataset) bool {
	if d.action() != "keep" {
		return true
	}
	return slices.ContainsFunc(l.starting(), func(p place) bool {
		return slices.ContainsFunc(p.spec.Mounts, func(m runtime.Mount) bool { return m.Volume == d.spec.ID })
	})
}

// starting are all instances that the change makes, jobs among them.
func (l layout) starting() []place {
	all := slices.Concat(l.places, l.early(), l.jobList("after"))
	return slices.DeleteFunc(all, func(p place) bool { return p.keep })
}

func (c *change) volumeStep(d dataset) operation.Step {
	step := operation.Step{
		Name: "volume " + d.name, Participant: d.machine, Clear: "ployzctl operation resolve " + c.operation,
		Do: func(ctx context.Context, act *operation.Act) error {
			return c.ensureVolume(ctx, act, d.machine, d.spec)
		},
	}
	switch {
	case d.was == nil:
		step.Undo = c.act(d.machine, Action{Verb: "destroy-volume", Volume: d.spec.ID, Maker: c.operation}, "").Do
	case d.changes():
		step.Undo = func(ctx context.Context, act *operation.Act) error {
			err := c.ensureVolume(ctx, act, d.machine, d.formerly())
			if api.CodeOf(err) == api.CodeVolumeShrink { // it was filled beyond that meanwhile, and more is no harm
				act.Note("the volume " + d.name + " keeps the size it was given: it holds more than the former one allows")
				return nil
			}
			return err
		}
	}
	return step
}

func (c *change) ensureVolume(ctx context.Context, act *operation.Act, machineName string, spec storage.Spec) error {
	m, err := c.kit.Participants.Participant(ctx, machineName)
	if err != nil {
		return err
	}
	_, err = m.EnsureVolume(ctx, fenced(act), spec)
	return err
}

// clearVolumes take the names of what operations left behind that did not come to their end. It is only kept, not
// destroyed: as long as this operation has not committed, one of those might still.
func (c *change) clearVolumes(l layout) []operation.Step {
	var steps []operation.Step
	for _, s := range l.strayVolumes {
		if s.volume.State == storage.StateLive {
			step := c.act(s.machine, Action{Verb: "retire-volume", Volume: s.volume.ID}, "clear volume "+s.volume.ID)
			step.Undo = c.act(s.machine, Action{Verb: "restore-volume", Volume: s.volume.ID}, "").Do
			steps = append(steps, step)
		}
	}
	return steps
}

// dropVolumes follow the commit, after which no other operation can commit what it made before: that is destroyed. What
// is no longer asked for loses its name and is kept.
func (c *change) dropVolumes(l layout) []operation.Step {
	var steps []operation.Step
	for _, v := range l.unasked {
		if m := c.candidate(v.Machine); m != nil && m.silent == nil {
			steps = append(steps, c.act(v.Machine, Action{Verb: "retire-volume", Volume: v.ID}, "retire volume "+v.Name))
		}
	}
	for _, s := range l.strayVolumes {
		if s.maker != "" {
			steps = append(steps, c.act(s.machine, Action{Verb: "destroy-volume", Volume: s.volume.ID, Maker: s.maker}, "destroy volume "+s.volume.ID))
		}
	}
	return append(steps, c.giveOriginsBack(l)...)
}

// snapshotSteps take, of every live data set of a machine, the snapshot that the commit names: the data as the commit
// before it leaves it, and what a rollback to that one with data gives back. Those who will be replaced have stopped by
// then, and nothing new has started; who goes on running holds still as its service asks, see quiesce.go.
//
// It is taken also where neither instances nor volumes change, as with a new route: data is written all the time, and
// without it a rollback to the commit before could not give back what that one left.
func (c *change) snapshotSteps(l layout) []operation.Step {
	on, quiescers := c.toSnapshot(l), c.quiescers(l)
	name := snapshotName(c.number())
	var steps []operation.Step
	for _, machineName := range slices.Sorted(maps.Keys(on)) {
		order := SnapshotOrder{Name: name, Tag: commitHold}
		for _, d := range on[machineName] {
			id, _ := d.toSnapshot()
			order.Volumes = append(order.Volumes, id)
		}
		_, order.Quiesce = stops(quiescers[machineName])
		steps = append(steps, operation.Step{
			Name: "snapshot " + name, Participant: machineName, Clear: "ployzctl operation resolve " + c.operation,
			Do: func(ctx context.Context, act *operation.Act) error {
				return c.takeSnapshots(ctx, act, machineName, order, c.moments)
			},
			Undo: c.act(machineName, Action{Verb: "forget-snapshots", Volumes: order.Volumes, Snapshot: name, Tag: commitHold}, "").Do,
		})
	}
	return steps
}

// toSnapshot are the data sets that the commit's snapshots are taken of, by machine. What moves has them carried.
func (c *change) toSnapshot(l layout) map[string][]dataset {
	on := map[string][]dataset{}
	for _, d := range l.sets {
		_, there := d.toSnapshot()
		if m := c.candidate(d.machine); there && d.from == "" && m != nil && m.silent == nil {
			on[d.machine] = append(on[d.machine], d)
		}
	}
	return on
}

// takeSnapshots has a machine take an order's snapshots, and notes them by data set id.
func (c *change) takeSnapshots(ctx context.Context, act *operation.Act, machineName string, order SnapshotOrder, taken map[string]storage.Snapshot) error {
	m, err := c.kit.Participants.Participant(ctx, machineName)
	if err != nil {
		return err
	}
	all, err := m.SnapshotVolumes(ctx, fenced(act), order)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range all {
		taken[s.Volume] = s
	}
	return err
}

// writerSteps stop the old instances that write what a new one will write.
func (c *change) writerSteps(l layout) []operation.Step {
	writers := c.oldWriters(l)
	var steps []operation.Step
	for _, old := range l.retired() {
		if writers[old.Instance] != "" {
			steps = append(steps, c.stopOld(old))
		}
	}
	return steps
}
