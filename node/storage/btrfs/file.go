package btrfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
)

// MinFileBytes is the least size of a pool in a file: a Btrfs file system's own needs are a good part of less.
const MinFileBytes = 256 << 20

// CreateFile makes a file with an empty Btrfs file system for a pool, on a machine that has none. Its space
// is set aside at once, so that the pool never finds less than it promised. A file that is there is left as
// it is. Errors: volume.no-space, volume.invalid, volume.pool-failed.
func CreateFile(ctx context.Context, path string, sizeBytes int64) error {
	if sizeBytes < MinFileBytes {
		return api.Errorf(api.CodeVolumeInvalid, "a pool of %d bytes: the least is %d", sizeBytes, MinFileBytes)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	half := path + ".half"
	if err := os.RemoveAll(half); err != nil {
		return typed(err)
	}
	err := setAside(half, sizeBytes)
	if err == nil {
		err = format(ctx, half)
	}
	if err == nil {
		err = typed(os.Rename(half, path))
	}
	if err != nil {
		return errors.Join(err, typed(os.RemoveAll(half)))
	}
	return nil
}

func setAside(path string, sizeBytes int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return typed(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, sizeBytes); err != nil {
		return typed(err)
	}
	return typed(f.Sync())
}

func format(ctx context.Context, path string) error {
	out, err := exec.CommandContext(ctx, "mkfs.btrfs", "--quiet", "--label", "ployz", path).CombinedOutput()
	if err != nil {
		return api.Errorf(api.CodeVolumePoolFailed, "mkfs.btrfs: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
