package btrfs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage/btrfs"
	"github.com/ployz/ployz/node/storage/storagetest"
)

// poolFile makes a pool's file, and names a folder to mount it on.
func poolFile(t *testing.T) (file, folder string) {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	dir := t.TempDir()
	file, folder = filepath.Join(dir, "pool.img"), filepath.Join(dir, "pool")
	storagetest.Must(t, btrfs.CreateFile(t.Context(), file, btrfs.MinFileBytes))
	t.Cleanup(func() { storagetest.Must(t, btrfs.Unmount(file, folder)) })
	return file, folder
}

// devicesOf are the loop devices that show a file.
func devicesOf(t *testing.T, file string) (names []string) {
	t.Helper()
	used, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	storagetest.Must(t, err)
	for _, f := range used {
		if text, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(text)) == file {
			names = append(names, strings.Split(f, "/")[3])
		}
	}
	return names
}

func TestFileIsMountedOnce(t *testing.T) {
	file, folder := poolFile(t)
	for range 2 { // the second finds all in place
		storagetest.Must(t, btrfs.Mount(file, folder))
	}
	got := devicesOf(t, file)
	if len(got) != 1 {
		t.Fatalf("the file is on %v", got)
	}
	wantDirect(t, got[0], file)
	create(t, folder)
	storagetest.Must(t, btrfs.Unmount(file, folder))
	// The device goes with its last user, and where udev runs that is not us.
	for end := time.Now().Add(10 * time.Second); len(devicesOf(t, file)) != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("unmounted, the file is on %v", devicesOf(t, file))
		}
	}
	storagetest.Must(t, btrfs.Unmount(file, folder))
	_, err := btrfs.Open(folder)
	wantCode(t, err, api.CodeVolumePoolUnavailable)
	storagetest.Must(t, btrfs.Mount(file, folder))
	if _, err := btrfs.Open(folder); err != nil {
		t.Error(err)
	}
}

// wantDirect wants direct I/O of a loop device where the file's own file system can do it.
func wantDirect(t *testing.T, device, file string) {
	t.Helper()
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return // it cannot
	}
	unix.Close(fd)
	for name, want := range map[string]string{"loop/dio": "1", "loop/autoclear": "1", "queue/logical_block_size": "4096"} {
		if text, err := os.ReadFile(filepath.Join("/sys/block", device, name)); err != nil || strings.TrimSpace(string(text)) != want {
			t.Errorf("%s of %s is %q, %v", name, device, text, err)
		}
	}
}

// TestFileOnOneDevice: a device that outlived its mount is taken again, since two of one file would damage it.
func TestFileOnOneDevice(t *testing.T) {
	file, folder := poolFile(t)
	storagetest.Must(t, btrfs.Mount(file, folder))
	used, err := os.Create(filepath.Join(folder, "open"))
	storagetest.Must(t, err)
	wantCode(t, btrfs.Unmount(file, folder), api.CodeVolumeInUse)
	storagetest.Must(t, unix.Unmount(folder, unix.MNT_DETACH))
	storagetest.Must(t, btrfs.Mount(file, folder))
	if got := devicesOf(t, file); len(got) != 1 {
		t.Errorf("the file is on %v", got)
	}
	if _, err := os.Stat(filepath.Join(folder, "open")); err != nil {
		t.Error(err)
	}
	storagetest.Must(t, used.Close())
}

// TestFileThatCannotBeMounted: each is told, and what is there is left alone.
func TestFileThatCannotBeMounted(t *testing.T) {
	file, folder := poolFile(t)
	wantCode(t, btrfs.Mount(file+".absent", folder), api.CodeVolumePoolUnavailable)

	damaged := file + ".damaged"
	storagetest.Must(t, os.WriteFile(damaged, make([]byte, 1<<20), 0o600))
	wantCode(t, btrfs.Mount(damaged, folder), api.CodeVolumePoolUnavailable)
	if got := devicesOf(t, damaged); len(got) != 0 {
		t.Errorf("refused, the file is on %v", got)
	}

	storagetest.Must(t, unix.Mount("theirs", folder, "tmpfs", 0, ""))
	wantCode(t, btrfs.Mount(file, folder), api.CodeVolumePoolUnavailable)
	wantCode(t, btrfs.Unmount(file, folder), api.CodeVolumePoolUnavailable)
	storagetest.Must(t, unix.Unmount(folder, 0))
	storagetest.Must(t, btrfs.Mount(file, folder))
}

// TestFileIsSparse: an empty pool takes little of the disk, and says what it may still ask of it.
func TestFileIsSparse(t *testing.T) {
	testenv.Require(t, testenv.Btrfs)
	file := filepath.Join(t.TempDir(), "pool.img")
	var disk unix.Statfs_t
	storagetest.Must(t, unix.Statfs(filepath.Dir(file), &disk))
	storagetest.Must(t, btrfs.CreateFile(t.Context(), file, btrfs.MinFileBytes))
	var st unix.Stat_t
	storagetest.Must(t, unix.Stat(file, &st))
	if st.Size != btrfs.MinFileBytes || st.Blocks*512 > st.Size/4 {
		t.Errorf("%d bytes take %d", st.Size, st.Blocks*512)
	}
	if short, err := btrfs.Shortage(file); err != nil || short != 0 {
		t.Errorf("short of %d, %v", short, err)
	}
	storagetest.Must(t, os.Truncate(file, st.Size+int64(disk.Bavail)*disk.Bsize))
	if short, err := btrfs.Shortage(file); err != nil || short == 0 {
		t.Errorf("a file larger than its disk is short of %d, %v", short, err)
	}
}
