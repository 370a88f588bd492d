package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/services"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs"
	"github.com/ployz/ployz/node/storage/zfs"
	"github.com/ployz/ployz/units"
)

// The pool is made once, by the operation that makes the machine a member; ployz-pool.service puts it back at each
// boot. The daemon never mounts anything itself: it opens what is there.

// openPool opens the pool that the machine has, and probes what it can.
func (d *Daemon) openPool(ctx context.Context) (storage.Pool, error) {
	s, err := storage.LoadSource(d.State)
	if err != nil {
		return nil, err
	}
	pool, err := openSource(ctx, s, d.State)
	if err != nil {
		e := *api.AsError(err)
		return nil, e.WithHint("see why: systemctl status ployz-pool; then: systemctl restart ployz-pool")
	}
	return pool, nil
}

func openSource(ctx context.Context, s storage.Source, state string) (storage.Pool, error) {
	if s.Kind == storage.SourceZFS {
		return zfs.Open(ctx, s.At, s.Folder(state))
	}
	return btrfs.Open(s.Folder(state))
}

// markSource makes what is mounted a pool of ours; one that is stays as it is.
func markSource(ctx context.Context, s storage.Source, state string) error {
	var err error
	if s.Kind == storage.SourceZFS {
		_, err = zfs.Create(ctx, s.At, s.Folder(state))
	} else {
		_, err = btrfs.Create(s.Folder(state))
	}
	return err
}

// poolUnit is the unit of the pool that the machine has; none where it has none.
func (d *Daemon) poolUnit() ([]services.Wanted, error) {
	s, err := storage.LoadSource(d.State)
	if err != nil {
		return nil, nil // doctor and status say why; nothing else waits for it
	}
	wanted := units.Pool{State: d.State}
	switch s.Kind {
	case storage.SourceLoop:
		wanted.Mount = s.Folder(d.State)
	case storage.SourceBtrfs:
		wanted.Foreign = s.At
	}
	unit, err := wanted.Render()
	if err != nil {
		return nil, badUnit(err)
	}
	return []services.Wanted{{Unit: unit}}, nil
}

// choosePool is the pool that the machine has, or else would get, and why that one. Errors: volume.invalid,
// machine.unfit (it cannot be what was asked for), volume.pool-unavailable.
func (h *host) choosePool(ctx context.Context) (s storage.Source, why string, err error) {
	d, asked := h.daemon, h.pool.Pool
	if asked == "" {
		asked = d.Settings.Volumes.Pool
	}
	if s, err = storage.LoadSource(d.State); api.CodeOf(err) != api.CodeVolumePoolAbsent {
		if err == nil {
			err = otherPool(h.pool.Pool, s)
		}
		return s, "the machine has it", err
	}
	s, why = storage.Source{Kind: storage.SourceLoop}, "the default"
	if asked != "" {
		why = "as asked for"
		if s, err = storage.ParseSource(asked); err != nil {
			return s, why, err
		}
	}
	if s.Kind == storage.SourceLoop {
		s.SizeBytes, err = h.fileSize()
	}
	if err == nil {
		err = needSource(ctx, s)
	}
	if err != nil && asked == "" {
		e := api.AsError(err)
		return storage.Source{Kind: storage.SourceNone}, fmt.Sprintf("%s; volumes cannot be here until: %s", e.Message, e.Hint), nil
	}
	return s, why, err
}

// otherPool refuses what was asked for where the machine has another pool.
func otherPool(asked string, has storage.Source) error {
	if asked == "" {
		return nil
	}
	s, err := storage.ParseSource(asked)
	if err == nil && s.String() != has.String() {
		err = unfit("pool", "this machine has the pool %s, and a pool is not changed for another", has).
			WithHint("leave --pool away to keep it")
	}
	return err
}

// fileSize is the size of a pool's file: as it was asked for, or half of what is free, in whole GiB where it has some.
func (h *host) fileSize() (int64, error) {
	if st, err := os.Stat(storage.Source{}.File(h.daemon.State)); err == nil {
		return st.Size(), nil // of an earlier membership
	}
	size := h.pool.PoolBytes
	if size == 0 {
		var err error
		if size, err = storage.ParseSize(h.daemon.Settings.Volumes.PoolSize); err != nil {
			return 0, err
		}
	}
	free, err := freeBytes(h.daemon.State)
	switch {
	case err != nil:
		return 0, unfit("pool", "%s: %v", h.daemon.State, err)
	case size == 0 && free/2 > 1<<30:
		size = free / 2 >> 30 << 30
	case size == 0:
		size = free / 2 >> 20 << 20
	}
	switch {
	case size < btrfs.MinFileBytes:
		return 0, unfit("pool", "a pool of %s: the least is %s, and %s are free in %s", sizeText(size), sizeText(btrfs.MinFileBytes), sizeText(free), h.daemon.State).
			WithHint("free some space")
	case size > free:
		return 0, unfit("pool", "a pool of %s: %s are free in %s", sizeText(size), sizeText(free), h.daemon.State).WithHint("ask for less: --pool-size")
	}
	return size &^ (1<<20 - 1), nil
}

// sizeText is a size in words: whole MiB where it is less than a GiB.
func sizeText(bytes int64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

func freeBytes(dir string) (int64, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(dir, &fs)
	return int64(fs.Bavail) * fs.Bsize, err
}

// needSource says what the machine lacks for a pool, or nil.
func needSource(ctx context.Context, s storage.Source) error {
	switch s.Kind {
	case storage.SourceNone:
		return nil
	case storage.SourceZFS:
		return zfs.Look(ctx, s.At)
	}
	for _, program := range []string{"btrfs", "mkfs.btrfs"} {
		if _, err := exec.LookPath(program); err != nil {
			return unfit("pool", "there is no program %s", program).WithHint("apt-get install btrfs-progs")
		}
	}
	if s.Kind == storage.SourceBtrfs {
		return btrfs.Look(s.At)
	}
	kernel, err := os.ReadFile("/proc/filesystems")
	if err != nil || !strings.Contains(string(kernel), "\tbtrfs\n") && exec.CommandContext(ctx, "modprobe", "--quiet", "--dry-run", "btrfs").Run() != nil {
		return unfit("pool", "the kernel has no Btrfs").WithHint("use a kernel that has it, or a ZFS pool: --pool zfs:DATASET")
	}
	if !exists("/dev/loop-control") {
		return unfit("pool", "the kernel has no loop devices").WithHint("modprobe loop")
	}
	return nil
}

// unfitPool is what stands in the way of the pool that was asked for, or nil.
func (h *host) unfitPool(ctx context.Context) *api.Error {
	_, _, err := h.choosePool(ctx)
	return api.AsError(err)
}

// Pool implements machine.Host.
func (h *host) Pool(ctx context.Context) (api.Change, error) {
	s, why, err := h.choosePool(ctx)
	change := api.Change{Action: "create", Subject: "pool", Reason: why}
	switch {
	case err != nil:
		change.To = "none" // refused, see Look
	case s.Kind == storage.SourceLoop:
		change.To = fmt.Sprintf("loop: %s of %s", s.File(h.daemon.State), sizeText(s.SizeBytes))
	default:
		change.To = s.String()
	}
	if _, err := storage.LoadSource(h.daemon.State); err == nil || s.Kind == storage.SourceNone {
		change.Action = "keep"
	}
	return change, nil
}

// makePool makes the pool, has its unit mount it, and marks it as ours. A file that is there is never formatted.
func (h *host) makePool(ctx context.Context) error {
	d := h.daemon
	s, _, err := h.choosePool(ctx)
	if err != nil || s.Kind == storage.SourceNone {
		return err
	}
	if err := d.newSource(ctx, s); err != nil {
		return err
	}
	wanted, err := d.poolUnit()
	if err == nil {
		err = h.start(ctx, wanted...)
	}
	if err != nil {
		return api.Errorf(api.CodeVolumePoolUnavailable, "the pool cannot be mounted: %w", err).About("pool").
			WithHint("see why: journalctl -u ployz-pool; or go without: --pool none")
	}
	err = markSource(ctx, s, d.State)
	d.pool.Reopen()
	return err
}

// newSource makes what the unit needs to mount the pool, its file or the dataset of a ZFS, and says that this is the pool.
// One that was made before is not made again, even where its file is gone: that is for an operator to look at.
func (d *Daemon) newSource(ctx context.Context, s storage.Source) error {
	if _, err := storage.LoadSource(d.State); api.CodeOf(err) != api.CodeVolumePoolAbsent {
		return err
	}
	var err error
	switch s.Kind {
	case storage.SourceLoop:
		err = btrfs.CreateFile(ctx, s.File(d.State), s.SizeBytes)
	case storage.SourceZFS:
		err = markSource(ctx, s, d.State)
	}
	if err != nil {
		return err
	}
	return s.Save(d.State)
}

// takePool takes the pool away from a machine that does not become a member, unless there are volumes in it, or
// nobody can say whether there are: then all of it stays.
func (h *host) takePool(ctx context.Context) error {
	d := h.daemon
	s, err := storage.LoadSource(d.State)
	if api.CodeOf(err) == api.CodeVolumePoolAbsent {
		return os.RemoveAll(storage.Source{}.File(d.State) + ".half")
	}
	if err != nil {
		return err
	}
	if pool, err := openSource(ctx, s, d.State); err == nil {
		if volumes, err := pool.List(ctx); err != nil || len(volumes) > 0 {
			return err
		}
	}
	wanted, err := d.poolUnit()
	if err != nil {
		return err
	}
	if err := d.units.Remove(ctx, unitNames(wanted)...); err != nil {
		return err
	}
	defer d.pool.Reopen()
	if s.Kind == storage.SourceLoop {
		if err := dropFile(s, d.State); err != nil {
			return err
		}
	}
	return storage.RemoveSource(d.State)
}

// dropFile unmounts the pool's file and removes it.
func dropFile(s storage.Source, state string) error {
	folder, file := s.Folder(state), s.File(state)
	if err := unix.Unmount(folder, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return api.Errorf(api.CodeInternal, "unmounting the pool: %w", err).About(folder).WithHint("who has it open: fuser -vm %s", folder)
	}
	for _, path := range []string{folder, file} {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return api.Errorf(api.CodeInternal, "removing the pool: %w", err).About(path)
		}
	}
	return nil
}

// adoptPool makes the pool of a member that has none, where its settings name one: that is how a machine from before
// there were pools gets one. What is there is adopted by its unit.
func (d *Daemon) adoptPool(ctx context.Context) []api.Adoption {
	_, err := storage.LoadSource(d.State)
	if api.CodeOf(err) != api.CodeVolumePoolAbsent || d.Settings.Volumes.Pool == "" || d.Settings.Volumes.Pool == string(storage.SourceNone) {
		return nil
	}
	a := api.Adoption{Unit: "pool " + d.Settings.Volumes.Pool, Verdict: string(services.Create), Reasons: []string{"the settings name it"}}
	if err := d.host.makePool(ctx); err != nil {
		a.Verdict, a.Error = string(services.Leave), api.AsError(err)
		a.Reasons = append(a.Reasons, err.Error())
		d.Log.Warn("the pool was not made", "error", err)
	}
	return []api.Adoption{a}
}

// checkPool looks at the pool, at each volume's mark, and at whether the disk under a pool's file can give what that
// may still ask for.
func (d *Daemon) checkPool(ctx context.Context) api.Check {
	s, volumes := observePool(ctx, d.pool)
	switch s.State {
	case api.StateAbsent:
		return api.Check{Name: "pool", Result: api.CheckWarning, Seen: "none", Error: s.Error}
	case api.StateDown:
		return check("pool", s.State, s.Error)
	}
	seen := fmt.Sprintf("%s at %s: %s free of %s, %s promised to %d volumes", s.Backend, s.Pool, sizeText(s.FreeBytes), sizeText(s.SizeBytes), sizeText(s.PromisedBytes), len(volumes))
	var damaged []*api.Error
	for _, v := range volumes {
		if v.Problem != nil {
			damaged = append(damaged, api.AsError(v.Problem))
		}
	}
	if len(damaged) > 0 {
		c := check("pool", seen, damaged[0])
		if len(damaged) > 1 {
			c.Error = api.Errorf(api.CodeVolumePoolFailed, "%d volumes cannot be looked at", len(damaged)).About("pool").WithHint("ployzctl volume ls")
			c.Error.Details = damaged
		}
		return c
	}
	if source, err := storage.LoadSource(d.State); err == nil && source.Kind == storage.SourceLoop {
		if short, err := btrfs.Shortage(source.File(d.State)); err == nil && short > 0 {
			return api.Check{Name: "pool", Result: api.CheckWarning, Seen: seen, Error: unfit(source.File(d.State),
				"the disk under it has %s less than it may still ask for; volumes would fail before they are full", sizeText(short)).
				WithHint("free some space in %s, as with: ployzctl image prune", d.State)}
		}
	}
	if err := nearlyFull(s); err != nil {
		return api.Check{Name: "pool", Result: api.CheckWarning, Seen: seen, Error: err}
	}
	return check("pool", seen, d.poolDoubt(ctx))
}

// nearlyFull warns of a pool with less than a twentieth free: whatever has no size may then fill it for all, and both file
// systems get slow.
func nearlyFull(s api.PoolStatus) *api.Error {
	if s.FreeBytes >= s.SizeBytes/20 {
		return nil
	}
	return api.Errorf(api.CodeVolumeNoSpace, "it has %s free of %s: volumes may not be able to write", sizeText(s.FreeBytes), sizeText(s.SizeBytes)).About("pool").
		WithHint("destroy what was removed: ployzctl volume prune; or move some: ployzctl migrate; or make the pool larger")
}

// poolDoubt is why sizes do not bite; nil where they do.
func (d *Daemon) poolDoubt(ctx context.Context) *api.Error {
	p, err := d.pool.Open(ctx)
	if b, is := p.(*btrfs.Pool); is && err == nil {
		return api.AsError(b.Doubt(ctx))
	}
	return nil
}
