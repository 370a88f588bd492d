package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs"
)

// onBtrfs gives the lab's machine a real pool.
func (l *lab) onBtrfs(t *testing.T) storage.Pool {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	dir := t.TempDir()
	file, root := filepath.Join(dir, "pool.img"), filepath.Join(dir, "pool")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(btrfs.CreateFile(t.Context(), file, btrfs.MinFileBytes))
	must(os.Mkdir(root, 0o700))
	must(exec.Command("mount", "-o", "loop", file, root).Run())
	t.Cleanup(func() {
		if out, err := exec.Command("umount", root).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	pool, err := btrfs.Create(root)
	must(err)
	l.local.Pool = pool
	return pool
}

// small is the shop with one volume that a small pool can hold.
func small(version string, bytes int64) api.Spec {
	s := shop(version)
	s.Volumes = map[string]api.Volume{"data": {SizeBytes: bytes, Owner: &api.Owner{UID: 70, GID: 70}, Mode: 0o2750}}
	edit(&s, "app", func(s *api.Service) { s.Mounts = []api.Mount{{Volume: "data", Target: "/data"}} })
	return s
}

// TestOnBtrfs: rows outlive updates, growth, a failed update, the volume's removal and its return by a rollback.
func TestOnBtrfs(t *testing.T) {
	l := newLab(t)
	pool := l.onBtrfs(t)
	l.mustRun(t, deploy.NewDeploy(l.kit, small("v1", 32<<20), nil))
	is := func() storage.Volume {
		t.Helper()
		v, err := pool.Inspect(t.Context(), l.volume(t, "data").ID)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	path := is().Path
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o750 || st.Mode()&os.ModeSetgid == 0 {
		t.Errorf("the folder is %v, %v", st.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(path, "rows"), []byte("many"), 0o600); err != nil {
		t.Fatal(err)
	}
	rows := func() {
		t.Helper()
		if text, err := os.ReadFile(filepath.Join(is().Path, "rows")); err != nil || string(text) != "many" {
			t.Fatalf("the rows are %q, %v", text, err)
		}
	}
	l.mustRun(t, deploy.NewDeploy(l.kit, small("v2", 64<<20), nil))
	rows()
	if got := is().SizeBytes; got != 64<<20 {
		t.Errorf("grown to %d", got)
	}
	l.runtime.Program = func(s runtime.Spec) memruntime.Program {
		if s.Image == "app:v1" && !s.Job {
			return memruntime.Program{Refuse: "no"}
		}
		return memruntime.Program{Ends: s.Job}
	}
	failing := small("v1", 96<<20)
	failing.Volumes["new"] = api.Volume{}
	edit(&failing, "app", func(s *api.Service) { s.Mounts = append(s.Mounts, api.Mount{Volume: "new", Target: "/new"}) })
	if out := l.run(deploy.NewDeploy(l.kit, failing, nil)); out.Outcome != api.RolledBack {
		t.Fatalf("%s %v %v", out.Outcome, out.Error, out.Leftovers)
	}
	rows()
	if all, err := pool.List(t.Context()); err != nil || len(all) != 1 || all[0].SizeBytes != 64<<20 {
		t.Errorf("after the failed update the pool has %+v, %v", all, err)
	}
	l.mustRun(t, deploy.NewRemove(l.kit, "shop"))
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a removed volume is still at its path: %v", err)
	}
	l.mustRun(t, deploy.NewRollback(l.kit, "shop", 2))
	rows()
	taken, err := pool.ListSnapshots(t.Context(), is().ID)
	if err != nil || len(taken) != 3 || taken[2].Name != "c4" {
		t.Errorf("its snapshots are %+v, %v", taken, err)
	}
}

// TestWithDataOnBtrfs: the rows are those that a commit left, and the newer ones come back.
func TestWithDataOnBtrfs(t *testing.T) {
	l := newLab(t)
	pool := l.onBtrfs(t)
	file := func() string {
		t.Helper()
		v, err := pool.Inspect(t.Context(), l.volume(t, "data").ID)
		if err != nil || v.Owner.UID != 70 || v.SizeBytes != 64<<20 && v.SizeBytes != 32<<20 {
			t.Fatalf("%+v, %v", v, err)
		}
		return filepath.Join(v.Path, "rows")
	}
	want := func(rows string) {
		t.Helper()
		if text, err := os.ReadFile(file()); err != nil || string(text) != rows {
			t.Errorf("the rows are %q, %v, want %q", text, err, rows)
		}
	}
	for n, version := range []string{"v1", "v2", "v1"} {
		l.mustRun(t, deploy.NewDeploy(l.kit, small(version, 32<<20<<min(n, 1)), nil))
		must(t, os.WriteFile(file(), []byte(strconv.Itoa(n+1)), 0o600))
	}
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 1))
	want("1")
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 0))
	want("3")
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 2))
	want("2")
	before := file()
	l.runtime.Program = func(s runtime.Spec) memruntime.Program {
		if s.Image == "app:v1" && !s.Job {
			return memruntime.Program{Refuse: "no"}
		}
		return memruntime.Program{Ends: s.Job}
	}
	if out := l.run(deploy.NewRollbackWithVolumes(l.kit, "shop", 1)); out.Outcome != api.RolledBack {
		t.Fatalf("%s %v %v", out.Outcome, out.Error, out.Leftovers)
	}
	if want("2"); file() != before {
		t.Errorf("it was at %s and is at %s", before, file())
	}
	if all, err := pool.List(t.Context()); err != nil || len(all) != 4 {
		t.Errorf("the pool has %+v, %v", all, err)
	}
}
