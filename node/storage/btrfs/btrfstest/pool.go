// Package btrfstest gives tests Btrfs pools in files of their own, unmounted and gone when the test is. It needs root, a
// loop device and btrfs-progs: testenv.Root and testenv.Btrfs.
package btrfstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ployz/ployz/node/storage/btrfs"
)

// Mount makes an empty Btrfs file system of that size in a file, and returns where it is mounted.
func Mount(t testing.TB, sizeBytes int64) (root string) {
	t.Helper()
	dir := t.TempDir()
	file, root := filepath.Join(dir, "pool.img"), filepath.Join(dir, "pool")
	if err := btrfs.CreateFile(t.Context(), file, sizeBytes); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-o", "loop", file, root)
	t.Cleanup(func() { run(t, "umount", root) })
	return root
}

// Create makes a pool of what Mount mounted.
func Create(t testing.TB, root string) *btrfs.Pool {
	t.Helper()
	p, err := btrfs.Create(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v: %s", name, args, err, out)
	}
}
