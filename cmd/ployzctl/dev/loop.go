package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Loop devices belong to the whole computer, so one that a machine attached outlives it. A real
// machine's end with its power, and a lab's shall too. They go by their numbers in here, since a
// kernel may have more of them than /dev has nodes, as in a container.

// loopMajor is the kernel's number for all loop devices.
const loopMajor = 7

// loops returns the loop devices whose backing file is on a disk of the given machines.
func (l *lab) loops(machines ...string) []uint32 { return loopsOf(l.backing(machines)) }

// loopsOf returns the loop devices whose backing file is one of somebody's.
func loopsOf(owned func(fileID) bool) []uint32 {
	var mine []uint32
	devices, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil
	}
	for _, sys := range devices {
		name := filepath.Base(filepath.Dir(sys))
		number, err := strconv.ParseUint(strings.TrimPrefix(name, "loop"), 10, 20)
		if err != nil {
			continue
		}
		if id, ok := loopBacking(uint32(number)); ok && owned(id) {
			mine = append(mine, uint32(number))
		}
	}
	return mine
}

// openLoop opens a loop device, by a node of our own where /dev has none.
func openLoop(number uint32) (*os.File, error) {
	f, err := os.Open(fmt.Sprintf("/dev/loop%d", number))
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	dir, err := os.MkdirTemp(stateRoot(), ".loop")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	node := filepath.Join(dir, "loop")
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, number))); err != nil {
		return nil, err
	}
	return os.Open(node)
}

// fileID is a file's device and inode, as the kernel names a loop device's backing file.
type fileID struct{ dev, ino uint64 }

// loopBacking returns the file behind a loop device, if there is one.
func loopBacking(number uint32) (fileID, bool) {
	f, err := openLoop(number)
	if err != nil {
		return fileID{}, false
	}
	defer f.Close()
	st, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return fileID{}, false
	}
	return fileID{st.Device, st.Inode}, true
}

// backing answers whether a file is on a machine's disk: on a running machine's overlay or mounted
// image, which are devices of their own, or one of the files of its /var/lib/ployz.
func (l *lab) backing(machines []string) func(fileID) bool {
	devices, files := map[uint64]bool{}, map[fileID]bool{}
	for _, m := range machines {
		var st syscall.Stat_t
		if leader, err := l.leader(m); err == nil && leader != 0 {
			root := fmt.Sprintf("/proc/%d/root", leader)
			if syscall.Stat(root+"/etc", &st) == nil {
				devices[st.Dev] = true
			}
			if syscall.Stat(root+"/var/lib/ployz", &st) == nil && l.isImage(m, st.Dev) {
				devices[st.Dev] = true
			}
		}
		collectFiles(filepath.Join(l.disk(m), "ployz"), files)
	}
	return func(id fileID) bool { return devices[id.dev] || files[id] }
}

// collectFiles adds every file below a folder.
func collectFiles(folder string, files map[fileID]bool) {
	// What vanishes under the walk, while the machine runs, backs nothing.
	_ = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			addFile(path, files)
		}
		return nil
	})
}

// addFile adds one file, if it is there.
func addFile(path string, files map[fileID]bool) {
	var st syscall.Stat_t
	if syscall.Lstat(path, &st) == nil {
		files[fileID{st.Dev, st.Ino}] = true
	}
}

// detach lets loop devices go. One that is still mounted somewhere goes when that mount does.
func detach(numbers []uint32) {
	for _, number := range numbers {
		f, err := openLoop(number)
		if err != nil {
			continue
		}
		// Only "not attached" can come back, which is what is wanted.
		_ = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
		f.Close()
	}
}
