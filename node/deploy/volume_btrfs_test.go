package deploy_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage/btrfs/btrfstest"
)

// TestVolumesOnBtrfs is the life of a volume by itself in a real pool: what is written is what a clone begins with,
// what is kept comes back with it, and what is pruned is gone from the disk.
func TestVolumesOnBtrfs(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	l := newLab(t)
	folder := btrfstest.Mount(t, 300<<20)
	pool := btrfstest.Create(t, folder)
	l.local.Pool = pool
	file := func(name string) string {
		t.Helper()
		is, err := pool.Inspect(t.Context(), l.volume(t, name).ID)
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(is.Path, "rows")
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name, want string) {
		t.Helper()
		if text, err := os.ReadFile(file(name)); err != nil || string(text) != want {
			t.Errorf("%s has %q, want %q (%v)", name, text, want, err)
		}
	}
	l.mustRun(t, l.create(api.VolumeCreateRequest{Name: "data", SizeBytes: 64 << 20, Owner: &api.Owner{UID: 999, GID: 999}, Mode: 0o700}))
	write("data", "one")
	l.mustRun(t, l.snap("before"))
	write("data", "two")
	then := value(t, l.mustRun(t, l.clone("data", "before", "then")))
	l.mustRun(t, l.clone("data", "", "now"))
	read("then", "one")
	read("now", "two")
	write("now", "three")
	read("data", "two")
	if o := l.volume(t, "then").Origin; o.GUID == "" || o.GUID != then.GUID {
		t.Errorf("the origin is %+v, the outcome says %+v", o, then)
	}
	expectLines(t, l.snapshotsIn(t, pool, "data"), "before operator")

	l.mustRun(t, deploy.NewRemoveVolume(l.kit, "shop", "then"))
	l.mustRun(t, deploy.NewRestoreVolume(l.kit, "shop", then.ID))
	read("then", "one")
	l.mustRun(t, deploy.NewRemoveVolume(l.kit, "shop", "then"))
	l.mustRun(t, deploy.NewRemoveVolume(l.kit, "shop", "data"))
	l.refused(t, l.prune(only(l.anyVolume("data").ID)), api.CodeVolumeSnapshotNeeded, "held by operator", "volume snapshot rm")
	l.mustRun(t, l.prune())
	l.mustRun(t, l.unsnap(l.anyVolume("data").ID, "before"))
	l.mustRun(t, l.prune())
	left, err := pool.List(t.Context())
	if err != nil || len(left) != 1 || left[0].Name != "now" {
		t.Errorf("the pool has %+v, %v", left, err)
	}
	read("now", "three")
}
