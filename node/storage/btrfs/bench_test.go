package btrfs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage/storagetest"
)

// BenchmarkBranch is the storage step of a branch, a snapshot and a clone of it, over the size of the data.
func BenchmarkBranch(b *testing.B) {
	testenv.Require(b, testenv.Root, testenv.Btrfs)
	p := create(b, mounted(b))
	for _, mib := range []int{1, 16, 200} {
		s := storagetest.Spec("data")
		s.SizeBytes = 0
		v, err := p.Ensure(b.Context(), s)
		storagetest.Must(b, err)
		storagetest.Must(b, os.WriteFile(filepath.Join(v.Path, "body"), bytes.Repeat([]byte("ployz"), mib<<20/5), 0o600))
		unix.Sync() // what was just written goes to the disk at the next snapshot, and is no part of its time
		b.Run(fmt.Sprintf("%dMiB", mib), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				name, branch := fmt.Sprintf("s%d", i), storagetest.Spec("data")
				branch.SizeBytes = 0
				_, err := p.Snapshot(b.Context(), name, v.ID)
				storagetest.Must(b, err)
				_, err = p.Clone(b.Context(), v.ID, name, branch, false)
				storagetest.Must(b, err)
				b.StopTimer()
				storagetest.Destroy(b, p, branch.ID)
				storagetest.Must(b, p.Forget(b.Context(), v.ID, name))
				b.StartTimer()
			}
		})
		storagetest.Destroy(b, p, v.ID)
	}
}
