package deploy

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/storage"
)

// releaseDeadline is what Local.Release means where it is 0.
const releaseDeadline = 10 * time.Second

func noPool() *api.Error {
	return api.Errorf(api.CodeVolumePoolUnavailable, "the machine has no pool for volumes").WithHint("what is missing: ployzctl doctor")
}

// Stored implements Participant.
func (l *Local) Stored(ctx context.Context, namespace string) (Stored, error) {
	if l.Pool == nil {
		return Stored{None: noPool()}, nil
	}
	usage, err := l.Pool.Usage(ctx)
	var all []storage.Volume
	if err == nil {
		all, err = l.Pool.List(ctx)
	}
	if err != nil {
		return Stored{None: api.AsError(err)}, nil
	}
	all = slices.DeleteFunc(all, func(v storage.Volume) bool { return v.Namespace != namespace })
	return Stored{Usage: usage, Volumes: all, OneMoment: l.Pool.Capabilities().OneMoment}, nil
}

// EnsureVolume implements Participant.
func (l *Local) EnsureVolume(ctx context.Context, by Fenced, spec storage.Spec) (storage.Volume, error) {
	if err := l.Fences.Admit(by.Scope, by.Fence); err != nil {
		return storage.Volume{}, err
	}
	if l.Pool == nil {
		return storage.Volume{}, noPool()
	}
	return l.Pool.Ensure(ctx, spec)
}

func (l *Local) actOnVolume(ctx context.Context, action Action) error {
	var do func() error
	switch action.Verb {
	case "retire-volume":
		do = func() error { return l.Pool.Retire(ctx, action.Volume) }
	case "restore-volume":
		do = func() error { return l.Pool.Restore(ctx, action.Volume) }
	case "forget-snapshots":
		do = func() error { return l.forgetSnapshots(ctx, action.Snapshot, action.Tag, action.Volumes) }
	case "unname-snapshots":
		do = func() error { return l.unnameSnapshots(ctx, action) }
	case "swap-volume":
		do = func() error { return l.Pool.Swap(ctx, action.Out, action.Volume) }
	case "swap-back-volume":
		do = func() error { return l.swapBack(ctx, action.Out, action.Volume) }
	case "destroy-volume":
		do = func() error { return l.destroyMade(ctx, action) }
	case "forget-operation":
		do = func() error { return l.forgetOperation(ctx, action.Maker, action.Volumes) }
	case "prune-volume":
		do = func() error { return l.pruneVolume(ctx, action.Volume) }
	case "drop-copy":
		do = func() error { return l.dropCopy(ctx, action.Volume) }
	case "hold-snapshots":
		do = func() error { return l.holdSnapshots(ctx, action.Volume, action.Holds) }
	case "take-snapshot":
		do = func() error { return l.takeSnapshot(ctx, action) }
	case "forget-snapshot":
		do = func() error { return l.forgetSnapshot(ctx, action) }
	case "prune-copy":
		do = func() error { return l.pruneCopy(ctx, action.Volume) }
	case "prune-snapshots":
		do = func() error { return l.pruneSnapshots(ctx, action.Volume, action.Snapshots) }
	default:
		return api.Errorf(api.CodeBadRequest, "no action %q", action.Verb)
	}
	if l.Pool == nil {
		return noPool()
	}
	return l.released(ctx, do)
}

// destroyMade destroys a volume that an operation made and did not commit. That it did is in the id: whatever a
// coordinator believes, no other volume goes this way.
func (l *Local) destroyMade(ctx context.Context, action Action) error {
	v, err := l.Pool.Inspect(ctx, action.Volume)
	if api.CodeOf(err) == api.CodeVolumeNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if volumeID(action.Maker, v.Namespace, v.Name) != v.ID {
		return api.Errorf(api.CodeBadRequest, "the volume %s (%s) was not made by the operation %s", v.FullName(), v.ID, action.Maker).About(v.FullName())
	}
	if v.State == storage.StateLive {
		if err := l.Pool.Retire(ctx, v.ID); err != nil {
			return err
		}
	}
	if err := l.forgetAll(ctx, v.ID); err != nil {
		return err
	}
	return l.Pool.Destroy(ctx, v.ID)
}

// commitHold is the tag that keeps what a commit names from being forgotten.
const commitHold = "commit"

// SnapshotVolumes implements Participant.
func (l *Local) SnapshotVolumes(ctx context.Context, by Fenced, order SnapshotOrder) ([]storage.Snapshot, error) {
	if err := l.Fences.Admit(by.Scope, by.Fence); err != nil {
		return nil, err
	}
	if l.Pool == nil {
		return nil, noPool()
	}
	if order.Of != "" {
		return l.nameSnapshots(ctx, order)
	}
	if order.Tag == commitHold { // one of that name is of a commit that never was: it shows another moment
		if err := l.forgetSnapshots(ctx, order.Name, order.Tag, order.Volumes); err != nil {
			return nil, err
		}
	}
	taken, err := l.snapshotQuiet(ctx, order)
	for i := range taken {
		if err == nil {
			err = l.Pool.Hold(ctx, taken[i].Volume, order.Name, order.Tag)
		}
	}
	return taken, err
}

// forgetSnapshots takes snapshots away that a tag holds; where there is none, nothing happens.
func (l *Local) forgetSnapshots(ctx context.Context, name, tag string, ids []string) error {
	for _, id := range ids {
		err := l.Pool.Release(ctx, id, name, tag)
		if err == nil {
			err = l.Pool.Forget(ctx, id, name)
		}
		if code := api.CodeOf(err); err != nil && code != api.CodeVolumeNotFound && code != api.CodeVolumeSnapshotNotFound {
			return err
		}
	}
	return nil
}

// forgetAll takes a volume's commit snapshots away.
func (l *Local) forgetAll(ctx context.Context, id string) error {
	all, err := l.Pool.ListSnapshots(ctx, id)
	for _, s := range all {
		if err == nil {
			err = l.forgetSnapshots(ctx, s.Name, commitHold, []string{id})
		}
	}
	return err
}

// released does something to a volume once nobody uses it any more.
func (l *Local) released(ctx context.Context, do func() error) error {
	patience := l.Release
	if patience == 0 {
		patience = releaseDeadline
	}
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	for {
		err := do()
		if api.CodeOf(err) != api.CodeVolumeInUse || pause(ctx) != nil {
			return err
		}
	}
}

// ListSnapshots implements Participant.
func (l *Local) ListSnapshots(ctx context.Context, ids []string) (map[string][]storage.Snapshot, error) {
	if l.Pool == nil {
		return nil, noPool()
	}
	all := map[string][]storage.Snapshot{}
	for _, id := range ids {
		list, err := l.Pool.ListSnapshots(ctx, id)
		if err != nil && api.CodeOf(err) != api.CodeVolumeNotFound {
			return nil, err
		}
		all[id] = list
	}
	return all, nil
}

// kept looks at a volume that is to be destroyed; there is none where that was done. Errors: volume.not-kept.
func (l *Local) kept(ctx context.Context, id string) (v storage.Volume, there bool, err error) {
	v, err = l.Pool.Inspect(ctx, id)
	if api.CodeOf(err) == api.CodeVolumeNotFound {
		return v, false, nil
	}
	if err == nil && v.State == storage.StateLive {
		err = storage.CheckState(v.Spec, v.State, storage.StateKept)
	}
	return v, err == nil, err
}

// pruneVolume destroys a kept volume with its snapshots, unless a clone needs one of them or somebody but a commit
// holds one. Nothing is released before all of them were looked at.
func (l *Local) pruneVolume(ctx context.Context, id string) error {
	v, there, err := l.kept(ctx, id)
	if err != nil || !there {
		return err
	}
	all, err := l.Pool.ListSnapshots(ctx, id)
	if err != nil {
		return err
	}
	for _, s := range all {
		if err := neededBut(s, commitHold); err != nil {
			return err
		}
	}
	for _, s := range all {
		if err := l.Pool.Release(ctx, id, s.Name, commitHold); err != nil {
			return err
		}
	}
	if err := l.Pool.Destroy(ctx, id); err != nil {
		return err
	}
	return l.forgetOrigin(ctx, v)
}

// forgetOrigin follows the end of a volume that began as a snapshot which an operation took for it: that stayed only
// where the clone could not be without it.
func (l *Local) forgetOrigin(ctx context.Context, gone storage.Volume) error {
	if gone.Origin == nil || storage.SnapshotOperation(gone.Origin.Snapshot) == "" {
		return nil
	}
	of := gone.Origin.Volume
	all, err := l.ListSnapshots(ctx, []string{of})
	if err != nil {
		return err
	}
	if s := named(all[of], gone.Origin.Snapshot); s != nil && neededBut(*s, "") == nil {
		return l.Pool.Forget(ctx, of, s.Name)
	}
	return nil
}

// dropCopy destroys a copy of a volume that lives on another machine, with its holds, which are the other's too, unless
// a clone needs it. One that is gone is no error.
func (l *Local) dropCopy(ctx context.Context, id string) error {
	v, err := l.Pool.Inspect(ctx, id)
	if api.CodeOf(err) == api.CodeVolumeNotFound {
		return nil
	}
	if err == nil && v.State == storage.StateLive {
		err = l.Pool.Retire(ctx, id)
	}
	if err != nil {
		return err
	}
	return l.destroyCopy(ctx, id)
}

func (l *Local) holdSnapshots(ctx context.Context, id string, holds map[string][]string) error {
	for _, name := range slices.Sorted(maps.Keys(holds)) {
		for _, tag := range holds[name] {
			if err := l.Pool.Hold(ctx, id, name, tag); err != nil {
				return err
			}
		}
	}
	return nil
}

// CloneVolume implements Participant.
func (l *Local) CloneVolume(ctx context.Context, by Fenced, order CloneOrder) (storage.Volume, error) {
	if err := l.Fences.Admit(by.Scope, by.Fence); err != nil {
		return storage.Volume{}, err
	}
	if l.Pool == nil {
		return storage.Volume{}, noPool()
	}
	return l.Pool.Clone(ctx, order.Volume, order.Snapshot, order.As, order.Kept)
}

func (l *Local) takeSnapshot(ctx context.Context, action Action) error {
	_, err := l.Pool.Snapshot(ctx, action.Snapshot, action.Volume)
	if err == nil && action.Tag != "" {
		err = l.Pool.Hold(ctx, action.Volume, action.Snapshot, action.Tag)
	}
	return err
}

// forgetSnapshot takes a snapshot away that only the tag holds; where there is none, nothing happens. One that is
// needed otherwise keeps the tag's hold.
func (l *Local) forgetSnapshot(ctx context.Context, action Action) error {
	all, err := l.Pool.ListSnapshots(ctx, action.Volume)
	for _, s := range all {
		if s.Name == action.Snapshot {
			return l.forgetSeen(ctx, s, action.Tag)
		}
	}
	if api.CodeOf(err) == api.CodeVolumeNotFound {
		return nil
	}
	return err
}

// forgetOperation ends what an operation holds of some volumes, or of all where none are named, and forgets what it took
// for itself, but for what a clone or another hold needs.
func (l *Local) forgetOperation(ctx context.Context, operation string, ids []string) error {
	if len(ids) == 0 {
		all, err := l.Pool.List(ctx)
		if err != nil {
			return err
		}
		for _, v := range all {
			if v.Problem == nil {
				ids = append(ids, v.ID)
			}
		}
	}
	all, err := l.ListSnapshots(ctx, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		for _, s := range all[id] {
			if err := l.letGo(ctx, operation, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Local) letGo(ctx context.Context, operation string, s storage.Snapshot) error {
	if slices.Contains(s.Holds, operation) {
		if err := l.Pool.Release(ctx, s.Volume, s.Name, operation); err != nil {
			return err
		}
	}
	if !storage.IsOperationSnapshot(operation, s.Name) || neededBut(s, operation) != nil {
		return nil
	}
	return l.Pool.Forget(ctx, s.Volume, s.Name)
}

func (l *Local) forgetSeen(ctx context.Context, s storage.Snapshot, tag string) error {
	if err := neededBut(s, tag); err != nil {
		return err
	}
	if tag != "" {
		if err := l.Pool.Release(ctx, s.Volume, s.Name, tag); err != nil {
			return err
		}
	}
	return l.Pool.Forget(ctx, s.Volume, s.Name)
}

// unheld is a snapshot as it would be without the hold of a tag.
func unheld(s storage.Snapshot, tag string) storage.Snapshot {
	s.Holds = slices.DeleteFunc(slices.Clone(s.Holds), func(t string) bool { return t == tag })
	return s
}

// neededBut refuses a snapshot that a clone, or a hold of any other tag, needs. Errors: volume.snapshot-needed.
func neededBut(s storage.Snapshot, tag string) error {
	if s = unheld(s, tag); len(s.Holds)+len(s.Clones) > 0 {
		return storage.SnapshotNeeded(s)
	}
	return nil
}

// withSources says where on this machine the volumes are that an instance mounts. Errors: volume.not-found,
// volume.not-live, volume.pool-unavailable.
func (l *Local) withSources(ctx context.Context, spec runtime.Spec) (runtime.Spec, error) {
	spec.Mounts = slices.Clone(spec.Mounts)
	for i, m := range spec.Mounts {
		if l.Pool == nil {
			return spec, noPool()
		}
		v, err := l.Pool.Inspect(ctx, m.Volume)
		if err == nil {
			err = storage.CheckState(v.Spec, v.State, storage.StateLive)
		}
		if err != nil {
			return spec, err
		}
		spec.Mounts[i].Source = v.Path
	}
	return spec, nil
}

// pruneSnapshots forgets snapshots of a volume that commits or operations took. Whatever a coordinator believes, one
// that an operator took, or that a clone or another tag needs, stays, and keeps its holds.
func (l *Local) pruneSnapshots(ctx context.Context, id string, names []string) error {
	all, err := l.Pool.ListSnapshots(ctx, id)
	if api.CodeOf(err) == api.CodeVolumeNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range all {
		if !slices.Contains(names, s.Name) {
			continue
		}
		tag, ours := ownTag(s.Name)
		if !ours {
			errs = append(errs, api.Errorf(api.CodeBadRequest, "no commit and no operation took the snapshot %s", s.Name).About(id+"@"+s.Name))
			continue
		}
		errs = append(errs, l.forgetSeen(ctx, s, tag))
	}
	return errors.Join(errs...)
}
