package zfs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/storagetest"
	"github.com/ployz/ployz/node/storage/zfs"
)

func wantCode(t testing.TB, err error, code api.Code) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Fatalf("%v, want %s", err, code)
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func TestPoolsThatCannotBe(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.ZFS)
	_, err := zfs.Create(t.Context(), "ployztestabsent", t.TempDir())
	wantCode(t, err, api.CodeVolumePoolUnavailable)
	name := pool(t)
	run(t, "zfs", "create", name+"/ployz")
	_, err = zfs.Create(t.Context(), name, t.TempDir())
	wantCode(t, err, api.CodeVolumeNotOurs)
	_, err = zfs.Open(t.Context(), name, t.TempDir())
	wantCode(t, err, api.CodeVolumePoolUnavailable)
}

// TestCutShort puts the pool in states that a power cut, or somebody else, can leave.
func TestCutShort(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.ZFS)
	disk := filepath.Join(t.TempDir(), "disk")
	name := poolIn(t, disk)
	p := create(t, name, t.TempDir())
	made := func(t *testing.T) storage.Volume {
		v, err := p.Ensure(t.Context(), storagetest.Spec("data"))
		storagetest.Must(t, err)
		t.Cleanup(func() { storagetest.Destroy(t, p, v.ID) })
		storagetest.Must(t, os.WriteFile(filepath.Join(v.Path, v.ID), nil, 0o600))
		return v
	}
	live := func(v storage.Volume) string { return name + "/ployz/volumes/" + v.FileName() }

	t.Run("a swap had retired the one and not restored the other", func(t *testing.T) {
		out := made(t)
		_, err := p.Snapshot(t.Context(), "s", out.ID)
		storagetest.Must(t, err)
		in := out.Spec
		in.ID = storagetest.Spec("").ID
		_, err = p.Clone(t.Context(), out.ID, "s", in, true)
		storagetest.Must(t, err)
		run(t, "zfs", "set", "ployz:swap="+in.ID, live(out))
		storagetest.Must(t, unix.Unmount(out.Path, 0))
		run(t, "zfs", "rename", live(out), name+"/ployz/kept/"+out.ID)
		storagetest.Must(t, p.Swap(t.Context(), out.ID, in.ID))
		if v, err := p.Inspect(t.Context(), in.ID); err != nil || v.State != storage.StateLive {
			t.Fatalf("%+v, %v", v, err)
		}
		storagetest.Must(t, p.Swap(t.Context(), in.ID, out.ID))
		storagetest.Destroy(t, p, in.ID)
	})
	t.Run("a live volume is not mounted", func(t *testing.T) {
		v := made(t)
		storagetest.Must(t, unix.Unmount(v.Path, 0))
		v, err := p.Ensure(t.Context(), v.Spec)
		storagetest.Must(t, err)
		if _, err := os.Stat(filepath.Join(v.Path, v.ID)); err != nil {
			t.Error(err)
		}
	})
	t.Run("a snapshot is somebody else's", func(t *testing.T) {
		v := made(t)
		run(t, "zfs", "snapshot", live(v)+"@theirs")
		if all, err := p.ListSnapshots(t.Context(), v.ID); err != nil || len(all) != 0 {
			t.Fatalf("%v, %v", all, err)
		}
		storagetest.Must(t, p.Forget(t.Context(), v.ID, "theirs"))
		_, err := p.Snapshot(t.Context(), "theirs", v.ID)
		wantCode(t, err, api.CodeVolumeNotOurs)
		storagetest.Must(t, p.Retire(t.Context(), v.ID))
		wantCode(t, p.Destroy(t.Context(), v.ID), api.CodeVolumeNotOurs)
		run(t, "zfs", "destroy", name+"/ployz/kept/"+v.ID+"@theirs")
	})
	t.Run("the pool is gone", func(t *testing.T) {
		v := made(t)
		storagetest.Must(t, unix.Unmount(v.Path, 0))
		run(t, "zpool", "export", name)
		_, err := p.Inspect(t.Context(), v.ID)
		wantCode(t, err, api.CodeVolumePoolUnavailable)
		run(t, "zpool", "import", "-d", disk, name)
	})
}

// TestMountAll is what boot does: live volumes are mounted, one whose mark is damaged is named, and the next run
// changes nothing.
func TestMountAll(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.ZFS)
	name, mounts := pool(t), t.TempDir()
	p := create(t, name, mounts)
	a, err := p.Ensure(t.Context(), storagetest.Spec("a"))
	storagetest.Must(t, err)
	b, err := p.Ensure(t.Context(), storagetest.Spec("b"))
	storagetest.Must(t, err)
	storagetest.Must(t, os.WriteFile(filepath.Join(a.Path, "file"), nil, 0o600))
	for range 2 {
		for _, v := range []storage.Volume{a, b} {
			storagetest.Must(t, unix.Unmount(v.Path, 0))
		}
		for range 2 {
			storagetest.Must(t, p.MountAll(t.Context()))
		}
		if _, err := os.Stat(filepath.Join(a.Path, "file")); err != nil {
			t.Error(err)
		}
	}
	// As named by the dataset that is ours.
	if _, err := zfs.Open(t.Context(), name+"/ployz", mounts); err != nil {
		t.Error(err)
	}
	storagetest.Must(t, zfs.Look(t.Context(), name))
	wantCode(t, zfs.Look(t.Context(), name+"/absent"), api.CodeVolumePoolUnavailable)

	run(t, "zfs", "set", "ployz:volume={", name+"/ployz/volumes/"+b.FileName())
	storagetest.Must(t, unix.Unmount(a.Path, 0))
	wantCode(t, p.MountAll(t.Context()), api.CodeVolumePoolFailed)
	if _, err := os.Stat(filepath.Join(a.Path, "file")); err != nil {
		t.Error(err)
	}
	all, err := p.List(t.Context())
	storagetest.Must(t, err)
	damaged := 0
	for _, v := range all {
		if v.Problem != nil {
			damaged++
			if v.FullName() != b.FullName() {
				t.Errorf("the damaged one is called %s", v.FullName())
			}
		}
	}
	if len(all) != 2 || damaged != 1 {
		t.Errorf("%d of %d are damaged", damaged, len(all))
	}
}
