package mempool

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

func (v *volume) snapshot(name string) *storage.Snapshot {
	for _, s := range v.snapshots {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// snapshotLocked finds a volume's snapshot. Errors: volume.not-found, volume.snapshot-not-found.
func (p *Pool) snapshotLocked(id, name string) (*volume, *storage.Snapshot, error) {
	v, err := p.findLocked(id)
	if err != nil {
		return nil, nil, err
	}
	s := v.snapshot(name)
	if s == nil {
		return v, nil, storage.SnapshotNotFound(id, name)
	}
	return v, s, nil
}

// Snapshot implements storage.Snapshots.
func (p *Pool) Snapshot(_ context.Context, name string, ids ...string) ([]storage.Snapshot, error) {
	if err := storage.CheckName("snapshot", name); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var have []string
	for _, id := range ids {
		v, err := p.findLocked(id)
		if err != nil {
			return nil, err
		}
		if v.snapshot(name) != nil {
			have = append(have, id)
		}
	}
	if len(have) > 0 && len(have) < len(ids) {
		return nil, storage.SnapshotTaken(name, have)
	}
	all := make([]storage.Snapshot, len(ids))
	for i, id := range ids {
		v := p.volumes[id]
		if len(have) == 0 {
			if err := p.recordLocked(v, name, rand.Text()); err != nil {
				return nil, err
			}
		}
		all[i] = *v.snapshot(name)
	}
	return all, nil
}

// recordLocked makes what a volume holds now its last snapshot.
func (p *Pool) recordLocked(v *volume, name, guid string) error {
	if err := p.copyFolder(p.folder(v), p.snapshotFolder(v.ID, name)); err != nil {
		return err
	}
	if v.texts == nil {
		v.texts = map[string]string{}
	}
	v.texts[name] = v.text
	v.snapshots = append(v.snapshots, &storage.Snapshot{Volume: v.ID, Name: name, GUID: guid, Created: time.Now().UTC()})
	return nil
}

// ListSnapshots implements storage.Snapshots.
func (p *Pool) ListSnapshots(_ context.Context, id string) ([]storage.Snapshot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.findLocked(id)
	if err != nil {
		return nil, err
	}
	return p.listLocked(v), nil
}

func (p *Pool) listLocked(v *volume) (all []storage.Snapshot) {
	for _, s := range v.snapshots {
		all = append(all, p.seenLocked(s))
	}
	return all
}

// seenLocked is a snapshot with what could not be without it.
func (p *Pool) seenLocked(s *storage.Snapshot) storage.Snapshot {
	one := *s
	one.Holds = slices.Clone(s.Holds)
	for _, id := range slices.Sorted(maps.Keys(p.volumes)) {
		if o := p.volumes[id].Origin; p.ClonesDepend && o != nil && o.Volume == s.Volume && o.Snapshot == s.Name && !p.volumes[id].promoted {
			one.Clones = append(one.Clones, id)
		}
	}
	return one
}

// Hold implements storage.Snapshots.
func (p *Pool) Hold(_ context.Context, id, snapshot, tag string) error {
	if err := storage.CheckName("hold", tag); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, s, err := p.snapshotLocked(id, snapshot)
	if err == nil && !slices.Contains(s.Holds, tag) {
		s.Holds = slices.Sorted(slices.Values(append(slices.Clone(s.Holds), tag)))
	}
	return err
}

// Release implements storage.Snapshots.
func (p *Pool) Release(_ context.Context, id, snapshot, tag string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, s, err := p.snapshotLocked(id, snapshot)
	if err == nil {
		s.Holds = slices.DeleteFunc(slices.Clone(s.Holds), func(t string) bool { return t == tag })
	}
	return err
}

// RenameSnapshot implements storage.Snapshots.
func (p *Pool) RenameSnapshot(_ context.Context, id, from, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.findLocked(id)
	if err != nil {
		return err
	}
	if done, err := storage.CheckRename(p.listLocked(v), id, from, to); done || err != nil {
		return err
	}
	if err := p.renameFolder(p.snapshotFolder(id, from), p.snapshotFolder(id, to)); err != nil {
		return err
	}
	v.snapshot(from).Name, v.texts[to] = to, v.texts[from]
	delete(v.texts, from)
	return nil
}

// Forget implements storage.Snapshots.
func (p *Pool) Forget(_ context.Context, id, snapshot string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, s, err := p.snapshotLocked(id, snapshot)
	switch {
	case api.CodeOf(err) == api.CodeVolumeSnapshotNotFound:
		return nil
	case err != nil:
		return err
	}
	if one := p.seenLocked(s); len(one.Holds)+len(one.Clones) > 0 {
		return storage.SnapshotNeeded(one)
	}
	v.snapshots = slices.DeleteFunc(v.snapshots, func(other *storage.Snapshot) bool { return other == s })
	return nil
}

// Clone implements storage.Snapshots.
func (p *Pool) Clone(_ context.Context, id, snapshot string, spec storage.Spec, kept bool) (storage.Volume, error) {
	if err := spec.Check(); err != nil {
		return storage.Volume{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	origins, s, err := p.snapshotLocked(id, snapshot)
	if err != nil {
		return storage.Volume{}, err
	}
	origin := &storage.Origin{Volume: id, Snapshot: snapshot, GUID: s.GUID}
	if there := p.volumes[spec.ID]; there != nil {
		if there.Origin != nil && *there.Origin == *origin {
			return p.observeLocked(there), nil
		}
		return storage.Volume{}, storage.NameTaken(there.Spec)
	}
	if p.root != "" {
		if err := storage.CheckShrink(spec, size(p.snapshotFolder(id, snapshot))); err != nil {
			return storage.Volume{}, err
		}
	}
	v := &volume{Mark: storage.Mark{Spec: spec, Origin: origin, Created: time.Now().UTC()}, state: storage.StateKept, text: origins.texts[snapshot]}
	if !kept {
		if other := p.liveLocked(spec); other != nil {
			return storage.Volume{}, storage.NameTaken(other.Spec)
		}
		v.state = storage.StateLive
	}
	if err := p.copyFolder(p.snapshotFolder(id, snapshot), p.folder(v)); err != nil {
		return storage.Volume{}, err
	}
	p.volumes[spec.ID] = v
	return p.observeLocked(v), nil
}

// Promote implements storage.Snapshots. In memory the origin keeps its snapshots all the same.
func (p *Pool) Promote(_ context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.findLocked(id)
	if err == nil {
		v.promoted = true
	}
	return err
}
