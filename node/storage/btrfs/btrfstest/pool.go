// Package btrfstest gives tests Btrfs pools in files of their own, unmounted and gone when the test is. It needs root, a
// loop device and btrfs-progs: testenv.Root and testenv.Btrfs.
package btrfstest

import (
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
	if err := btrfs.Mount(file, root); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := btrfs.Unmount(file, root); err != nil {
			t.Error(err)
		}
	})
	return root
}

// Create makes a pool of what Mount mounted.
func Create(t testing.TB, root string) *btrfs.Pool {
	t.Helper()
	p, err := btrfs.Create(root)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
