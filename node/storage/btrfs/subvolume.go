package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
)

// firstInode is the inode number of every sub-volume's root folder, and of no other folder.
const firstInode = 256

// isSubvolume reports whether a path is a sub-volume's root.
func isSubvolume(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Ino == firstInode && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// subvolume is what the file system says of one.
type subvolume struct {
	id                 uint64
	uuid, receivedUUID string // "" is none
	// generation is the last transaction that changed it, born the one that made it.
	generation, born uint64
}

// kernelSubvolume is struct btrfs_ioctl_get_subvol_info_args of linux/btrfs.h.
type kernelSubvolume struct {
	id                    uint64
	_                     [256]byte
	_, _                  uint64
	generation, _         uint64
	uuid, _, receivedUUID [16]byte
	_, born               uint64
	_                     [2 + 8 + 8]uint64
}

// askSubvolume is BTRFS_IOC_GET_SUBVOL_INFO.
const askSubvolume = 2<<30 | unsafe.Sizeof(kernelSubvolume{})<<16 | 0x94<<8 | 60

// guid is the same for a snapshot and for what was received from it.
func (s subvolume) guid() string {
	if s.receivedUUID != "" {
		return s.receivedUUID
	}
	return s.uuid
}

// show asks the kernel and not the command, which takes ten times as long to begin.
func show(path string) (subvolume, error) {
	if !isSubvolume(path) { // the kernel would tell of the one around it
		return subvolume{}, api.Errorf(api.CodeVolumePoolFailed, "%s is no sub-volume", path)
	}
	dir, err := os.Open(path)
	if err != nil {
		return subvolume{}, typed(err)
	}
	defer dir.Close()
	var seen kernelSubvolume
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), askSubvolume, uintptr(unsafe.Pointer(&seen))); errno != 0 {
		return subvolume{}, typed(fmt.Errorf("asking for the sub-volume %s: %w", path, errno))
	}
	return subvolume{seen.id, uuidText(seen.uuid), uuidText(seen.receivedUUID), seen.generation, seen.born}, nil
}

// uuidText is as the commands of Btrfs write it.
func uuidText(id [16]byte) string {
	if id == [16]byte{} {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// kernelSnapshot is struct btrfs_ioctl_vol_args_v2 of linux/btrfs.h.
type kernelSnapshot struct {
	from  int64 // a descriptor
	_     uint64
	flags uint64
	_     [4]uint64
	name  [4040]byte
}

const (
	// makeSnapshot is BTRFS_IOC_SNAP_CREATE_V2.
	makeSnapshot = 1<<30 | unsafe.Sizeof(kernelSnapshot{})<<16 | 0x94<<8 | 23
	// snapshotReadOnly is BTRFS_SUBVOL_RDONLY.
	snapshotReadOnly = 1 << 1
)

// snapshotSubvolume makes one that begins as another, which is durable then. It asks the kernel and not the command, as
// show does.
func snapshotSubvolume(from, to string, flags uint64) error {
	source, err := os.Open(from)
	if err != nil {
		return typed(err)
	}
	defer source.Close()
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return typed(err)
	}
	defer dir.Close()
	args := kernelSnapshot{from: int64(source.Fd()), flags: flags}
	copy(args.name[:len(args.name)-1], filepath.Base(to))
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), makeSnapshot, uintptr(unsafe.Pointer(&args))); errno != 0 {
		return typed(fmt.Errorf("a snapshot of %s: %w", from, errno))
	}
	return nil
}

// deleteSubvolume deletes one for good; one that is not there is no error.
func deleteSubvolume(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	_, err := btrfs(ctx, "subvolume", "delete", "--commit-after", path)
	return err
}
