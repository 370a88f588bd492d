package deploy

import (
	"context"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// volumeChange is what the operations on volumes by themselves share: volume rm, restore, prune, snapshot, clone and
// create. They hold the namespace's scope as a deploy does, so that neither sees the other half done, and they leave
// the release as it is: no commit of the namespace is made, only facts of data sets change.
//
// What one of them left that did not come to its end, the next one clears, and a deploy does too: a data set's name is
// in the pool what its fact says.
type volumeChange struct {
	change
	// target is the data set in question; nil where the operation makes one.
	target *volumeFact
}

// look reads the facts and asks the machines what they keep.
func (v *volumeChange) look(ctx context.Context, before operation.Situation) (err error) {
	if err := v.inspect(ctx, before); err != nil {
		return err
	}
	if v.volumes, err = readVolumes(ctx, v.kit.Facts, v.ns); err == nil {
		v.inspectPools(ctx)
	}
	return err
}

// unended are the operations of the namespace that did not come to their end, newest first.
func (c *change) unended() []operation.Unfinished {
	if c.unfinished == nil {
		return nil
	}
	return append([]operation.Unfinished{*c.unfinished}, c.earlier...)
}

// resolves reports whether all that is unfinished here are operations on volumes. What a deploy left is more than
// volumes, and instances of it may use those: a deploy, or its resolving, clears that.
func (v *volumeChange) resolves() bool {
	return !slices.ContainsFunc(v.unended(), func(u operation.Unfinished) bool { return !strings.HasPrefix(u.Kind, "volume.") })
}

// again reports whether an unfinished operation wrote a fact: what is asked for may be done already.
func (v *volumeChange) again(fact *volumeFact) bool {
	return fact != nil && slices.ContainsFunc(v.unended(), func(u operation.Unfinished) bool { return u.Operation == fact.Operation })
}

// repeats reports whether the last unfinished operation is of this kind.
func (v *volumeChange) repeats() bool { return v.unfinished != nil && v.unfinished.Kind == v.kind }

// seenIn is what the pool of a machine says of a data set, or nil.
func (c *change) seenIn(machineName, id string) *storage.Volume {
	m := c.candidate(machineName)
	if m == nil {
		return nil
	}
	at := slices.IndexFunc(m.stored.Volumes, func(v storage.Volume) bool { return v.ID == id })
	if at < 0 {
		return nil
	}
	return &m.stored.Volumes[at]
}

// plan adds the clearing to what an operation does of its own.
func (v *volumeChange) plan(p operation.Plan) operation.Plan {
	if p.Resolves = v.resolves(); !p.Resolves {
		return p
	}
	l := layout{strayVolumes: slices.DeleteFunc(v.strayVolumes(), func(s strayVolume) bool { return v.target != nil && s.volume.ID == v.target.ID })}
	p.Changes = append(p.Changes, v.volumeChanges(l)...)
	steps := v.clearVolumes(l)
	for _, lost := range v.lost() {
		step := v.act(lost.Machine, Action{Verb: "restore-volume", Volume: lost.ID}, "restore volume "+lost.Name)
		step.Undo = v.act(lost.Machine, Action{Verb: "retire-volume", Volume: lost.ID}, "").Do
		steps = append(steps, step)
		p.Changes = append(p.Changes, api.Change{Action: "restore", Subject: "volume " + lost.Name, Machine: lost.Machine, Reason: "it lost its name to an operation that did not come to its end"})
	}
	p.Phases = append([]operation.Phase{{Name: "clear leftovers", Steps: steps}}, p.Phases...)
	p.Cleanup = append(p.Cleanup, v.dropVolumes(l)...)
	return p
}

// lost are live data sets, other than the one in question, whose name was taken from them without a commit.
func (v *volumeChange) lost() (list []volumeFact) {
	for _, fact := range v.volumes {
		seen := v.seenIn(fact.Machine, fact.ID)
		mine := v.target != nil && fact.ID == v.target.ID
		if !mine && fact.State == api.VolumeLive && seen != nil && seen.State == storage.StateKept {
			list = append(list, fact)
		}
	}
	return list
}

// commitFact is the commit that writes one data set's fact and nothing else. next is called once all steps are done;
// content is what the plan's digest covers.
func (v *volumeChange) commitFact(id string, expect store.Revision, content any, next func() api.VolumeFact) operation.Commit {
	key := store.Volume(v.ns, id)
	return operation.Commit{
		Witness: key, Expect: expect, Content: content,
		Batch: func(op string) ([]store.Put, error) {
			fact := next()
			fact.Operation = op
			put, err := encode(key, fact, store.Expect(expect))
			return []store.Put{put}, err
		},
	}
}

// mounters are the services of the present commit that mount a data set, also those that are stopped.
func (c *change) mounters(dataset string) (names []string) {
	volume, slot, _ := strings.Cut(dataset, ".")
	spec := c.presentSpec()
	for name, s := range spec.Services {
		mounts := slices.ContainsFunc(s.Mounts, func(m api.Mount) bool { return m.Volume == volume })
		if mounts && spec.Volumes[volume].PerSlot() == (slot != "") && (slot == "" || c.hasSlot(name, s, slot)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// hasSlot reports whether a slot is the service's, or would be if it were not stopped or ended.
func (c *change) hasSlot(service string, s api.Service, slot string) bool {
	if _, runs := c.now.commit.Slots[slot]; runs {
		return c.now.commit.Slots[slot].Service == service
	}
	return (s.Placement.Zero || s.Job != nil) && (slot == service || strings.HasPrefix(slot, service+"-"))
}

// needLive finds the live data set that has a name. Errors: volume.not-found.
func (v *volumeChange) needLive(name string) error {
	if v.target = v.live(name); v.target != nil {
		return nil
	}
	err := api.Errorf(api.CodeVolumeNotFound, "the namespace has no live volume %s", name).About(v.ns+"/"+name).
		WithHint("those there are: ployzctl volume ls %s", v.ns)
	if kept := v.lastKept(name); kept != nil {
		err = err.WithHint("one of that name is kept, and gets it back with: ployzctl volume restore %s", kept.ID)
	}
	return err
}

// result is a data set as the operation leaves it.
func result(fact api.VolumeFact) api.VolumeResult {
	return api.VolumeResult{ID: fact.ID, Namespace: fact.Namespace, Name: fact.Name, Machine: fact.Machine, State: fact.State}
}
