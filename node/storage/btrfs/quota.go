package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// A volume's size is the limit of its sub-volume's quota group. Groups make every commit of a file system dear where
// volumes have snapshots, so that a pool has none until a volume with a size comes. They are of the whole file system, and
// whoever turned them on, we do not turn them off.
//
// A kernel in doubt about its counts marks them inconsistent, as it does when it drops a large snapshot, and from then on
// counts nothing and limits nothing. Then it has to count anew, which it does beside everything else.

// limit sets the most that a sub-volume may hold; 0 takes it away. It waits only where there were no groups.
func (p *Pool) limit(ctx context.Context, path string, sizeBytes int64) error {
	switch on := p.quotas(); {
	case !on && sizeBytes == 0:
		return nil
	case !on:
		if err := p.counts(ctx); err != nil {
			return err
		}
	case sizeBytes > 0:
		p.trust()
	}
	return setLimit(ctx, path, sizeBytes)
}

func setLimit(ctx context.Context, path string, sizeBytes int64) error {
	size := "none"
	if sizeBytes > 0 {
		size = strconv.FormatInt(sizeBytes, 10)
	}
	_, err := btrfs(ctx, "qgroup", "limit", size, path)
	return err
}

// sized are the volumes with a size.
func (p *Pool) sized() ([]found, error) {
	all, err := p.all()
	return slices.DeleteFunc(all, func(f found) bool { return f.SizeBytes == 0 }), err
}

// counts has the file system count, and waits until it has counted what there is. The limits of all volumes are set anew
// where it had not before: they went with the groups.
func (p *Pool) counts(ctx context.Context) error {
	if p.quotas() {
		return p.recounted(ctx)
	}
	if _, err := btrfs(ctx, "quota", "enable", p.root); err != nil {
		return err
	}
	if err := p.recounted(ctx); err != nil {
		return err
	}
	sized, err := p.sized()
	for _, f := range sized {
		if err == nil && f.damaged == nil && isSubvolume(f.tree()) {
			err = setLimit(ctx, f.tree(), f.SizeBytes)
		}
	}
	return err
}

// recounted has what is doubtful counted anew, and waits; a count that runs already is waited for.
func (p *Pool) recounted(ctx context.Context) error {
	if !p.doubtful() {
		return nil
	}
	_, err := btrfs(ctx, "quota", "rescan", "-w", p.root)
	return err
}

// ask is how a pool asks its file system.
func (p *Pool) ask(request uintptr, args unsafe.Pointer) error {
	dir, err := os.Open(p.root)
	if err != nil {
		return p.unavailable(err)
	}
	defer dir.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), request, uintptr(args)); errno != 0 {
		return errno
	}
	return nil
}

// kernelFS is struct btrfs_ioctl_fs_info_args of linux/btrfs.h.
type kernelFS struct {
	_, _ uint64
	uuid [16]byte
	_    [1024 - 32]byte
}

const (
	// askFS is BTRFS_IOC_FS_INFO, askRescan BTRFS_IOC_QUOTA_RESCAN of struct btrfs_ioctl_quota_rescan_args.
	askFS     = 2<<30 | unsafe.Sizeof(kernelFS{})<<16 | 0x94<<8 | 31
	askRescan = 1<<30 | 64<<16 | 0x94<<8 | 44
	// askCounting is BTRFS_IOC_QUOTA_RESCAN_STATUS of the same.
	askCounting = 2<<30 | 64<<16 | 0x94<<8 | 45
)

// groups is where the kernel tells of the quota groups; there is no such folder while there are none.
func (p *Pool) groups() (string, error) {
	var fs kernelFS
	if err := p.ask(askFS, unsafe.Pointer(&fs)); err != nil {
		return "", typed(fmt.Errorf("asking for the file system of %s: %w", p.root, err))
	}
	return filepath.Join("/sys/fs/btrfs", uuidText(fs.uuid), "qgroups"), nil
}

// quotas says whether the file system has quota groups.
func (p *Pool) quotas() bool {
	dir, err := p.groups()
	if err != nil {
		return false
	}
	_, err = os.Stat(dir)
	return err == nil
}

// doubtful says whether the kernel counts no more.
func (p *Pool) doubtful() bool {
	dir, err := p.groups()
	if err != nil {
		return false
	}
	text, err := os.ReadFile(filepath.Join(dir, "inconsistent"))
	return err == nil && strings.TrimSpace(string(text)) == "1"
}

// counting says whether the kernel counts anew.
func (p *Pool) counting() bool {
	args := [8]uint64{} // flags, progress
	return p.ask(askCounting, unsafe.Pointer(&args)) == nil && args[0] != 0
}

// trust has the kernel count anew where it does not, if a volume has a size: else nobody relies on it. Nobody waits.
func (p *Pool) trust() {
	if !p.doubtful() {
		return
	}
	if sized, err := p.sized(); err == nil && len(sized) > 0 {
		args := [8]uint64{}
		_ = p.ask(askRescan, unsafe.Pointer(&args)) // another may have begun it; if it fails, Doubt goes on saying so
	}
}

// Doubt says why the sizes of live volumes do not bite at present; nil where they do, or there are none. Errors:
// volume.size-unenforced, volume.pool-failed.
func (p *Pool) Doubt(ctx context.Context) error {
	sized, err := p.sized()
	live := slices.DeleteFunc(sized, func(f found) bool { return f.state != storage.StateLive || f.damaged != nil })
	switch {
	case err != nil || len(live) == 0:
		return err
	case !p.quotas():
		return p.unenforced("the quotas of the file system are off, and %d volumes have a size", len(live)).
			WithHint("deploy what has such a volume again: ployzctl deploy")
	case p.counting():
		return p.unenforced("the kernel is counting what %d volumes with a size hold", len(live)).
			Again().WithHint("how far it is: btrfs quota rescan -s %s", p.root)
	case p.doubtful():
		return p.unenforced("the kernel lost count of what %d volumes with a size hold", len(live)).
			Again().WithHint("the next change to the pool has it count; or now: btrfs quota rescan %s", p.root)
	}
	return p.unlimited(ctx, live)
}

func (p *Pool) unenforced(format string, args ...any) *api.Error {
	return api.Errorf(api.CodeVolumeUnenforced, format+": no size is enforced", args...).About(p.root)
}

// unlimited names the volumes whose size is not the limit of their group, as after the groups were off for a while.
func (p *Pool) unlimited(ctx context.Context, sized []found) error {
	all, err := readGroups(ctx, p.root)
	var names []string
	for _, f := range sized {
		v, seen := show(f.tree())
		err = errors.Join(err, seen)
		if all[v.id].mostBytes != f.SizeBytes {
			names = append(names, f.FullName())
		}
	}
	if err != nil || len(names) == 0 {
		return err
	}
	return api.Errorf(api.CodeVolumeUnenforced, "the file system does not limit %s to their size", strings.Join(names, ", ")).
		About(p.root).WithHint("deploy what has these volumes again: ployzctl deploy")
}

// holds is what a sub-volume has: with a limit, what counts for that, as far as the kernel is sure.
func (p *Pool) holds(ctx context.Context, path string, limited bool, count func(string) (counted, error)) (counted, error) {
	c, err := count(path)
	if err != nil || !limited || !p.quotas() || p.doubtful() {
		return c, err
	}
	used, err := referenced(ctx, path)
	if err == nil {
		c.used = used
	}
	return c, err
}

// group is a sub-volume's quota group: what it counts, and its limit; 0 is none.
type group struct{ referenced, mostBytes int64 }

// readGroups reads the groups by the ids of their sub-volumes: of a whole file system, or with -f of one sub-volume.
func readGroups(ctx context.Context, which ...string) (map[uint64]group, error) {
	out, err := btrfs(ctx, append([]string{"qgroup", "show", "--raw", "-re"}, which...)...)
	if err != nil {
		return nil, err
	}
	all := map[uint64]group{}
	for line := range strings.Lines(out) {
		// qgroupid, referenced, exclusive, most referenced, most exclusive
		f := strings.Fields(line)
		if len(f) < 5 || !strings.HasPrefix(f[0], "0/") {
			continue
		}
		id, e1 := strconv.ParseUint(f[0][2:], 10, 64)
		referenced, e2 := strconv.ParseInt(f[1], 10, 64)
		most, e3 := int64(0), error(nil)
		if f[3] != "none" {
			most, e3 = strconv.ParseInt(f[3], 10, 64)
		}
		if err := errors.Join(e1, e2, e3); err != nil {
			return nil, typed(fmt.Errorf("btrfs qgroup show printed %q: %w", line, err))
		}
		all[id] = group{referenced, most}
	}
	return all, nil
}

// referenced is what a sub-volume's quota group counts.
func referenced(ctx context.Context, path string) (int64, error) {
	v, err := show(path)
	if err != nil {
		return 0, err
	}
	all, err := readGroups(ctx, "-f", path)
	if g, ok := all[v.id]; ok || err != nil {
		return g.referenced, err
	}
	return 0, typed(errors.New("btrfs has no quota group for " + path))
}
