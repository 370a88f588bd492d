package deploy

import (
	"context"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
)

// CloneVolume makes a live data set that begins as a snapshot of another, on the same machine, in a time that does not
// depend on the size of the data.
type CloneVolume struct {
	volumeChange
	request api.VolumeCloneRequest
	// made is the fact of the clone, where there is one to finish.
	made  *volumeFact
	clone storage.Volume // guarded by mu
}

// NewCloneVolume prepares it.
func NewCloneVolume(kit Kit, request api.VolumeCloneRequest) *CloneVolume {
	return &CloneVolume{volumeChange: volumeChange{change: change{kit: kit, ns: request.Namespace, kind: api.KindVolumeClone}}, request: request}
}

// Inspect implements operation.Operation.
func (c *CloneVolume) Inspect(ctx context.Context, before operation.Situation) error {
	if err := checkVolumeName(c.request.As, ""); err != nil {
		return err
	}
	if err := c.look(ctx, before); err != nil {
		return err
	}
	if err := c.needAny(c.request.Name); err != nil {
		return err
	}
	all, err := c.snapshotsOf(ctx, c.target)
	if err != nil {
		return err
	}
	c.findMade(all)
	if c.request.Snapshot != "" && named(all, c.request.Snapshot) == nil && c.there(c.target) == nil {
		return storage.SnapshotNotFound(c.target.ID, c.request.Snapshot)
	}
	return nil
}

// findMade finds the very clone, where an operation committed it and did not come to its end, or left its snapshot.
func (c *CloneVolume) findMade(all []storage.Snapshot) {
	made := c.live(c.request.As)
	if made == nil || made.Origin == nil || made.Origin.Volume != c.target.ID {
		return
	}
	own := named(all, clonePrefix+made.ID)
	left := c.request.Snapshot == "" && own != nil && len(own.Holds)+len(own.Clones) == 0
	if left || c.again(made) {
		c.made = made
	}
}

// checkVolumeName refuses what a spec could not call a volume, or a slot. slot may be "". Errors: volume.invalid.
func checkVolumeName(volume, slot string) error {
	if volumeShape.MatchString(volume) && (slot == "" || volumeShape.MatchString(slot)) {
		return nil
	}
	name := volume
	if slot != "" {
		name += "." + slot
	}
	return api.Errorf(api.CodeVolumeInvalid, "%q cannot be a volume's name: letters, digits, - and _ between them, at most 48", name).About(name).
		WithHint("for example data, or, of scope slot, data.db-0")
}

// Plan implements operation.Operation.
func (c *CloneVolume) Plan() operation.Plan {
	t := c.target
	change := api.Change{
		Action: "create", Subject: "volume " + c.request.As, Machine: t.Machine, To: sizeLimit(t.SizeBytes),
		Reason: "begins as " + t.Name + " is now",
	}
	if c.request.Snapshot != "" {
		change.Reason = "begins as " + t.Name + "@" + c.request.Snapshot
	}
	id := c.id()
	plan := operation.Plan{
		Requirements: []operation.Requirement{
			operation.Met("the name is free", c.nameTaken(c.request.As, c.made)),
			operation.Met("its scope is what the namespace asks for", c.scopeProblem(c.request.As, "")),
			operation.Met("the machine that has it answers", c.there(t)),
		},
		Changes: []api.Change{change},
	}
	if c.made != nil {
		plan.Changes[0].Reason = "it was made by an operation that did not come to its end"
		plan.Commit = c.commitFact(id, c.made.revision, c.content(), func() api.VolumeFact { return c.made.VolumeFact })
	} else {
		plan.Phases = c.phases(id)
		plan.Commit = c.commitFact(id, 0, c.content(), func() api.VolumeFact { return c.fact(id) })
	}
	if c.request.Snapshot == "" {
		plan.Cleanup = append(plan.Cleanup, c.forgetOwn(id))
	}
	return c.plan(plan)
}

func (c *CloneVolume) content() []string {
	return []string{"clone", c.target.ID, c.request.Snapshot, c.request.As}
}

func (c *CloneVolume) id() string {
	if c.made != nil {
		return c.made.ID
	}
	return volumeID(c.operation, c.ns, c.request.As)
}

// phases take the snapshot, if none was named, and make the clone.
func (c *CloneVolume) phases(id string) []operation.Phase {
	t := c.target
	var before []operation.Step
	if c.request.Snapshot == "" {
		before = append(before, c.take(t, clonePrefix+id, ""))
	}
	spec := storageSpec(c.ns, c.request.As, api.Volume{SizeBytes: t.SizeBytes, Owner: t.Owner, Mode: t.Mode})
	spec.ID = id
	order := CloneOrder{Volume: t.ID, Snapshot: c.request.Snapshot, As: spec}
	if order.Snapshot == "" {
		order.Snapshot = clonePrefix + id
	}
	step := operation.Step{
		Name: "clone volume " + c.request.As, Participant: t.Machine, Clear: "ployzctl operation resolve " + c.operation,
		Do: func(ctx context.Context, act *operation.Act) error {
			m, err := c.kit.Participants.Participant(ctx, t.Machine)
			if err != nil {
				return err
			}
			made, err := m.CloneVolume(ctx, fenced(act), order)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.clone = made
			return err
		},
		Undo: c.act(t.Machine, Action{Verb: "destroy-volume", Volume: id, Maker: c.operation}, "").Do,
	}
	return []operation.Phase{{Name: "snapshot", Steps: before}, {Name: "clone", Steps: []operation.Step{step}}}
}

// forgetOwn takes the clone's own snapshot away where the clone does not depend on it: it would only keep blocks that
// the origin gives up.
func (c *CloneVolume) forgetOwn(id string) operation.Step {
	step := c.forgetUnneeded(c.target.Machine, c.target.ID, clonePrefix+id)
	step.Name = "forget the clone's snapshot"
	return step
}

// fact is the clone's: what its origin is, with another name and its lineage.
func (c *CloneVolume) fact(id string) api.VolumeFact {
	c.mu.Lock()
	defer c.mu.Unlock()
	fact := c.target.VolumeFact
	fact.ID, fact.Name, fact.Scope, fact.State = id, c.request.As, "", api.VolumeLive
	fact.Created, fact.Kept, fact.KeptBy = c.kit.Now().UTC(), time.Time{}, ""
	fact.Origin, fact.Copies = nil, nil
	if o := c.clone.Origin; o != nil {
		fact.Origin = &api.VolumeOrigin{Volume: o.Volume, Snapshot: o.Snapshot, GUID: o.GUID}
	}
	return fact
}

// nameTaken refuses a name that another live data set has than the one that is made.
func (v *volumeChange) nameTaken(name string, made *volumeFact) *api.Error {
	other := v.live(name)
	if other == nil || made != nil && other.ID == made.ID {
		return nil
	}
	return api.AsError(storage.NameTaken(storage.Spec{ID: other.ID, Namespace: v.ns, Name: other.Name}))
}

// Result implements operation.Resulter.
func (c *CloneVolume) Result() any {
	fact := c.fact(c.id())
	if c.made != nil {
		fact = c.made.VolumeFact
	}
	is := result(fact)
	if fact.Origin != nil {
		is.Snapshot, is.GUID = fact.Origin.Snapshot, fact.Origin.GUID
	}
	return is
}
