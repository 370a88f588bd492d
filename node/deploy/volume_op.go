package deploy

import (
	"context"
	"maps"
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
	// spared is the ID of one whose name this operation itself takes or gives.
	spared string
	// cloned are the snapshots that unfinished clones took for themselves, by machine.
	cloned map[string][]storage.Snapshot
}

// look reads the facts and asks the machines what they keep.
func (v *volumeChange) look(ctx context.Context, before operation.Situation) (err error) {
	if err := v.inspect(ctx, before); err != nil {
		return err
	}
	if v.volumes, err = readVolumes(ctx, v.kit.Facts, v.ns); err != nil {
		return err
	}
	v.inspectPools(ctx)
	v.inspectAbandoned(ctx)
	if slices.ContainsFunc(v.unended(), func(u operation.Unfinished) bool { return u.Kind == api.KindVolumeClone }) {
		v.inspectCloned(ctx)
	}
	return nil
}

// inspectCloned finds what interrupted clones may have left beside volumes. A pool that does not say is left alone.
func (v *volumeChange) inspectCloned(ctx context.Context) {
	v.cloned = map[string][]storage.Snapshot{}
	for _, m := range v.machines {
		var ids []string
		for _, is := range m.stored.Volumes {
			ids = append(ids, is.ID)
		}
		p, err := v.kit.Participants.Participant(ctx, m.member.Name)
		if err != nil || len(ids) == 0 {
			continue
		}
		all, err := p.ListSnapshots(ctx, ids)
		for _, id := range ids {
			for _, s := range all[id] {
				if err == nil && strings.HasPrefix(s.Name, clonePrefix) {
					v.cloned[m.member.Name] = append(v.cloned[m.member.Name], s)
				}
			}
		}
	}
}

// snapshotsOf are the snapshots of a data set now; none while its machine cannot be asked, which is refused elsewhere.
func (v *volumeChange) snapshotsOf(ctx context.Context, t *volumeFact) ([]storage.Snapshot, error) {
	if v.unreachable(t.Machine) != nil {
		return nil, nil
	}
	all, err := v.snapshotsOn(ctx, t.Machine, []string{t.ID})
	return all[t.ID], err
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

// plan adds the clearing to what an operation does of its own.
func (v *volumeChange) plan(p operation.Plan) operation.Plan {
	if p.Resolves = v.resolves(); !p.Resolves {
		return p
	}
	l := layout{strayVolumes: slices.DeleteFunc(v.strayVolumes(), func(s strayVolume) bool { return s.volume.ID == v.spared })}
	p.Changes = append(p.Changes, v.volumeChanges(l)...)
	steps := v.clearVolumes(l)
	for _, lost := range v.lost() {
		steps = append(steps, v.restoreVolume(lost.Machine, lost.ID, lost.Name))
		p.Changes = append(p.Changes, api.Change{Action: "restore", Subject: "volume " + lost.Name, Machine: lost.Machine, Reason: "it lost its name to an operation that did not come to its end"})
	}
	p.Phases = append([]operation.Phase{{Name: "clear leftovers", Steps: steps}}, p.Phases...)
	p.Cleanup = append(append(p.Cleanup, v.dropVolumes(l)...), v.forgetAbandoned()...)
	for _, name := range slices.Sorted(maps.Keys(v.cloned)) {
		p.Cleanup = append(p.Cleanup, v.forgetCloned(name, v.cloned[name]))
	}
	return p
}

// forgetCloned takes away what clones no longer need, each with a step name of its own (see allAtOnce).
func (v *volumeChange) forgetCloned(machineName string, list []storage.Snapshot) operation.Step {
	var each []operation.Step
	for _, s := range list {
		each = append(each, v.forgetUnneeded(machineName, s.Volume, s.Name))
	}
	return operation.Step{
		Name: "forget the snapshots of clones", Participant: machineName, Clear: each[0].Clear,
		Do: func(ctx context.Context, act *operation.Act) error { return allAtOnce(ctx, act, each) },
	}
}

// forgetUnneeded takes a clone's snapshot away unless the clone depends on it, or somebody holds it by now.
func (v *volumeChange) forgetUnneeded(machineName, id, snapshot string) operation.Step {
	step := v.act(machineName, Action{Verb: "forget-snapshot", Volume: id, Snapshot: snapshot}, "forget "+id+"@"+snapshot)
	step.Clear = "ployzctl volume snapshot rm " + v.ns + "/" + id + " " + snapshot
	forget := step.Do
	step.Do = func(ctx context.Context, act *operation.Act) error {
		err := forget(ctx, act)
		if api.CodeOf(err) == api.CodeVolumeSnapshotNeeded {
			return nil
		}
		return err
	}
	return step
}

// lost are live data sets, other than a spared one, whose name was taken from them without a commit.
func (v *volumeChange) lost() (list []volumeFact) {
	for _, fact := range v.volumes {
		seen := v.inPool(fact.Machine, fact.ID)
		if fact.ID != v.spared && fact.State == api.VolumeLive && seen != nil && seen.State == storage.StateKept {
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

// needAny finds the data set that has a name, or a kept one by its ID. Errors: volume.not-found.
func (v *volumeChange) needAny(nameOrID string) error {
	if v.target = v.volumeByID(nameOrID); v.target != nil {
		return nil
	}
	return v.needLive(nameOrID)
}

// there refuses a data set that its machine's pool cannot be asked about, or does not have.
func (v *volumeChange) there(t *volumeFact) *api.Error {
	if err := v.unreachable(t.Machine); err != nil {
		return err
	}
	if v.inPool(t.Machine, t.ID) == nil {
		return api.AsError(storage.NotFound("the pool of "+t.Machine, t.ID))
	}
	return nil
}

// result is a data set as the operation leaves it.
func result(fact api.VolumeFact) api.VolumeResult {
	return api.VolumeResult{ID: fact.ID, Namespace: fact.Namespace, Name: fact.Name, Machine: fact.Machine, State: fact.State}
}
