package btrfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// Mount mounts a pool's file on a folder, which it makes. What is mounted as it should be is left alone, and so
// is everything else that is mounted there. The loop device goes by itself when the file is unmounted: nobody
// has to remember it. Errors: volume.pool-unavailable.
func Mount(file, folder string) error {
	mounted, err := isMounted(file, folder)
	if err != nil || mounted {
		return err
	}
	if err := os.MkdirAll(folder, 0o711); err != nil {
		return fileUnavailable(file, err)
	}
	device, err := attach(file)
	if err != nil {
		return fileUnavailable(file, err)
	}
	defer device.Close() // from the mount on, that is what keeps it
	// Access times would be writes, and a volume that was written takes no increments.
	if err := unix.Mount(device.Name(), folder, Backend, unix.MS_NOATIME|unix.MS_NODEV, ""); err != nil {
		return fileUnavailable(file, fmt.Errorf("mounting it: %w", err))
	}
	return nil
}

// Unmount takes the file away from its folder; safe where it is not there. Errors: volume.in-use.
func Unmount(file, folder string) error {
	mounted, err := isMounted(file, folder)
	if err != nil || !mounted {
		return err
	}
	err = unix.Unmount(folder, 0)
	if errors.Is(err, unix.EBUSY) {
		return api.Errorf(api.CodeVolumeInUse, "files of the pool are open").About(folder).Again().WithHint("who has them open: fuser -vm %s", folder)
	}
	return typed(err)
}

// isMounted says whether what is on top at a folder is the file. Errors: volume.pool-unavailable where it is
// something else.
func isMounted(file, folder string) (bool, error) {
	all, err := storage.OwnMounts()
	if err != nil {
		return false, fileUnavailable(file, err)
	}
	source := ""
	for _, m := range all {
		if m.Point == folder {
			source = m.Source
		}
	}
	if source == "" {
		return false, nil
	}
	want, err := identify(file)
	if err != nil {
		return false, fileUnavailable(file, err)
	}
	if have, err := backing(source); err != nil || have != want {
		return false, fileUnavailable(file, fmt.Errorf("%s is mounted at %s", source, folder))
	}
	return true, nil
}

func fileUnavailable(file string, err error) error {
	return api.Errorf(api.CodeVolumePoolUnavailable, "the pool's file %s cannot be used: %w", file, err).About(file).
		WithHint("look at it: systemctl status ployz-pool; journalctl -k --grep 'BTRFS|loop'; btrfs check --readonly %s", file)
}

// fileID is a file as the kernel names a loop device's backing file.
type fileID struct{ device, inode uint64 }

func identify(file string) (fileID, error) {
	var st unix.Stat_t
	err := unix.Stat(file, &st)
	return fileID{uint64(st.Dev), st.Ino}, err
}

// backing is the file that a loop device shows.
func backing(device string) (fileID, error) {
	f, err := os.Open(device)
	if err != nil {
		return fileID{}, err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return fileID{}, err
	}
	return fileID{info.Device, info.Inode}, nil
}

// attachTries bounds the race with whoever else takes the device that was free a moment ago.
const attachTries = 16

// attach opens the loop device that shows the file, or makes a free one show it. Two devices of one file would be
// two file systems that do not know of each other.
func attach(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	id, err := identify(file)
	if err != nil {
		return nil, err
	}
	if device, err := attached(id); device != nil || err != nil {
		return device, err
	}
	for try := 1; ; try++ {
		device, err := openFree()
		if err != nil {
			return nil, err
		}
		err = configure(device, f)
		if err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) || try == attachTries {
			return nil, fmt.Errorf("attaching it to %s: %w", device.Name(), err)
		}
	}
}

// attached finds the device that shows the file already, as after an unmount that somebody's open file outlived.
func attached(id fileID) (*os.File, error) {
	used, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, err
	}
	for _, dir := range used {
		number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(dir)), "loop"))
		if err != nil {
			continue
		}
		device, err := openLoop(number)
		if err != nil {
			continue // it went meanwhile
		}
		info, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
		if err == nil && (fileID{info.Device, info.Inode}) == id {
			return device, nil
		}
		device.Close()
	}
	return nil, nil
}

// configure shows the file with direct I/O where its file system can: else every block would be cached twice, and
// written when the kernel pleases. The kernel does without where that cannot be.
func configure(device, file *os.File) error {
	return unix.IoctlLoopConfigure(int(device.Fd()), &unix.LoopConfig{
		Fd: uint32(file.Fd()), Size: sectorBytes,
		Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO},
	})
}

// sectorBytes is what mkfs.btrfs takes by itself, and the most that disks ask of direct I/O.
const sectorBytes = 4096

func openFree() (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("the kernel has no loop devices: %w", err)
	}
	defer control.Close()
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("looking for a free loop device: %w", err)
	}
	return openLoop(number)
}

// loopMajor is the kernel's number for all loop devices.
const loopMajor = 7

// openLoop opens a loop device. Where nobody made its node, as in a container, it makes that.
func openLoop(number int) (*os.File, error) {
	path := "/dev/loop" + strconv.Itoa(number)
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return device, err
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(number)))); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("making %s: %w", path, err)
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}
