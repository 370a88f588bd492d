package zfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	gozfs "github.com/mistifyio/go-zfs/v3"
	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/storage"
)

func (p *Pool) mountPoint(s storage.Spec) string { return filepath.Join(p.mounts, s.FileName()) }

// mount mounts a live volume, if it is not, and gives its root folder what was asked for.
func (p *Pool) mount(name string, s storage.Spec) error {
	point := p.mountPoint(s)
	at, err := mountedAt(point)
	switch {
	case err != nil:
		return typed(err)
	case at != "" && at != name:
		return storage.NotOurs(point)
	case at == "":
		err = errors.Join(os.MkdirAll(point, 0o700), unix.Mount(name, point, Backend, 0, ""))
	}
	if err == nil {
		err = storage.Own(point, s)
	}
	return typed(err)
}

// mountedAt is what is mounted on top at a path; "" if nothing is.
func mountedAt(point string) (source string, err error) {
	all, err := storage.OwnMounts()
	for _, m := range all {
		if m.Point == point {
			source = m.Source
		}
	}
	return source, err
}

func (p *Pool) unmount(f found) error {
	point := p.mountPoint(f.Spec)
	at, err := mountedAt(point)
	if err != nil || at != f.name {
		return typed(err)
	}
	if err := unix.Unmount(point, 0); err != nil {
		if errors.Is(err, unix.EBUSY) {
			return storage.InUse(f.Spec, "a process has files of it open")
		}
		return typed(err)
	}
	if err := os.Remove(point); !errors.Is(err, os.ErrNotExist) {
		return typed(err)
	}
	return nil
}

// rename gives a volume's dataset another name, and notes it.
func (p *Pool) rename(id, from, to string) error {
	_, err := (&gozfs.Dataset{Name: from}).Rename(to, false, false)
	if err == nil {
		p.put(id, to)
	}
	return done(err)
}

// Retire implements storage.Places.
func (p *Pool) Retire(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, f, err := p.findNear(ctx, id)
	if err != nil || f.state == storage.StateKept {
		return err
	}
	if err := storage.CheckState(f.Spec, f.state, storage.StateLive); err != nil {
		return err
	}
	return p.retire(f)
}

// retire renames before anything else can mount it again; a dataset without its mount stays live.
func (p *Pool) retire(f found) error {
	if err := p.unmount(f); err != nil {
		return err
	}
	return p.rename(f.ID, f.name, p.dataset(keptDir, f.ID))
}

// Restore implements storage.Places.
func (p *Pool) Restore(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pic, f, err := p.find(ctx, id)
	if err != nil {
		return err
	}
	if f.state == storage.StateLive {
		return p.mount(f.name, f.Spec)
	}
	if err := pic.taken(p.dataset(liveDir, f.FileName())); err != nil {
		return err
	}
	return p.restore(f)
}

func (p *Pool) restore(f found) error {
	if err := storage.CheckState(f.Spec, f.state, storage.StateKept); err != nil {
		return err
	}
	if p.receiving[f.ID] || f.text("receive_resume_token") != "" {
		return storage.InUse(f.Spec, "a stream is arriving, or broke off: abandon it")
	}
	live := p.dataset(liveDir, f.FileName())
	if err := p.rename(f.ID, f.name, live); err != nil {
		return err
	}
	return p.mount(live, f.Spec)
}

// Swap implements storage.Places. Two renames are not one: the volume that goes out carries the name of the
// one that comes in until that has its place, so that a swap cut short between them is gone on with.
func (p *Pool) Swap(ctx context.Context, out, in string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pic, fo, err1 := p.find(ctx, out)
	if err1 != nil {
		return err1
	}
	fi, err := pic.volume(in)
	if err != nil {
		return err
	}
	next, begun := fo.marked(swapProperty)
	begun = begun && next == in
	switch {
	case fo.state == storage.StateKept && fi.state == storage.StateLive:
		return p.swapped(ctx, fo, begun)
	case fo.state == storage.StateKept && begun:
	default:
		if err := storage.CheckSwap(fo.Spec, fo.state, fi.Spec); err != nil {
			return err
		}
		if err := storage.CheckState(fi.Spec, fi.state, storage.StateKept); err != nil {
			return err
		}
		if err := done((&gozfs.Dataset{Name: fo.name}).SetProperty(swapProperty, in)); err != nil {
			return err
		}
		if err := p.retire(fo); err != nil {
			return err
		}
		fo.name = p.dataset(keptDir, out)
	}
	if err := p.restore(fi); err != nil {
		return err
	}
	return p.swapped(ctx, fo, true)
}

func (p *Pool) swapped(ctx context.Context, out found, begun bool) error {
	if !begun {
		return nil
	}
	_, err := zfs(ctx, "inherit", swapProperty, out.name)
	return err
}
