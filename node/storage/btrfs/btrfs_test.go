package btrfs_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs"
	"github.com/ployz/ployz/node/storage/btrfs/btrfstest"
	"github.com/ployz/ployz/node/storage/storagetest"
)

// mounted makes a pool's file system in a file and mounts it.
func mounted(t testing.TB) (root string) { return btrfstest.Mount(t, 400<<20) }

func create(t testing.TB, root string) *btrfs.Pool { return btrfstest.Create(t, root) }

func TestConformance(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	storagetest.Run(t, func(t *testing.T) storagetest.Fixture {
		root := mounted(t)
		return storagetest.Fixture{
			Pool: create(t, root), Far: create(t, mounted(t)),
			Reopen: func(testing.TB) storage.Pool {
				// As the daemon has it.
				return &storage.Late{OpenPool: func(context.Context) (storage.Pool, error) { return btrfs.Open(root) }}
			},
			Foreign: func(t testing.TB, s storage.Spec) func(testing.TB) { return foreign(t, root, s) },
		}
	})
}

// foreign is a folder of somebody else's under the name that a volume would have.
func foreign(t testing.TB, root string, s storage.Spec) (intact func(testing.TB)) {
	t.Helper()
	file := filepath.Join(root, "volumes", s.FileName(), "data", "theirs")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	return func(t testing.TB) {
		if got, err := os.ReadFile(file); err != nil || string(got) != "theirs" {
			t.Errorf("what was not ours is %q, %v", got, err)
		}
	}
}
