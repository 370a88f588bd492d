package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// Retire implements storage.Places.
func (p *Pool) Retire(_ context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, err := p.find(id)
	if err != nil || f.state == storage.StateKept {
		return err
	}
	if err := storage.CheckState(f.Spec, f.state, storage.StateLive); err != nil {
		return err
	}
	if err := p.vacate(id); err != nil {
		return err
	}
	return p.move(f.dir, p.path(keptDir, id))
}

// vacate moves a kept volume out of the folder of another's ID, where a swap that was cut short left it.
func (p *Pool) vacate(id string) error {
	other := found{dir: p.path(keptDir, id)}
	ok, err := readMark(other.dir, volumeMark, &other.Mark)
	if !ok || err != nil {
		return err
	}
	return p.tidyName(other)
}

// Restore implements storage.Places.
func (p *Pool) Restore(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, err := p.find(id)
	if err != nil || f.state == storage.StateLive {
		return err
	}
	if err := p.usable(ctx, f); err != nil {
		return err
	}
	return p.move(f.dir, p.path(liveDir, f.FileName()))
}

// usable makes a kept volume's data of what it received last, if it has none yet.
func (p *Pool) usable(ctx context.Context, f found) error {
	if err := storage.CheckState(f.Spec, f.state, storage.StateKept); err != nil {
		return err
	}
	if p.receiving[f.ID] {
		return storage.InUse(f.Spec, "a stream is arriving")
	}
	if isSubvolume(f.tree()) {
		return nil
	}
	snapshots, err := f.list()
	if err != nil {
		return err
	}
	if len(snapshots) == 0 {
		return api.Errorf(api.CodeVolumePoolFailed, "the volume %s has neither data nor snapshots", f.ID)
	}
	half := f.tree() + ".half"
	if err := deleteSubvolume(ctx, half); err != nil {
		return err
	}
	if err := snapshotSubvolume(f.snapshot(snapshots[len(snapshots)-1].Name)+"/data", half, 0); err != nil {
		return err
	}
	if err := errors.Join(p.limit(ctx, half, f.SizeBytes), own(half, f.Spec)); err != nil {
		return err
	}
	return typed(os.Rename(half, f.tree()))
}

// Swap implements storage.Places: both change places in one exchange of names. The folder that becomes kept
// still stands under the other's ID until it is renamed, which List does not mind: IDs come from the marks.
func (p *Pool) Swap(ctx context.Context, out, in string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	fo, err1 := p.find(out)
	fi, err2 := p.find(in)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if fo.state == storage.StateKept && fi.state == storage.StateLive {
		return p.tidyName(fo) // done before
	}
	if err := storage.CheckSwap(fo.Spec, fo.state, fi.Spec); err != nil {
		return err
	}
	if err := p.usable(ctx, fi); err != nil {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, fo.dir, unix.AT_FDCWD, fi.dir, unix.RENAME_EXCHANGE); err != nil {
		return typed(fmt.Errorf("exchanging %s and %s: %w", fo.dir, fi.dir, err))
	}
	fo.dir = fi.dir
	return p.tidyName(fo)
}

// tidyName moves a kept volume to the folder of its own ID.
func (p *Pool) tidyName(f found) error {
	if own := p.path(keptDir, f.ID); f.dir != own {
		return p.move(f.dir, own)
	}
	return p.settle()
}
