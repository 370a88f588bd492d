package dev

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Loop devices belong to the whole computer, so one that a machine attached outlives it. A real
// machine's end with its power, and a lab's shall too.

// loops returns the loop devices whose backing file is on a disk of the given machines.
func (l *lab) loops(machines ...string) []string {
	var mine []string
	devices, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil || len(devices) == 0 {
		return nil
	}
	owned := l.backing(machines)
	for _, sys := range devices {
		device := "/dev/" + filepath.Base(filepath.Dir(sys))
		if id, ok := loopBacking(device); ok && owned(id) {
			mine = append(mine, device)
		}
	}
	return mine
}

// fileID is a file's device and inode, as the kernel names a loop device's backing file.
type fileID struct{ dev, ino uint64 }

func loopBacking(device string) (fileID, bool) {
	f, err := os.Open(device)
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

// backing answers whether a file is on a machine's disk: on a running machine's overlay, which is
// a device of its own, or one of the files of its /var/lib/ployz.
func (l *lab) backing(machines []string) func(fileID) bool {
	overlays, files := map[uint64]bool{}, map[fileID]bool{}
	for _, m := range machines {
		var st syscall.Stat_t
		if leader, err := l.leader(m); err == nil && leader != 0 && syscall.Stat(fmt.Sprintf("/proc/%d/root/etc", leader), &st) == nil {
			overlays[st.Dev] = true
		}
		collectFiles(filepath.Join(l.disk(m), "ployz"), files)
	}
	return func(id fileID) bool { return overlays[id.dev] || files[id] }
}

// collectFiles adds every file below a folder.
func collectFiles(folder string, files map[fileID]bool) {
	// What vanishes under the walk, while the machine runs, backs nothing.
	_ = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		var st syscall.Stat_t
		if err == nil && d.Type().IsRegular() && syscall.Lstat(path, &st) == nil {
			files[fileID{st.Dev, st.Ino}] = true
		}
		return nil
	})
}

// detach lets loop devices go. One that is still mounted somewhere goes when that mount does.
func detach(devices []string) {
	for _, device := range devices {
		f, err := os.Open(device)
		if err != nil {
			continue
		}
		// Only "not attached" can come back, which is what is wanted.
		_ = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
		f.Close()
	}
}
