package zfs

import (
	"context"
	"slices"
	"strings"

	gozfs "github.com/mistifyio/go-zfs/v3"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// withHolds adds the tags of the held ones.
func (p *Pool) withHolds(ctx context.Context, pic picture, f found, all []storage.Snapshot) ([]storage.Snapshot, error) {
	args := []string{"holds", "-H"}
	for _, s := range all {
		if d, _ := pic.get(f.name + "@" + s.Name); d.number("userrefs") > 0 {
			args = append(args, d.name)
		}
	}
	if len(args) == 2 {
		return all, nil
	}
	out, err := zfs(ctx, args...)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) { // NAME, tag, time
		column := strings.Split(strings.TrimSpace(line), "\t")
		for i := range all {
			if len(column) > 1 && column[0] == f.name+"@"+all[i].Name {
				all[i].Holds = append(all[i].Holds, column[1])
			}
		}
	}
	for i := range all {
		slices.Sort(all[i].Holds)
	}
	return all, nil
}

// ListSnapshots implements storage.Snapshots.
func (p *Pool) ListSnapshots(ctx context.Context, id string) ([]storage.Snapshot, error) {
	pic, f, err := p.find(ctx, id)
	if err != nil {
		return nil, err
	}
	all, _ := pic.snapshots(f)
	return p.withHolds(ctx, pic, f, all)
}

// get finds one snapshot of a volume, as findNear does.
func (p *Pool) get(ctx context.Context, id, snapshot string) (pic picture, f found, s storage.Snapshot, err error) {
	if pic, err = p.near(ctx, []string{id}); err == nil {
		f, s, err = pic.both(id, snapshot)
	}
	return pic, f, s, err
}

// both finds a volume and one of its snapshots.
func (pic picture) both(id, snapshot string) (f found, s storage.Snapshot, err error) {
	if f, err = pic.volume(id); err == nil {
		s, err = pic.snapshot(f, snapshot)
	}
	return f, s, err
}

func (pic picture) snapshot(f found, name string) (storage.Snapshot, error) {
	all, _ := pic.snapshots(f)
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
	}
	return storage.Snapshot{}, storage.SnapshotNotFound(f.ID, name)
}

// Snapshot implements storage.Snapshots: one command is one transaction.
func (p *Pool) Snapshot(ctx context.Context, name string, ids ...string) ([]storage.Snapshot, error) {
	if err := storage.CheckName("snapshot", name); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pic, err := p.near(ctx, ids)
	if err != nil {
		return nil, err
	}
	args, have := []string{"snapshot", "-o", snapshotProperty + "=" + name}, []string(nil)
	for _, id := range ids {
		f, err := pic.volume(id)
		if err != nil {
			return nil, err
		}
		at := f.name + "@" + name
		args = append(args, at)
		d, there := pic.get(at)
		switch _, marked := d.marked(snapshotProperty); {
		case there && !marked:
			return nil, storage.NotOurs(at)
		case there:
			have = append(have, id)
		}
	}
	switch {
	case len(have) == 0:
		_, err = zfs(ctx, args...)
	case len(have) < len(ids):
		err = storage.SnapshotTaken(name, have)
	}
	if err != nil {
		return nil, err
	}
	return p.taken(ctx, name, ids)
}

// taken reads what a command made.
func (p *Pool) taken(ctx context.Context, name string, ids []string) ([]storage.Snapshot, error) {
	pic, err := p.near(ctx, ids)
	if err != nil {
		return nil, err
	}
	var all []storage.Snapshot
	for _, id := range ids {
		f, err := pic.volume(id)
		if err != nil {
			return nil, err
		}
		s, err := pic.snapshot(f, name)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// Hold implements storage.Snapshots.
func (p *Pool) Hold(ctx context.Context, id, snapshot, tag string) error {
	return p.hold(ctx, "hold", id, snapshot, tag, "tag already exists")
}

// Release implements storage.Snapshots.
func (p *Pool) Release(ctx context.Context, id, snapshot, tag string) error {
	return p.hold(ctx, "release", id, snapshot, tag, "no such tag")
}

// hold runs one of the two commands; what it says where there is nothing to do is no error.
func (p *Pool) hold(ctx context.Context, command, id, snapshot, tag, already string) error {
	if err := storage.CheckName("hold", tag); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, f, s, err := p.get(ctx, id, snapshot)
	if err != nil {
		return err
	}
	_, err = zfs(ctx, command, tag, f.name+"@"+s.Name)
	if err != nil && strings.Contains(err.Error(), already) {
		return nil
	}
	return err
}

// RenameSnapshot implements storage.Snapshots.
func (p *Pool) RenameSnapshot(ctx context.Context, id, from, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pic, err := p.near(ctx, []string{id})
	if err != nil {
		return err
	}
	f, err := pic.volume(id)
	if err != nil {
		return err
	}
	all, _ := pic.snapshots(f)
	if done, err := storage.CheckRename(all, id, from, to); done || err != nil {
		return err
	}
	if _, there := pic.get(f.name + "@" + to); there {
		return storage.NotOurs(f.name + "@" + to)
	}
	_, err = zfs(ctx, "rename", f.name+"@"+from, f.name+"@"+to)
	return err
}

// Forget implements storage.Snapshots.
func (p *Pool) Forget(ctx context.Context, id, snapshot string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pic, err := p.look(ctx)
	if err != nil {
		return err
	}
	f, s, err := pic.both(id, snapshot)
	if api.CodeOf(err) == api.CodeVolumeSnapshotNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	all, err := p.withHolds(ctx, pic, f, []storage.Snapshot{s})
	if err != nil {
		return err
	}
	if s = all[0]; len(s.Holds)+len(s.Clones) > 0 {
		return storage.SnapshotNeeded(s)
	}
	return done((&gozfs.Dataset{Name: f.name + "@" + s.Name}).Destroy(gozfs.DestroyDefault))
}

// Clone implements storage.Snapshots.
func (p *Pool) Clone(ctx context.Context, id, snapshot string, spec storage.Spec, kept bool) (storage.Volume, error) {
	if err := spec.Check(); err != nil {
		return storage.Volume{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pic, err := p.near(ctx, []string{id}, p.dataset(liveDir, spec.FileName()), p.dataset(keptDir, spec.ID), p.dataset(incomingDir, spec.ID))
	if err != nil {
		return storage.Volume{}, err
	}
	source, s, err := pic.both(id, snapshot)
	if err != nil {
		return storage.Volume{}, err
	}
	origin := &storage.Origin{Volume: id, Snapshot: snapshot, GUID: s.GUID}
	f, err := pic.volume(spec.ID)
	switch {
	case err != nil:
		f, err = p.clone(ctx, pic, source.name+"@"+snapshot, storage.Mark{Spec: spec, Origin: origin, Created: now()}, kept)
	case f.Origin == nil || *f.Origin != *origin:
		err = storage.NameTaken(f.Spec)
	}
	if err == nil && f.state == storage.StateLive {
		err = p.mount(f.name, spec)
	}
	if err != nil {
		return storage.Volume{}, err
	}
	return p.observe(f), nil
}

// clone makes a volume with its size and identity in one command. What it holds then is known without another look.
func (p *Pool) clone(ctx context.Context, pic picture, from string, m storage.Mark, kept bool) (found, error) {
	d, _ := pic.get(from)
	if err := storage.CheckShrink(m.Spec, d.number("referenced")); err != nil {
		return found{}, err
	}
	f := found{Mark: m, state: storage.StateLive, dataset: dataset{name: p.dataset(liveDir, m.FileName())}}
	if kept {
		f.state, f.name = storage.StateKept, p.dataset(keptDir, m.ID)
	}
	f.values = map[string]string{"referenced": d.text("referenced"), "usedbydataset": "0"}
	if err := pic.taken(f.name); err != nil {
		return found{}, err
	}
	properties, err := identity(m)
	if err != nil {
		return found{}, err
	}
	args := []string{"clone"} // that of go-zfs looks at the clone too, which is a command more
	for name, value := range properties {
		args = append(args, "-o", name+"="+value)
	}
	_, err = zfs(ctx, append(args, from, f.name)...)
	p.put(m.ID, f.name)
	return f, err
}

// Promote implements storage.Snapshots.
func (p *Pool) Promote(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, f, err := p.find(ctx, id)
	if err != nil {
		return err
	}
	out, err := zfs(ctx, "get", "-H", "-o", "value", "origin", f.name)
	if err != nil || strings.TrimSpace(out) == "-" {
		return err
	}
	_, err = zfs(ctx, "promote", f.name)
	return err
}
