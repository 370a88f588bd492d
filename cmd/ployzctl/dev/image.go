package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
)

// In a lab with disk images each machine's /var/lib/ployz is a file system of its own, in a file, so
// that its power can be cut: what the machine's kernel had not written to the disk is lost with it.

// imageBytes is how large the file system is. The file is sparse.
const imageBytes = 16 << 30

// freezeLimit is how long the processes of a machine may take to hold still.
const freezeLimit = 5 * time.Second

func image(disk string) string { return filepath.Join(disk, "ployz.img") }

// makeImage makes the file system of a machine that was never booted.
func makeImage(disk string) error {
	f, err := os.OpenFile(image(disk), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(imageBytes)
	f.Close()
	if err != nil {
		return err
	}
	said, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0", image(disk)).CombinedOutput()
	if err != nil {
		return api.Errorf(api.CodeDevHost, "the disk image: mkfs.ext4: %w: %s", err, strings.TrimSpace(string(said))).
			WithHint("apt-get install --no-install-recommends e2fsprogs")
	}
	return nil
}

// stopDisk lets a machine's image hear nothing any more, as when its power goes: first the processes
// are made to hold still, so that none of them lives to see its disk fail. The returned function is
// to be called when they are dead, and waits until the image is free.
func (l *lab) stopDisk(mounts cgroupMounts, machine string) (release func() error, err error) {
	if !fileExists(image(l.disk(machine))) {
		return func() error { return nil }, nil
	}
	root, err := l.openImage(mounts, machine)
	if err != nil || root == nil {
		return func() error { return nil }, err
	}
	if err := freeze(l.cgroup(mounts, machine)); err != nil {
		root.Close()
		return nil, err
	}
	if err := shutDown(root); err != nil {
		root.Close()
		return nil, errors.Join(fmt.Errorf("stopping the disk of %s: %w", machine, err), thaw(l.cgroup(mounts, machine)))
	}
	return func() error {
		root.Close()
		return l.awaitFree(machine)
	}, nil
}

// openImage opens the root of a machine's mounted image; nil when the machine is off. As what is to
// come kills a file system, it makes sure that this is the image's and no other.
func (l *lab) openImage(mounts cgroupMounts, machine string) (*os.File, error) {
	pids, err := members(l.cgroup(mounts, machine, "boot"))
	if err != nil || len(pids) == 0 {
		return nil, err
	}
	root, err := os.Open(fmt.Sprintf("/proc/%d/root%s", pids[0], filepath.Join(l.disk(machine), "ployz")))
	if err != nil {
		return nil, err
	}
	var mounted syscall.Stat_t
	if err := syscall.Fstat(int(root.Fd()), &mounted); err != nil {
		root.Close()
		return nil, err
	}
	if !l.isImage(machine, mounted.Dev) {
		root.Close()
		return nil, nil // it boots, and has not mounted it yet
	}
	return root, nil
}

// isImage says whether a device is the loop device of a machine's image.
func (l *lab) isImage(machine string, device uint64) bool {
	if unix.Major(device) != loopMajor {
		return false
	}
	ours := map[fileID]bool{}
	addFile(image(l.disk(machine)), ours)
	id, ok := loopBacking(unix.Minor(device))
	return ok && ours[id]
}

// freeze makes every process of a cgroup tree hold still. One that the kernel cannot stop within the
// limit is not waited for: its death does not wait either.
func freeze(folder string) error {
	if err := os.WriteFile(filepath.Join(folder, "cgroup.freeze"), []byte("1"), 0); err != nil {
		return err
	}
	_ = poll(context.Background(), freezeLimit, func() (bool, error) {
		text, err := os.ReadFile(filepath.Join(folder, "cgroup.events"))
		return strings.Contains(string(text), "frozen 1"), err
	})
	return nil
}

// thaw lets processes go on that nobody killed after all.
func thaw(folder string) error {
	return os.WriteFile(filepath.Join(folder, "cgroup.freeze"), []byte("0"), 0)
}

// shutDown stops a file system for good, with nothing of what it holds back written: ext4's own way to
// play a power cut (EXT4_IOC_SHUTDOWN without a flush of the journal).
func shutDown(root *os.File) error {
	const (
		request = 0x8004587d // _IOR('X', 125, __u32)
		noFlush = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
	)
	return unix.IoctlSetPointerInt(int(root.Fd()), request, noFlush)
}

// awaitFree waits until no loop device has a machine's image.
func (l *lab) awaitFree(machine string) error {
	backing := map[fileID]bool{}
	addFile(image(l.disk(machine)), backing)
	return poll(context.Background(), 30*time.Second, func() (bool, error) {
		return len(loopsOf(func(id fileID) bool { return backing[id] })) == 0, nil
	})
}
