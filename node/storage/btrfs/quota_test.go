package btrfs_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs"
	"github.com/ployz/ployz/node/storage/storagetest"
)

const mib = 1 << 20

// fill writes so many MiB of noise to a file of a volume.
func fill(t testing.TB, v storage.Volume, name string, size int) {
	t.Helper()
	storagetest.Must(t, put(v, name, size))
}

func put(v storage.Volume, name string, size int) error {
	noise := make([]byte, size*mib)
	rand.Read(noise)
	f, err := os.Create(filepath.Join(v.Path, name))
	if err != nil {
		return err
	}
	_, err = f.Write(noise)
	return errors.Join(err, f.Sync(), f.Close())
}

// volume makes a volume, of that many MiB at most; 0 is any.
func volume(t testing.TB, p *btrfs.Pool, most int64) storage.Volume {
	t.Helper()
	s := storagetest.Spec("data")
	s.SizeBytes = most * mib
	v, err := p.Ensure(t.Context(), s)
	storagetest.Must(t, err)
	return v
}

func hasGroups(t testing.TB, p *btrfs.Pool) bool {
	t.Helper()
	dir, err := p.Groups()
	storagetest.Must(t, err)
	_, err = os.Stat(dir)
	return err == nil
}

// wantLimit wants a volume of 16 MiB to take no 24.
func wantLimit(t testing.TB, v storage.Volume) {
	t.Helper()
	if err := put(v, "too much", 24); !errors.Is(err, unix.EDQUOT) {
		t.Errorf("24 MiB in a volume of 16: %v", err)
	}
	storagetest.Must(t, os.Remove(filepath.Join(v.Path, "too much")))
}

// TestGroupsComeWithASize: a pool has no quota groups until a volume has a size, and the sizes of all bite then, also after
// somebody turned them off.
func TestGroupsComeWithASize(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	root := mounted(t)
	p := create(t, root)
	free := volume(t, p, 0)
	fill(t, free, "body", 24)
	if hasGroups(t, p) {
		t.Error("no volume has a size, and there are quota groups")
	}
	bound := volume(t, p, 16)
	wantLimit(t, bound)
	storagetest.Must(t, p.Doubt(t.Context()))
	if out, err := storage.Run(t.Context(), nil, nil, "btrfs", "quota", "disable", root); err != nil {
		t.Fatal(out, err)
	}
	if err := p.Doubt(t.Context()); api.CodeOf(err) != api.CodeVolumeUnenforced {
		t.Errorf("with the groups off it says %v", err)
	}
	again := func() {
		t.Helper()
		if _, err := p.Ensure(t.Context(), bound.Spec); err != nil {
			t.Fatal(err)
		}
		wantLimit(t, bound)
	}
	again()
	second := volume(t, p, 16)
	wantLimit(t, second)
	for _, args := range [][]string{{"quota", "disable", root}, {"quota", "enable", root}} { // which takes the limits away, too
		if out, err := storage.Run(t.Context(), nil, nil, "btrfs", args...); err != nil {
			t.Fatal(out, err)
		}
	}
	until(t, "it has counted, and has no limit", func() bool {
		err := p.Doubt(t.Context())
		return api.CodeOf(err) == api.CodeVolumeUnenforced && strings.Contains(err.Error(), bound.FullName())
	})
	again()
	for _, v := range []storage.Volume{bound, second} {
		if _, err := p.Ensure(t.Context(), v.Spec); err != nil {
			t.Fatal(err)
		}
	}
	storagetest.Must(t, p.Doubt(t.Context()))
}

// TestDoubt: a kernel that lost count, as by dropping a snapshot, counts anew with the next change to the pool.
func TestDoubt(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	root := mounted(t)
	p := create(t, root)
	bound := volume(t, p, 16)
	lose(t, p, root)
	if err := put(bound, "too much", 24); err != nil { // else this test tests nothing
		t.Fatal("the kernel lost count, and limits what it does not count: ", err)
	}
	storagetest.Must(t, os.Remove(filepath.Join(bound.Path, "too much")))
	if err := p.Doubt(t.Context()); api.CodeOf(err) != api.CodeVolumeUnenforced || !api.AsError(err).Retryable {
		t.Fatalf("the kernel lost count, and it says %v", err)
	}
	if again, err := p.Ensure(t.Context(), bound.Spec); err != nil || again.SizeBytes != bound.SizeBytes {
		t.Fatal(again, err)
	}
	until(t, "it counts again", func() bool { return p.Doubt(t.Context()) == nil })
	wantLimit(t, bound)
}

// lose has the kernel lose count by what somebody else does: it is told to give up for the smallest snapshot that it drops.
func lose(t *testing.T, p *btrfs.Pool, root string) {
	t.Helper()
	dir, err := p.Groups()
	storagetest.Must(t, err)
	storagetest.Must(t, os.WriteFile(filepath.Join(dir, "drop_subtree_threshold"), []byte("0"), 0))
	by := func(args ...string) {
		t.Helper()
		if said, err := storage.Run(t.Context(), nil, nil, "btrfs", args...); err != nil {
			t.Fatal(said, err)
		}
	}
	theirs := filepath.Join(root, "theirs")
	by("subvolume", "create", theirs)
	for i := range 200 {
		storagetest.Must(t, os.WriteFile(filepath.Join(theirs, fmt.Sprintf("%0200d", i)), bytes.Repeat([]byte("x"), 2000), 0o600))
	}
	unix.Sync()
	by("subvolume", "snapshot", theirs, theirs+"2")
	storagetest.Must(t, os.WriteFile(filepath.Join(theirs, "more"), []byte("more"), 0o600))
	by("subvolume", "delete", "--commit-after", theirs+"2")
	until(t, "the kernel loses count", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "inconsistent"))
		return err == nil && bytes.HasPrefix(text, []byte("1"))
	})
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for begun := time.Now(); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > 60*time.Second {
			t.Fatal("not within a minute: " + what)
		}
	}
}

// TestCounted: what files refer to, and what of that no snapshot has.
func TestCounted(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	p := create(t, mounted(t))
	v := volume(t, p, 0)
	want := func(what string, v storage.Volume, used, own int64) {
		t.Helper()
		until(t, fmt.Sprintf("%s: %d bytes, %d its own", what, used, own), func() bool {
			unix.Sync() // what is on its way to the disk is in no tree yet
			is, err := p.Inspect(t.Context(), v.ID)
			storagetest.Must(t, err)
			return is.UsedBytes == used && is.OwnBytes == own
		})
	}
	want("nothing", v, 0, 0)
	storagetest.Must(t, os.WriteFile(filepath.Join(v.Path, "small"), []byte("within the tree"), 0o600))
	fill(t, v, "body", 4)
	storagetest.Must(t, os.Truncate(filepath.Join(v.Path, "body"), 64*mib)) // a hole
	const small = int64(len("within the tree"))
	want("a body, a hole and a small file", v, 4*mib+small, 4*mib+small)
	_, err := p.Snapshot(t.Context(), "s1", v.ID)
	storagetest.Must(t, err)
	want("after a snapshot", v, 4*mib+small, 0)
	fill(t, v, "more", 2)
	want("written since", v, 6*mib+small, 2*mib)
	s := storagetest.Spec("data")
	s.SizeBytes = 0
	branch, err := p.Clone(t.Context(), v.ID, "s1", s, false)
	storagetest.Must(t, err)
	want("a clone", branch, 4*mib+small, 0)
	fill(t, branch, "own", 1)
	want("a clone that was written", branch, 5*mib+small, mib)
	// More files than one answer of the kernel holds.
	for i := range 5000 {
		storagetest.Must(t, os.WriteFile(filepath.Join(branch.Path, fmt.Sprintf("%0100d", i)), []byte("12345678"), 0o600))
	}
	want("many files", branch, 5*mib+small+5000*8, mib+5000*8)
}

// BenchmarkCount counts volumes of many extents.
func BenchmarkCount(b *testing.B) {
	testenv.Require(b, testenv.Root, testenv.Btrfs)
	p := create(b, mounted(b))
	v := volume(b, p, 0)
	f, err := os.Create(filepath.Join(v.Path, "body"))
	storagetest.Must(b, err)
	defer f.Close()
	const extents = 20_000
	for i := range int64(extents) { // every other page, so that none are joined
		_, err := f.WriteAt([]byte("page"), 2*i*8192)
		storagetest.Must(b, err)
	}
	unix.Sync()
	for b.Loop() {
		if is, err := p.Inspect(b.Context(), v.ID); err != nil || is.UsedBytes != extents*4096 {
			b.Fatal(is.UsedBytes, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)/extents*100_000, "ms/100k-extents")
}
