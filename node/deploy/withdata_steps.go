package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
)

// presentSteps give a data set that is to be swapped out its name back, where an operation that was interrupted took it.
func (c *change) presentSteps(d dataset) []operation.Step {
	if d.out == nil || d.outSeen == nil || d.outSeen.State != storage.StateKept {
		return nil
	}
	return []operation.Step{c.restoreVolume(d.machine, d.out.ID, d.name)}
}

// cloneSteps make what comes back. Nobody has a name for it yet where another has the volume's.
func (c *change) cloneSteps(l layout) []operation.Step {
	var steps []operation.Step
	for _, d := range l.sets {
		if d.back == nil {
			continue
		}
		steps = append(steps, operation.Step{
			Name: "clone volume " + d.name, Participant: d.machine, Clear: "ployzctl operation resolve " + c.operation,
			Do:   func(ctx context.Context, act *operation.Act) error { return c.clone(ctx, act, d) },
			Undo: c.act(d.machine, Action{Verb: "destroy-volume", Volume: d.spec.ID, Maker: c.operation}, "").Do,
		})
	}
	return steps
}

// clone makes a data set of the snapshot that was planned with; one of that name with another GUID is another moment.
func (c *change) clone(ctx context.Context, act *operation.Act, d dataset) error {
	m, err := c.kit.Participants.Participant(ctx, d.machine)
	if err != nil {
		return err
	}
	from := c.origin(*d.back)
	order := CloneOrder{Volume: from.Volume, Snapshot: from.Snapshot, As: d.spec, Kept: d.out != nil}
	v, err := m.CloneVolume(ctx, fenced(act), order)
	if err == nil && (v.Origin == nil || *v.Origin != from) {
		return storage.SnapshotNotFound(from.Volume, from.Snapshot+" ("+from.GUID+")")
	}
	return err
}

// swapSteps let what comes back take its name. Nobody has either open: all who mount the name have stopped, and none
// of the new has started.
func (c *change) swapSteps(l layout) []operation.Step {
	var steps []operation.Step
	for _, d := range l.sets {
		if d.out == nil {
			continue
		}
		step := c.act(d.machine, Action{Verb: "swap-volume", Volume: d.spec.ID, Out: d.out.ID}, "swap volume "+d.name)
		step.Undo = c.act(d.machine, Action{Verb: "swap-back-volume", Volume: d.spec.ID, Out: d.out.ID}, "").Do
		steps = append(steps, step)
	}
	return steps
}

// originOf is the lineage of a data set that a change makes; nil for one that begins empty.
func (c *change) originOf(d dataset) *api.VolumeOrigin {
	if d.back == nil {
		return nil
	}
	o := api.VolumeOrigin(c.origin(*d.back))
	return &o
}
