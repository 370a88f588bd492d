package mempool

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// Retire implements storage.Places.
func (p *Pool) Retire(_ context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.findLocked(id)
	if err != nil || v.state == storage.StateKept {
		return err
	}
	return p.turnLocked(v, storage.StateKept)
}

// Restore implements storage.Places.
func (p *Pool) Restore(_ context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.findLocked(id)
	if err != nil || v.state == storage.StateLive {
		return err
	}
	if other := p.liveLocked(v.Spec); other != nil {
		return storage.NameTaken(other.Spec)
	}
	return p.turnLocked(v, storage.StateLive)
}

// Swap implements storage.Places.
func (p *Pool) Swap(_ context.Context, out, in string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	o, err1 := p.findLocked(out)
	i, err2 := p.findLocked(in)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if o.state == storage.StateKept && i.state == storage.StateLive {
		return nil // done before
	}
	if err := storage.CheckSwap(o.Spec, o.state, i.Spec); err != nil {
		return err
	}
	if err := storage.CheckState(i.Spec, i.state, storage.StateKept); err != nil {
		return err
	}
	return errors.Join(p.turnLocked(o, storage.StateKept), p.turnLocked(i, storage.StateLive))
}

// turnLocked gives a volume another state, and its folder the place that goes with it.
func (p *Pool) turnLocked(v *volume, to storage.State) error {
	from := p.folder(v)
	v.state = to
	if p.root == "" {
		return nil
	}
	return typed(os.Rename(from, p.folder(v)))
}

// livePath is where the volume of a name is, as on a disk.
func (p *Pool) livePath(s storage.Spec) string {
	return filepath.Join("/", p.root, "volumes", s.FileName())
}

func (p *Pool) folder(v *volume) string {
	if v.state == storage.StateLive {
		return p.livePath(v.Spec)
	}
	return filepath.Join("/", p.root, "kept", v.ID)
}

func (p *Pool) snapshotFolder(id, name string) string {
	return filepath.Join("/", p.root, "snapshots", id, name)
}

func (p *Pool) makeFolder(path string) error {
	if p.root == "" {
		return nil
	}
	// The places for each state come with the first volume.
	for _, dir := range []string{path, filepath.Join(p.root, "volumes"), filepath.Join(p.root, "kept"), filepath.Join(p.root, "snapshots")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return typed(err)
		}
	}
	return nil
}

func (p *Pool) copyFolder(from, to string) error {
	if p.root == "" {
		return nil
	}
	return typed(os.CopyFS(to, os.DirFS(from)))
}

func (p *Pool) renameFolder(from, to string) error {
	if p.root == "" {
		return nil
	}
	return typed(os.Rename(from, to))
}

func (p *Pool) removeFolders(v *volume) error {
	if p.root == "" {
		return nil
	}
	return typed(errors.Join(os.RemoveAll(p.folder(v)), os.RemoveAll(filepath.Join(p.root, "snapshots", v.ID))))
}

func (p *Pool) own(spec storage.Spec) error {
	if p.root == "" {
		return nil
	}
	return typed(storage.Own(p.livePath(spec), spec))
}

// usedLocked is what a volume holds: what a test said, or its files.
func (p *Pool) usedLocked(v *volume) int64 {
	if p.root == "" {
		return p.used[v.ID]
	}
	return size(p.folder(v))
}

func size(dir string) (bytes int64) {
	walk := func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			bytes += st.Size()
		}
		return err
	}
	if err := filepath.WalkDir(dir, walk); err != nil {
		return 0
	}
	return bytes
}

func typed(err error) error {
	if err == nil {
		return nil
	}
	return api.Errorf(api.CodeVolumePoolFailed, "%w", err)
}
