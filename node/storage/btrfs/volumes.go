package btrfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// Ensure implements storage.Volumes.
func (p *Pool) Ensure(ctx context.Context, spec storage.Spec) (storage.Volume, error) {
	if err := spec.Check(); err != nil {
		return storage.Volume{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f, err := p.find(spec.ID)
	switch {
	case api.CodeOf(err) == api.CodeVolumeNotFound:
		f, err = p.make(ctx, spec)
	case err == nil:
		f, err = p.adjust(ctx, f, spec)
	}
	if err != nil {
		return storage.Volume{}, err
	}
	return p.observe(ctx, f)
}

// make makes a live volume: first whole and without a name, then by one rename.
func (p *Pool) make(ctx context.Context, spec storage.Spec) (found, error) {
	if err := p.couldHold(ctx, spec); err != nil {
		return found{}, err
	}
	return p.place(ctx, spec, nil, p.path(liveDir, spec.FileName()), func(data string) error {
		_, err := btrfs(ctx, "subvolume", "create", data)
		return err
	})
}

// couldHold refuses a size that would not fit if it were used.
func (p *Pool) couldHold(ctx context.Context, spec storage.Spec) error {
	u, err := p.Usage(ctx)
	if err != nil {
		return err
	}
	return storage.CheckSpace(u, spec)
}

// place makes a volume's folder under incoming, lets fill make its data, and moves it to where it belongs.
func (p *Pool) place(ctx context.Context, spec storage.Spec, origin *storage.Origin, to string, fill func(data string) error) (found, error) {
	if _, err := os.Lstat(to); err == nil {
		return found{}, p.taken(to)
	}
	f := found{Mark: storage.Mark{Spec: spec, Origin: origin, Created: time.Now().UTC()}, dir: p.path(incomingDir, spec.ID)}
	if err := p.clear(ctx, f.dir); err != nil { // what an earlier try left
		return found{}, err
	}
	if err := os.MkdirAll(filepath.Join(f.dir, "snapshots"), 0o711); err != nil {
		return found{}, typed(err)
	}
	err := writeMark(f.dir, volumeMark, f.Mark)
	if err == nil {
		err = fill(f.tree())
	}
	if err == nil {
		err = errors.Join(p.limit(ctx, f.tree(), spec.SizeBytes), own(f.tree(), spec))
	}
	if err == nil {
		err = p.move(f.dir, to)
	}
	if err != nil {
		return found{}, errors.Join(err, p.clear(context.WithoutCancel(ctx), f.dir))
	}
	f.dir = to
	f.state = p.stateOf(to)
	return f, nil
}

func (p *Pool) stateOf(dir string) storage.State {
	if filepath.Dir(dir) == p.path(liveDir) {
		return storage.StateLive
	}
	return storage.StateKept
}

// adjust gives a volume that is there the size, owner and mode that are asked for now.
func (p *Pool) adjust(ctx context.Context, f found, spec storage.Spec) (found, error) {
	if err := storage.CheckState(f.Spec, f.state, storage.StateLive); err != nil {
		return f, err
	}
	if f.FullName() != spec.FullName() {
		return f, storage.NameTaken(f.Spec)
	}
	if err := p.resize(ctx, f, spec); err != nil {
		return f, err
	}
	f.Spec = spec
	return f, errors.Join(own(f.tree(), spec), writeMark(f.dir, volumeMark, f.Mark))
}

// resize refuses a limit that is under what is used: every write would fail from then on.
func (p *Pool) resize(ctx context.Context, f found, spec storage.Spec) error {
	if spec.SizeBytes == f.SizeBytes { // the limit may be gone all the same, where somebody turned the groups off
		return p.limit(ctx, f.tree(), spec.SizeBytes)
	}
	if spec.SizeBytes > 0 {
		if err := errors.Join(p.settle(), p.counts(ctx)); err != nil {
			return err
		}
	}
	is, err := p.holds(ctx, f.tree(), spec.SizeBytes > 0, count)
	if err != nil {
		return err
	}
	if err := storage.CheckShrink(spec, is.used); err != nil {
		return err
	}
	if grow := spec; spec.SizeBytes > f.SizeBytes {
		grow.SizeBytes -= is.used
		if err := p.couldHold(ctx, grow); err != nil {
			return err
		}
	}
	return p.limit(ctx, f.tree(), spec.SizeBytes)
}

// own gives the volume's root folder what was asked for, and leaves the rest to the workload.
func own(data string, spec storage.Spec) error { return typed(storage.Own(data, spec)) }

// Inspect implements storage.Volumes.
func (p *Pool) Inspect(ctx context.Context, id string) (storage.Volume, error) {
	f, err := p.find(id)
	if err != nil {
		return storage.Volume{}, err
	}
	return p.observe(ctx, f)
}

// List implements storage.Volumes.
func (p *Pool) List(ctx context.Context) ([]storage.Volume, error) {
	all, err := p.all()
	if err != nil {
		return nil, err
	}
	var volumes []storage.Volume
	for _, f := range all {
		v, err := p.observe(ctx, f)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			if _, gone := os.Lstat(f.dir); gone != nil {
				continue // it went, or changed places, meanwhile
			}
			v.Problem = err
		}
		volumes = append(volumes, v)
	}
	return volumes, nil
}

func (p *Pool) observe(ctx context.Context, f found) (storage.Volume, error) {
	v := storage.Volume{Spec: f.Spec, State: f.state, Origin: f.Origin, Created: f.Created, Problem: f.damaged}
	if f.damaged != nil {
		return v, nil
	}
	if f.state == storage.StateLive {
		v.Path = f.tree()
	}
	if !isSubvolume(f.tree()) { // only received so far
		return v, nil
	}
	is, err := p.holds(ctx, f.tree(), f.SizeBytes > 0, p.lately.count)
	v.UsedBytes, v.OwnBytes = is.used, is.own
	return v, err
}

// Destroy implements storage.Volumes.
func (p *Pool) Destroy(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, err := p.find(id)
	if api.CodeOf(err) == api.CodeVolumeNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if f.state == storage.StateLive {
		return storage.CheckState(f.Spec, f.state, storage.StateKept)
	}
	if p.receiving[id] {
		return storage.InUse(f.Spec, "a stream is arriving")
	}
	if err := p.destroyable(f); err != nil {
		return err
	}
	// Without its mark's place it is nobody's volume from here on, whatever happens to the rest.
	going := p.path(incomingDir, f.ID)
	if f.dir != going {
		if err := p.clear(ctx, going); err != nil {
			return err
		}
		if err := p.move(f.dir, going); err != nil {
			return err
		}
	}
	defer p.trust()
	return p.clear(ctx, going)
}

// destroyable refuses while a snapshot is held or any part of the volume is mounted.
func (p *Pool) destroyable(f found) error {
	snapshots, err := f.list()
	if err != nil {
		return err
	}
	for _, s := range snapshots {
		if len(s.Holds) > 0 {
			return storage.SnapshotNeeded(s)
		}
	}
	users, err := p.mounts(f.dir)
	if err == nil && len(users) > 0 {
		err = storage.InUse(f.Spec, users[0].String())
	}
	return err
}

// clear deletes a folder of ours with the sub-volumes in it. The mark goes last, so that what a crash leaves
// is still ours.
func (p *Pool) clear(ctx context.Context, dir string) error {
	snapshots, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return typed(err)
	}
	subvolumes := []string{filepath.Join(dir, "data")}
	for _, s := range snapshots {
		subvolumes = append(subvolumes, filepath.Join(dir, "snapshots", s.Name(), "data"))
	}
	for _, path := range slices.DeleteFunc(subvolumes, func(path string) bool { return !isSubvolume(path) }) {
		if err := deleteSubvolume(ctx, path); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "snapshots")); err != nil {
		return typed(err)
	}
	return typed(os.RemoveAll(dir))
}
