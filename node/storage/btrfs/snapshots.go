package btrfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// list is the volume's snapshots with their holds, oldest first.
func (f found) list() ([]storage.Snapshot, error) {
	entries, err := os.ReadDir(filepath.Join(f.dir, "snapshots"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, typed(err)
	}
	var all []storage.Snapshot
	for _, e := range entries {
		var mark snapshotFile
		if ok, err := readMark(f.snapshot(e.Name()), snapshotMark, &mark); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		holds, err := f.holds(e.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, storage.Snapshot{Volume: f.ID, Name: e.Name(), GUID: mark.GUID, Created: mark.Created, Holds: holds})
	}
	slices.SortStableFunc(all, func(a, b storage.Snapshot) int { return a.Created.Compare(b.Created) })
	return all, nil
}

func (f found) holds(snapshot string) ([]string, error) {
	entries, err := os.ReadDir(f.snapshot(snapshot))
	var tags []string
	for _, e := range entries {
		if tag, ok := strings.CutPrefix(e.Name(), holdPrefix); ok {
			tags = append(tags, tag)
		}
	}
	return tags, typed(err)
}

// get finds one snapshot of a volume.
func (f found) get(name string) (storage.Snapshot, error) {
	all, err := f.list()
	if err != nil {
		return storage.Snapshot{}, err
	}
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
	}
	return storage.Snapshot{}, storage.SnapshotNotFound(f.ID, name)
}

// ListSnapshots implements storage.Snapshots.
func (p *Pool) ListSnapshots(_ context.Context, id string) ([]storage.Snapshot, error) {
	f, err := p.find(id)
	if err != nil {
		return nil, err
	}
	return f.list()
}

// Snapshot implements storage.Snapshots. They follow each other within milliseconds, which is one moment only
// while nobody writes; a failing one takes those before it away again.
func (p *Pool) Snapshot(ctx context.Context, name string, ids ...string) ([]storage.Snapshot, error) {
	if err := storage.CheckName("snapshot", name); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var volumes []found
	for _, id := range ids {
		f, err := p.find(id)
		if err != nil {
			return nil, err
		}
		volumes = append(volumes, f)
	}
	if done, err := taken(name, volumes); done != nil || err != nil {
		return done, err
	}
	var made []storage.Snapshot
	for i, f := range volumes {
		s, err := p.take(ctx, f, name)
		if err != nil {
			for _, done := range volumes[:i] {
				err = errors.Join(err, p.forget(context.WithoutCancel(ctx), done, name))
			}
			return nil, err
		}
		made = append(made, s)
	}
	return made, p.settle()
}

// taken answers for a snapshot that all volumes have, and refuses one that only some have.
func taken(name string, volumes []found) (done []storage.Snapshot, err error) {
	var have []string
	for _, f := range volumes {
		s, err := f.get(name)
		switch {
		case err == nil:
			have, done = append(have, f.ID), append(done, s)
		case api.CodeOf(err) != api.CodeVolumeSnapshotNotFound:
			return nil, err
		}
	}
	if len(have) > 0 && len(have) < len(volumes) {
		return nil, storage.SnapshotTaken(name, have)
	}
	return done, nil
}

// take makes one snapshot: whole under another name first.
func (p *Pool) take(ctx context.Context, f found, name string) (storage.Snapshot, error) {
	if f.state != storage.StateLive { // it may only have been received so far
		if err := p.usable(ctx, f); err != nil {
			return storage.Snapshot{}, err
		}
	}
	half := f.snapshot(name) + ".half"
	if err := p.clearSnapshot(ctx, half); err != nil {
		return storage.Snapshot{}, err
	}
	if err := os.MkdirAll(half, 0o711); err != nil {
		return storage.Snapshot{}, typed(err)
	}
	if err := snapshotSubvolume(f.tree(), half+"/data", snapshotReadOnly); err != nil {
		return storage.Snapshot{}, errors.Join(err, p.clearSnapshot(context.WithoutCancel(ctx), half))
	}
	return p.publish(f, name, half)
}

// publish marks a whole snapshot and gives it its name.
func (p *Pool) publish(f found, name, half string) (storage.Snapshot, error) {
	v, err := show(half + "/data")
	if err != nil {
		return storage.Snapshot{}, err
	}
	mark := snapshotFile{Name: name, GUID: v.guid(), Created: time.Now().UTC()}
	if err := writeMark(half, snapshotMark, mark); err != nil {
		return storage.Snapshot{}, err
	}
	if err := os.Rename(half, f.snapshot(name)); err != nil {
		return storage.Snapshot{}, typed(err)
	}
	return storage.Snapshot{Volume: f.ID, Name: name, GUID: mark.GUID, Created: mark.Created}, nil
}

// clearSnapshot deletes a snapshot's folder; its mark goes after the sub-volume.
func (p *Pool) clearSnapshot(ctx context.Context, dir string) error {
	if err := deleteSubvolume(ctx, dir+"/data"); err != nil {
		return err
	}
	return typed(os.RemoveAll(dir))
}

// Hold implements storage.Snapshots: a hold is a file beside the snapshot's mark.
func (p *Pool) Hold(_ context.Context, id, snapshot, tag string) error {
	return p.hold(id, snapshot, tag, func(path string) error { return os.WriteFile(path, nil, 0o600) })
}

// Release implements storage.Snapshots.
func (p *Pool) Release(_ context.Context, id, snapshot, tag string) error {
	return p.hold(id, snapshot, tag, func(path string) error {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

func (p *Pool) hold(id, snapshot, tag string, change func(path string) error) error {
	if err := storage.CheckName("hold", tag); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f, err := p.find(id)
	if err == nil {
		_, err = f.get(snapshot)
	}
	if err == nil {
		err = typed(change(filepath.Join(f.snapshot(snapshot), holdPrefix+tag)))
	}
	if err != nil {
		return err
	}
	return typed(durable.SyncFolder(f.snapshot(snapshot))) // these names, and not all that the pool has to write, as settle does
}

// RenameSnapshot implements storage.Snapshots: the name is the folder's.
func (p *Pool) RenameSnapshot(_ context.Context, id, from, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, err := p.find(id)
	if err != nil {
		return err
	}
	all, err := f.list()
	if err != nil {
		return err
	}
	if done, err := storage.CheckRename(all, id, from, to); done || err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, f.snapshot(from), unix.AT_FDCWD, f.snapshot(to), unix.RENAME_NOREPLACE)
	if err == nil {
		err = durable.SyncFolder(filepath.Dir(f.snapshot(to)))
	}
	return typed(err)
}

// Forget implements storage.Snapshots.
func (p *Pool) Forget(ctx context.Context, id, snapshot string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, err := p.find(id)
	if err != nil {
		return err
	}
	s, err := f.get(snapshot)
	switch {
	case api.CodeOf(err) == api.CodeVolumeSnapshotNotFound:
		return nil
	case err != nil:
		return err
	case len(s.Holds) > 0:
		return storage.SnapshotNeeded(s)
	}
	defer p.trust()
	return p.forget(ctx, f, snapshot)
}

// forget takes the name away first: what is left half deleted is found by the next one of that name.
func (p *Pool) forget(ctx context.Context, f found, snapshot string) error {
	half := f.snapshot(snapshot) + ".half"
	if err := p.clearSnapshot(ctx, half); err != nil {
		return err
	}
	if err := os.Rename(f.snapshot(snapshot), half); err != nil {
		return typed(err)
	}
	return p.clearSnapshot(ctx, half)
}

// Clone implements storage.Snapshots.
func (p *Pool) Clone(ctx context.Context, id, snapshot string, spec storage.Spec, kept bool) (storage.Volume, error) {
	if err := spec.Check(); err != nil {
		return storage.Volume{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	source, err := p.find(id)
	if err != nil {
		return storage.Volume{}, err
	}
	s, err := source.get(snapshot)
	if err != nil {
		return storage.Volume{}, err
	}
	origin := &storage.Origin{Volume: id, Snapshot: snapshot, GUID: s.GUID}
	f, err := p.find(spec.ID)
	switch {
	case err == nil && f.Origin != nil && *f.Origin == *origin && f.state != storage.StateIncoming:
		return p.observe(ctx, f)
	case err == nil && f.state != storage.StateIncoming:
		return storage.Volume{}, storage.NameTaken(f.Spec)
	}
	if f, err = p.clone(ctx, source.snapshot(snapshot)+"/data", spec, origin, kept); err != nil {
		return storage.Volume{}, err
	}
	return p.observe(ctx, f)
}

func (p *Pool) clone(ctx context.Context, from string, spec storage.Spec, origin *storage.Origin, kept bool) (found, error) {
	if spec.SizeBytes > 0 {
		is, err := p.holds(ctx, from, true, count)
		if err != nil {
			return found{}, err
		}
		if err := storage.CheckShrink(spec, is.used); err != nil {
			return found{}, err
		}
	}
	to := p.path(liveDir, spec.FileName())
	if kept {
		to = p.path(keptDir, spec.ID)
	}
	return p.place(ctx, spec, origin, to, func(data string) error {
		return snapshotSubvolume(from, data, 0)
	})
}

// Promote implements storage.Snapshots: on Btrfs a clone never depended on its origin.
func (p *Pool) Promote(_ context.Context, id string) error {
	_, err := p.find(id)
	return err
}
