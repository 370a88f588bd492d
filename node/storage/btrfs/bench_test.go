package btrfs_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs"
	"github.com/ployz/ployz/node/storage/btrfs/btrfstest"
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

// paced gives a stream over a fifth of a second, as a line does.
type paced struct {
	r       io.Reader
	perByte time.Duration
}

func (p paced) Read(into []byte) (int, error) {
	n, err := p.r.Read(into)
	time.Sleep(time.Duration(n) * p.perByte)
	return n, err
}

func pace(stream []byte) paced {
	return paced{bytes.NewReader(stream), 200 * time.Millisecond / time.Duration(len(stream))}
}

// scatter writes blocks all over a file, as a database does.
func scatter(b *testing.B, path string, blocks int) {
	b.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	storagetest.Must(b, err)
	defer f.Close()
	info, err := f.Stat()
	storagetest.Must(b, err)
	block := make([]byte, 8<<10)
	for range blocks {
		rand.Read(block)
		_, err := f.WriteAt(block, mathrand.Int64N(info.Size()/int64(len(block)))*int64(len(block)))
		storagetest.Must(b, err)
	}
	storagetest.Must(b, f.Sync())
}

// BenchmarkReceive receives the last changes of a volume in very many extents until they are durable, and beside it the same
// stream with the commands by hand.
func BenchmarkReceive(b *testing.B) {
	testenv.Require(b, testenv.Root, testenv.Btrfs)
	near, farRoot := create(b, btrfstest.Mount(b, 2<<30)), btrfstest.Mount(b, 2<<30)
	far, ctx := create(b, farRoot), b.Context()
	s := storagetest.Spec("data")
	s.SizeBytes = 0
	v, err := near.Ensure(ctx, s)
	storagetest.Must(b, err)
	file := filepath.Join(v.Path, "body")
	storagetest.Must(b, os.WriteFile(file, make([]byte, 128<<20), 0o600))
	var from storage.From
	var taken int
	next := func(blocks int) []byte {
		scatter(b, file, blocks)
		taken++
		from = storage.From{Volume: v.ID, Base: from.Snapshot, Snapshot: fmt.Sprintf("s%d", taken)}
		_, err := near.Snapshot(ctx, from.Snapshot, v.ID)
		storagetest.Must(b, err)
		var stream bytes.Buffer
		storagetest.Must(b, near.Send(ctx, from, &stream))
		return stream.Bytes()
	}
	for range 12 {
		_, err := far.Receive(ctx, v.Spec, bytes.NewReader(next(1500)))
		storagetest.Must(b, err)
	}
	var ours, hand time.Duration
	for b.Loop() {
		stream := next(250)
		hand += byHand(b, farRoot, stream)
		begun := time.Now()
		_, err := far.Receive(ctx, v.Spec, pace(stream))
		ours += time.Since(begun)
		storagetest.Must(b, err)
	}
	b.ReportMetric(1000*ours.Seconds()/float64(b.N), "ms")
	b.ReportMetric(1000*hand.Seconds()/float64(b.N), "ms-by-hand")
	b.ReportMetric(ours.Seconds()/hand.Seconds(), "of-by-hand")
	for _, p := range []storage.Pool{near, far} {
		storagetest.Destroy(b, p, v.ID)
	}
}

// byHand receives what follows our own header, and makes it durable.
func byHand(b *testing.B, root string, stream []byte) time.Duration {
	b.Helper()
	rest := bytes.NewReader(stream)
	_, err := storage.ReadHeader(rest, btrfs.Backend)
	storagetest.Must(b, err)
	folder := filepath.Join(root, "by-hand")
	storagetest.Must(b, os.MkdirAll(folder, 0o700))
	run := func(in io.Reader, args ...string) {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = in
		if said, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%q: %v: %s", args, err, said)
		}
	}
	begun := time.Now()
	run(pace(stream[len(stream)-rest.Len():]), "btrfs", "receive", "-q", "-e", folder)
	run(nil, "sync", "-f", folder)
	took := time.Since(begun)
	run(nil, "btrfs", "subvolume", "delete", "-c", filepath.Join(folder, "data"))
	run(nil, "btrfs", "subvolume", "sync", root)
	return took
}
