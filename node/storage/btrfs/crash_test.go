package btrfs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs"
	"github.com/ployz/ployz/node/storage/storagetest"
)

func wantCode(t testing.TB, err error, code api.Code) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Fatalf("%v, want %s", err, code)
	}
}

func TestPoolsThatCannotBe(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	dir := t.TempDir()
	_, err := btrfs.Create("/proc")
	wantCode(t, err, api.CodeVolumePoolUnavailable)
	_, err = btrfs.Open(filepath.Join(dir, "absent"))
	wantCode(t, err, api.CodeVolumePoolUnavailable)

	wantCode(t, btrfs.CreateFile(t.Context(), filepath.Join(dir, "small"), 1<<20), api.CodeVolumeInvalid)
	wantCode(t, btrfs.CreateFile(t.Context(), filepath.Join(dir, "huge"), 8<<50), api.CodeVolumeNoSpace)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("refused files left %v, %v", left, err)
	}

	root := mounted(t)
	_, err = btrfs.Open(root)
	wantCode(t, err, api.CodeVolumePoolUnavailable)
	theirs := filepath.Join(root, "theirs")
	storagetest.Must(t, os.WriteFile(theirs, nil, 0o600))
	_, err = btrfs.Create(root)
	wantCode(t, err, api.CodeVolumeNotOurs)
	storagetest.Must(t, os.Remove(theirs))
	create(t, root)
	storagetest.Must(t, os.WriteFile(theirs, nil, 0o600)) // beside a pool of ours they may have what they like
	create(t, root)
}

// TestFileIsLeftAlone: what is there is never formatted.
func TestFileIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool.img")
	storagetest.Must(t, os.WriteFile(path, []byte("theirs"), 0o600))
	storagetest.Must(t, btrfs.CreateFile(t.Context(), path, btrfs.MinFileBytes))
	if got, err := os.ReadFile(path); err != nil || string(got) != "theirs" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestCutShort puts the disk in each state that a power cut can leave, and repeats the call or clears it.
func TestCutShort(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	root := mounted(t)
	p := create(t, root)
	at := func(parts ...string) string { return filepath.Join(append([]string{root}, parts...)...) }
	made := func(t *testing.T, s storage.Spec) storage.Volume {
		v, err := p.Ensure(t.Context(), s)
		storagetest.Must(t, err)
		t.Cleanup(func() { storagetest.Destroy(t, p, s.ID) })
		storagetest.Must(t, os.WriteFile(filepath.Join(v.Path, s.ID), nil, 0o600))
		return v
	}

	t.Run("a volume was half made", func(t *testing.T) {
		s := storagetest.Spec("data")
		v := made(t, s)
		storagetest.Must(t, os.Rename(filepath.Dir(v.Path), at("incoming", s.ID)))
		if v, err := p.Inspect(t.Context(), s.ID); err != nil || v.State != storage.StateIncoming {
			t.Fatalf("%+v, %v", v, err)
		}
		storagetest.Must(t, p.Destroy(t.Context(), s.ID))
		_, err := p.Inspect(t.Context(), s.ID)
		wantCode(t, err, api.CodeVolumeNotFound)
	})
	t.Run("a swap had exchanged the names alone", func(t *testing.T) {
		out := made(t, storagetest.Spec("data"))
		_, err := p.Snapshot(t.Context(), "s", out.ID)
		storagetest.Must(t, err)
		in := out.Spec
		in.ID = storagetest.Spec("").ID
		_, err = p.Clone(t.Context(), out.ID, "s", in, true)
		storagetest.Must(t, err)
		t.Cleanup(func() { storagetest.Destroy(t, p, in.ID) })
		exchange := func() {
			t.Helper()
			storagetest.Must(t, unix.Renameat2(unix.AT_FDCWD, filepath.Dir(out.Path), unix.AT_FDCWD, at("kept", in.ID), unix.RENAME_EXCHANGE))
		}
		exchange()
		storagetest.Must(t, p.Swap(t.Context(), out.ID, in.ID))
		storagetest.Must(t, p.Swap(t.Context(), in.ID, out.ID))
		exchange()
		storagetest.Must(t, p.Retire(t.Context(), in.ID)) // whose place the other still has
		storagetest.Must(t, p.Restore(t.Context(), out.ID))
	})
	t.Run("a snapshot was half taken, another half forgotten", func(t *testing.T) {
		v := made(t, storagetest.Spec("data"))
		_, err := p.Snapshot(t.Context(), "s", v.ID)
		storagetest.Must(t, err)
		snapshots := filepath.Join(filepath.Dir(v.Path), "snapshots")
		storagetest.Must(t, os.Rename(filepath.Join(snapshots, "s"), filepath.Join(snapshots, "s.half")))
		storagetest.Must(t, os.Remove(filepath.Join(snapshots, "s.half", "snapshot.json")))
		if all, err := p.ListSnapshots(t.Context(), v.ID); err != nil || len(all) != 0 {
			t.Fatalf("%v, %v", all, err)
		}
		_, err = p.Snapshot(t.Context(), "s", v.ID)
		storagetest.Must(t, err)
	})
	t.Run("the mark is damaged", func(t *testing.T) { damagedMark(t, p, made) })
}

// TestHoldOutlivesACut: what the disk has when Hold or Release returns says so.
func TestHoldOutlivesACut(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	dir := t.TempDir()
	file, after, root := filepath.Join(dir, "pool.img"), filepath.Join(dir, "after.img"), filepath.Join(dir, "pool")
	storagetest.Must(t, btrfs.CreateFile(t.Context(), file, btrfs.MinFileBytes))
	storagetest.Must(t, btrfs.Mount(file, root))
	unmount := func(file string) func() { return func() { storagetest.Must(t, btrfs.Unmount(file, root)) } }
	was := sync.OnceFunc(unmount(file))
	t.Cleanup(was)
	p, v := create(t, root), storagetest.Spec("data")
	_, err := p.Ensure(t.Context(), v)
	storagetest.Must(t, err)
	_, err = p.Snapshot(t.Context(), "s", v.ID)
	storagetest.Must(t, err)
	storagetest.Must(t, p.Hold(t.Context(), v.ID, "s", "released"))
	storagetest.Must(t, p.Hold(t.Context(), v.ID, "s", "held"))
	storagetest.Must(t, p.Release(t.Context(), v.ID, "s", "released"))
	out, err := exec.Command("cp", "--sparse=always", file, after).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	was()
	storagetest.Must(t, btrfs.Mount(after, root))
	t.Cleanup(unmount(after))
	all, err := create(t, root).ListSnapshots(t.Context(), v.ID)
	if err != nil || len(all) != 1 || !slices.Equal(all[0].Holds, []string{"held"}) {
		t.Errorf("after the cut: %+v, %v", all, err)
	}
}

// TestVolumeWithoutItsQuota: what cannot be measured is its own problem too.
func TestVolumeWithoutItsQuota(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	root := mounted(t)
	p := create(t, root)
	v, err := p.Ensure(t.Context(), storagetest.Spec("data"))
	storagetest.Must(t, err)
	_, err = p.Ensure(t.Context(), storagetest.Spec("other"))
	storagetest.Must(t, err)
	// Another file system on top of it has no quotas.
	storagetest.Must(t, unix.Mount(mounted(t), v.Path, "", unix.MS_BIND, ""))
	t.Cleanup(func() { storagetest.Must(t, unix.Unmount(v.Path, 0)) })
	all, err := p.List(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, got := range all {
		if (got.Problem != nil) != (got.ID == v.ID) || got.Problem != nil && got.Path != v.Path {
			t.Errorf("%+v", got)
		}
	}
}

// damagedMark: one volume whose mark is lost is its own problem, and nobody else's.
func damagedMark(t *testing.T, p *btrfs.Pool, made func(*testing.T, storage.Spec) storage.Volume) {
	live, kept, sound := made(t, storagetest.Spec("live")), made(t, storagetest.Spec("kept")), made(t, storagetest.Spec("sound"))
	storagetest.Must(t, p.Retire(t.Context(), kept.ID))
	for _, dir := range []string{filepath.Dir(live.Path), filepath.Join(filepath.Dir(live.Path), "../../kept", kept.ID)} {
		mark := filepath.Join(dir, "volume.json")
		good, err := os.ReadFile(mark)
		storagetest.Must(t, err)
		storagetest.Must(t, os.WriteFile(mark, good[:10], 0o600))
		t.Cleanup(func() { storagetest.Must(t, os.WriteFile(mark, good, 0o600)) })
	}
	all, err := p.List(t.Context())
	storagetest.Must(t, err)
	problems := map[string]string{}
	for _, v := range all {
		if v.Problem != nil {
			wantCode(t, v.Problem, api.CodeVolumePoolFailed)
			problems[v.FullName()+" "+v.ID] = string(v.State)
		}
	}
	if len(problems) != 2 || problems[live.FullName()+" "] != "live" || problems["/ "+kept.ID] != "kept" {
		t.Errorf("the damaged ones are %v", problems)
	}
	v, err := p.Inspect(t.Context(), sound.ID)
	if err != nil || v.Problem != nil || v.State != storage.StateLive {
		t.Errorf("the sound one is %+v, %v", v, err)
	}
	_, err = p.Snapshot(t.Context(), "s", sound.ID)
	storagetest.Must(t, err)
	storagetest.Must(t, p.Forget(t.Context(), sound.ID, "s"))
	wantCode(t, p.Destroy(t.Context(), kept.ID), api.CodeVolumePoolFailed) // it is not gone: nobody knows
	other := storagetest.Spec("live")
	other.Namespace = live.Namespace
	_, err = p.Ensure(t.Context(), other) // the name is still its own
	wantCode(t, err, api.CodeVolumePoolFailed)
}
