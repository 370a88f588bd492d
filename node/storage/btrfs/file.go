package btrfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
)

// MinFileBytes is the least size of a pool in a file: a Btrfs file system's own needs are a good part of less.
const MinFileBytes = 256 << 20

// CreateFile makes a file with an empty Btrfs file system for a pool, on a machine that has none. It is sparse:
// it takes the disk's space only as volumes are written, so that what else lies there, images and the store, is
// not crowded out by an empty pool; doctor says when the disk could not give what the file may still ask for.
// A file that is there is left as it is. Errors: volume.no-space (more than is free now), volume.invalid,
// volume.pool-failed.
func CreateFile(ctx context.Context, path string, sizeBytes int64) error {
	if sizeBytes < MinFileBytes {
		return api.Errorf(api.CodeVolumeInvalid, "a pool of %d bytes: the least is %d", sizeBytes, MinFileBytes)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return typed(err)
	}
	half := path + ".half"
	if err := os.RemoveAll(half); err != nil {
		return typed(err)
	}
	err := sparse(half, sizeBytes)
	if err == nil {
		err = format(ctx, half)
	}
	if err == nil {
		err = publishFile(half, path)
	}
	if err != nil {
		return errors.Join(err, typed(os.RemoveAll(half)))
	}
	return nil
}

// sparse makes the file, unless the disk could not hold all of it now.
func sparse(path string, sizeBytes int64) error {
	free, err := freeBytes(filepath.Dir(path))
	if err != nil {
		return typed(err)
	}
	if sizeBytes > free {
		return api.Errorf(api.CodeVolumeNoSpace, "a pool of %d bytes: %s has %d free", sizeBytes, filepath.Dir(path), free).
			WithHint("ask for less: --pool-size")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return typed(err)
	}
	defer f.Close()
	if isBtrfs(path) == nil {
		// Copying twice on write would fragment it, and this can only be said of an empty file. Where it is
		// refused the pool is slower, and no less safe.
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, noCopyOnWrite)
	}
	return typed(f.Truncate(sizeBytes))
}

// noCopyOnWrite is FS_NOCOW_FL of linux/fs.h.
const noCopyOnWrite = 0x00800000

// publishFile gives the file its name once every byte of it is on the disk.
func publishFile(half, path string) error {
	f, err := os.Open(half)
	if err != nil {
		return typed(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return typed(err)
	}
	if err := os.Rename(half, path); err != nil {
		return typed(err)
	}
	return typed(durable.SyncFolder(filepath.Dir(path)))
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return int64(st.Bavail) * st.Bsize, err
}

func format(ctx context.Context, path string) error {
	out, err := exec.CommandContext(ctx, "mkfs.btrfs", "--quiet", "--label", "ployz", path).CombinedOutput()
	if err != nil {
		return api.Errorf(api.CodeVolumePoolFailed, "mkfs.btrfs: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Shortage is how many bytes a file may still ask of its disk beyond what that has free; 0 where it has enough.
func Shortage(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, typed(err)
	}
	free, err := freeBytes(filepath.Dir(path))
	return max(0, st.Size-st.Blocks*512-free), typed(err)
}
