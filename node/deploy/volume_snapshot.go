package deploy

import (
	"context"
	"regexp"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
)

// operatorHold is the tag of snapshots that operators took.
const operatorHold = "operator"

// clonePrefix begins the names of the snapshots that clones take for themselves; the clone's ID follows.
const clonePrefix = "clone-"

// reservedSnapshot are names that operations give: a commit's, which it takes anew where it finds one, and a clone's.
var reservedSnapshot = regexp.MustCompile(`^(c[0-9]+|` + clonePrefix + `.*)$`)

// SnapshotVolume takes a snapshot of a live data set, and holds it until an operator takes it away.
type SnapshotVolume struct {
	volumeChange
	request api.VolumeSnapshotRequest
	// has is the snapshot of that name that there is, or nil.
	has *storage.Snapshot
}

// NewSnapshotVolume prepares it.
func NewSnapshotVolume(kit Kit, request api.VolumeSnapshotRequest) *SnapshotVolume {
	return &SnapshotVolume{volumeChange: volumeChange{change: change{kit: kit, ns: request.Namespace, kind: api.KindVolumeSnapshot}}, request: request}
}

// Inspect implements operation.Operation.
func (s *SnapshotVolume) Inspect(ctx context.Context, before operation.Situation) error {
	if err := storage.CheckName("snapshot", s.request.Snapshot); err != nil {
		return err
	}
	if reservedSnapshot.MatchString(s.request.Snapshot) {
		return api.Errorf(api.CodeVolumeInvalid, "%q is how commits and clones name theirs", s.request.Snapshot).About(s.ns + "/" + s.request.Name).
			WithHint("use another name, such as before-upgrade")
	}
	if err := s.look(ctx, before); err != nil {
		return err
	}
	if err := s.needLive(s.request.Name); err != nil {
		return err
	}
	all, err := s.snapshotsOf(ctx, s.target)
	s.has = named(all, s.request.Snapshot)
	return err
}

// named is the snapshot that has a name, or nil.
func named(all []storage.Snapshot, name string) *storage.Snapshot {
	if at := slices.IndexFunc(all, func(s storage.Snapshot) bool { return s.Name == name }); at >= 0 {
		return &all[at]
	}
	return nil
}

// Plan implements operation.Operation.
func (s *SnapshotVolume) Plan() operation.Plan {
	t, name := s.target, s.request.Snapshot
	change := api.Change{Action: "create", Subject: "snapshot " + t.Name + "@" + name, Machine: t.Machine, Reason: "held until it is taken away with: ployzctl volume snapshot rm " + s.ns + "/" + t.Name + " " + name}
	var steps []operation.Step
	if s.has == nil {
		steps = append(steps, s.take(t, name, operatorHold))
	} else { // else refused below, or an interrupted one took it
		change.Reason = "an operation that did not come to its end took it, at " + when(s.has.Created)
	}
	return s.plan(operation.Plan{
		Requirements: []operation.Requirement{
			operation.Met("the machine that has it answers", s.there(t)),
			operation.Met("no snapshot has that name", s.taken()),
		},
		Changes: []api.Change{change},
		Phases:  []operation.Phase{{Name: "snapshot", Steps: steps}},
		Commit:  s.commitFact(t.ID, t.revision, []string{"snapshot", t.ID, name}, func() api.VolumeFact { return t.VolumeFact }),
	})
}

func (s *SnapshotVolume) taken() *api.Error {
	if s.has == nil || s.repeats() && slices.Contains(s.has.Holds, operatorHold) {
		return nil
	}
	return api.Errorf(api.CodeVolumeSnapshotTaken, "it has a snapshot %s, of %s", s.has.Name, when(s.has.Created)).About(s.ns+"/"+s.target.Name).
		WithHint("use another name, or take that one away first: ployzctl volume snapshot rm %s/%s %s", s.ns, s.target.Name, s.has.Name)
}

// take is the step that takes one snapshot, held by a tag if there is one, and notes what it is.
func (v *volumeChange) take(t *volumeFact, name, tag string) operation.Step {
	step := v.act(t.Machine, Action{Verb: "take-snapshot", Volume: t.ID, Snapshot: name, Tag: tag}, "snapshot "+t.Name)
	take := step.Do
	step.Do = func(ctx context.Context, act *operation.Act) error {
		if err := take(ctx, act); err != nil {
			return err
		}
		all, err := v.snapshotsOf(ctx, t)
		if err != nil {
			return err
		}
		if is := named(all, name); is != nil {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.moments[t.ID] = *is
		}
		return nil
	}
	step.Undo = v.act(t.Machine, Action{Verb: "forget-snapshot", Volume: t.ID, Snapshot: name, Tag: tag}, "").Do
	return step
}

// moment adds to a result which snapshot it is about.
func moment(r api.VolumeResult, s storage.Snapshot) api.VolumeResult {
	r.Snapshot, r.GUID, r.Moment = s.Name, s.GUID, s.Created.UTC()
	return r
}

// Result implements operation.Resulter.
func (s *SnapshotVolume) Result() any {
	if s.has != nil {
		return moment(result(s.target.VolumeFact), *s.has)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return moment(result(s.target.VolumeFact), s.moments[s.target.ID])
}

// RemoveSnapshot takes a snapshot away that nothing else needs: an operator's, or one that no commit holds any more.
type RemoveSnapshot struct {
	volumeChange
	request api.VolumeSnapshotRequest
	has     *storage.Snapshot
}

// NewRemoveSnapshot prepares it.
func NewRemoveSnapshot(kit Kit, request api.VolumeSnapshotRequest) *RemoveSnapshot {
	return &RemoveSnapshot{volumeChange: volumeChange{change: change{kit: kit, ns: request.Namespace, kind: api.KindVolumeSnapshotRemove}}, request: request}
}

// Inspect implements operation.Operation.
func (r *RemoveSnapshot) Inspect(ctx context.Context, before operation.Situation) error {
	if err := r.look(ctx, before); err != nil {
		return err
	}
	if err := r.needAny(r.request.Name); err != nil {
		return err
	}
	all, err := r.snapshotsOf(ctx, r.target)
	r.has = named(all, r.request.Snapshot)
	return err
}

// Plan implements operation.Operation. What cannot be taken back follows the commit.
func (r *RemoveSnapshot) Plan() operation.Plan {
	t, name := r.target, r.request.Snapshot
	change := api.Change{Action: "destroy", Subject: "snapshot " + t.Name + "@" + name, Machine: t.Machine}
	var steps []operation.Step
	if r.has != nil {
		change.Reason = "of " + when(r.has.Created)
		step := r.act(t.Machine, Action{Verb: "forget-snapshot", Volume: t.ID, Snapshot: name, Tag: operatorHold}, "forget snapshot "+name)
		step.Clear = "ployzctl volume snapshot rm " + r.ns + "/" + t.ID + " " + name
		steps = append(steps, step)
	}
	return r.plan(operation.Plan{
		Requirements: []operation.Requirement{
			operation.Met("the machine that has it answers", r.there(t)),
			operation.Met("nothing else needs it", r.needed()),
		},
		Changes: []api.Change{change},
		Commit:  r.commitFact(t.ID, t.revision, []string{"forget", t.ID, name}, func() api.VolumeFact { return t.VolumeFact }),
		Cleanup: steps,
	})
}

// needed refuses what is not there, and what a commit, somebody else or a clone needs.
func (r *RemoveSnapshot) needed() *api.Error {
	if r.has == nil {
		if r.repeats() || r.there(r.target) != nil {
			return nil
		}
		return api.AsError(storage.SnapshotNotFound(r.target.ID, r.request.Snapshot))
	}
	return api.AsError(neededBut(*r.has, operatorHold))
}

// Result implements operation.Resulter.
func (r *RemoveSnapshot) Result() any {
	if r.has == nil {
		return result(r.target.VolumeFact)
	}
	return moment(result(r.target.VolumeFact), *r.has)
}
