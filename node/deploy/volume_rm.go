package deploy

import (
	"context"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
)

// RemoveVolume takes the name from a live data set that nothing mounts, and keeps it.
type RemoveVolume struct {
	volumeChange
	name string
}

// NewRemoveVolume prepares it; name is the data set's, such as "data" or "data.db-0".
func NewRemoveVolume(kit Kit, ns, name string) *RemoveVolume {
	return &RemoveVolume{volumeChange: volumeChange{change: change{kit: kit, ns: ns, kind: api.KindVolumeRemove}}, name: name}
}

// Inspect implements operation.Operation.
func (r *RemoveVolume) Inspect(ctx context.Context, before operation.Situation) error {
	if err := r.look(ctx, before); err != nil {
		return err
	}
	if kept := r.lastKept(r.name); r.live(r.name) == nil && r.again(kept) {
		r.target = kept
	} else if err := r.needLive(r.name); err != nil {
		return err
	}
	r.spared = r.target.ID
	return nil
}

// Plan implements operation.Operation.
func (r *RemoveVolume) Plan() operation.Plan {
	t := r.target
	seen := r.inPool(t.Machine, t.ID)
	change := api.Change{
		Action: "retire", Subject: "volume " + t.Name, Machine: t.Machine, From: sizeLimit(t.SizeBytes),
		Reason: "it is kept, and restored with: ployzctl volume restore " + t.ID,
	}
	var steps []operation.Step
	if seen != nil {
		step := r.act(t.Machine, Action{Verb: "retire-volume", Volume: t.ID}, "retire volume "+t.Name)
		if t.State == api.VolumeLive {
			step.Undo = r.act(t.Machine, Action{Verb: "restore-volume", Volume: t.ID}, "").Do
		}
		steps = append(steps, step)
		change.Reason = "it holds " + storage.SizeText(seen.UsedBytes) + "; " + change.Reason
	}
	return r.plan(operation.Plan{
		Requirements: []operation.Requirement{
			operation.Met("no service mounts it", r.mounted()),
			operation.Met("the machine that has it answers", r.away()),
		},
		Changes: []api.Change{change},
		Phases:  []operation.Phase{{Name: "volume", Steps: steps}},
		Commit: r.commitFact(t.ID, t.revision, []string{"retire", t.ID}, func() api.VolumeFact {
			fact := t.VolumeFact
			fact.State, fact.Kept = api.VolumeKept, r.kit.Now().UTC()
			return fact
		}),
	})
}

// mounted refuses what an instance has, or would have once it is started.
func (r *RemoveVolume) mounted() *api.Error {
	services := r.mounters(r.target.Name)
	if len(services) == 0 {
		return nil
	}
	return api.Errorf(api.CodeVolumeInUse, "the present commit's %s mount it", strings.Join(services, ", ")).About(r.ns+"/"+r.target.Name).
		WithHint("deploy a spec in which nothing mounts it, which keeps it too: ployzctl deploy; or take all away: ployzctl rm %s", r.ns)
}

// away refuses while the machine cannot be asked. One that has left took the data with it, and only the fact is left.
func (r *RemoveVolume) away() *api.Error {
	if r.candidate(r.target.Machine) == nil {
		return nil
	}
	return r.unreachable(r.target.Machine)
}

// Result implements operation.Resulter.
func (r *RemoveVolume) Result() any {
	is := result(r.target.VolumeFact)
	is.State = api.VolumeKept
	return is
}

// RestoreVolume gives a kept data set its name back.
type RestoreVolume struct {
	volumeChange
	id string
}

// NewRestoreVolume prepares it.
func NewRestoreVolume(kit Kit, ns, id string) *RestoreVolume {
	return &RestoreVolume{volumeChange: volumeChange{change: change{kit: kit, ns: ns, kind: api.KindVolumeRestore}}, id: id}
}

// Inspect implements operation.Operation.
func (r *RestoreVolume) Inspect(ctx context.Context, before operation.Situation) error {
	if err := r.look(ctx, before); err != nil {
		return err
	}
	r.spared = r.id
	if r.target = r.volumeByID(r.id); r.target == nil {
		return api.Errorf(api.CodeVolumeNotFound, "the namespace keeps no volume %s", r.id).About(r.ns).
			WithHint("those there are: ployzctl volume ls %s", r.ns)
	}
	if r.target.State == api.VolumeLive && !r.again(r.target) {
		return api.Errorf(api.CodeVolumeNotKept, "it has its name, %s", r.target.Name).About(r.ns+"/"+r.target.Name).
			WithHint("look at it: ployzctl volume show %s/%s", r.ns, r.target.Name)
	}
	return nil
}

// Plan implements operation.Operation.
func (r *RestoreVolume) Plan() operation.Plan {
	t := r.target
	change := api.Change{Action: "restore", Subject: "volume " + t.Name, Machine: t.Machine, To: sizeLimit(t.SizeBytes)}
	if seen := r.inPool(t.Machine, t.ID); seen != nil {
		change.Reason = "it holds " + storage.SizeText(seen.UsedBytes)
	}
	step := r.restoreVolume(t.Machine, t.ID, t.Name)
	if t.State != api.VolumeKept {
		step.Undo = nil // the fact says already that it has its name
	}
	return r.plan(operation.Plan{
		Requirements: []operation.Requirement{
			operation.Met("its name is free", r.taken()),
			operation.Met("its scope is what the namespace asks for", r.scopeProblem(t.Name, t.Scope)),
			operation.Met("the machine that has it answers", r.gone()),
		},
		Changes: []api.Change{change},
		Phases:  []operation.Phase{{Name: "volume", Steps: []operation.Step{step}}},
		Commit: r.commitFact(t.ID, t.revision, []string{"restore", t.ID}, func() api.VolumeFact {
			fact := t.VolumeFact
			fact.State, fact.Kept, fact.KeptBy = api.VolumeLive, time.Time{}, ""
			return fact
		}),
	})
}

func (r *RestoreVolume) taken() *api.Error {
	other := r.live(r.target.Name)
	if other == nil || other.ID == r.id {
		return nil
	}
	err := api.AsError(storage.NameTaken(storage.Spec{ID: other.ID, Namespace: r.ns, Name: other.Name}))
	if services := r.mounters(other.Name); len(services) > 0 {
		return err.WithHint("%s mount that one; copy what is needed out of a clone, or go back to a commit that had this one: ployzctl history %s", strings.Join(services, ", "), r.ns)
	}
	return err.WithHint("take the name from that one first: ployzctl volume rm %s/%s", r.ns, other.Name)
}

// gone is why the pool cannot give the name back.
func (r *RestoreVolume) gone() *api.Error {
	if err := r.there(r.target); err != nil {
		return err
	}
	if seen := r.inPool(r.target.Machine, r.id); seen.State == storage.StateIncoming {
		return api.AsError(storage.CheckState(seen.Spec, seen.State, storage.StateKept))
	}
	return nil
}

// scopeProblem refuses a data set that the present commit asks for with the other scope: the next deploy could not take it.
func (c *change) scopeProblem(name, scope string) *api.Error {
	asked, declared := c.presentSpec().Volumes[volumeOf(name)]
	if is := (api.Volume{Scope: scope}); !declared || is.PerSlot() == asked.PerSlot() {
		return nil
	}
	return scopeChanged(c.ns, volumeOf(name), volumeFact{VolumeFact: api.VolumeFact{Name: name, Scope: scope}})
}

// Result implements operation.Resulter.
func (r *RestoreVolume) Result() any {
	is := result(r.target.VolumeFact)
	is.State = api.VolumeLive
	return is
}
