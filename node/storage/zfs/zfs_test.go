package zfs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gozfs "github.com/mistifyio/go-zfs/v3"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/storagetest"
	"github.com/ployz/ployz/node/storage/zfs"
)

// pool makes a pool in a file, and its name.
func pool(t testing.TB) string {
	t.Helper()
	return poolIn(t, filepath.Join(t.TempDir(), "disk"))
}

func poolIn(t testing.TB, file string) string {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 256<<20); err != nil {
		t.Fatal(err)
	}
	name := "ployztest" + strconv.FormatInt(time.Now().UnixNano(), 36)
	z, err := gozfs.CreateZpool(name, nil, "-O", "mountpoint=none", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 { // what a failed test left mounted is busy for a moment
			if err = exec.Command("zpool", "destroy", "-f", z.Name).Run(); err == nil {
				return
			}
		}
		t.Errorf("destroying %s: %v", z.Name, err)
	})
	return name
}

func TestConformance(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.ZFS)
	storagetest.Run(t, func(t *testing.T) storagetest.Fixture {
		near, mounts := pool(t), t.TempDir()
		return storagetest.Fixture{
			Pool: create(t, near, mounts), Far: create(t, pool(t), t.TempDir()),
			Reopen: func(t testing.TB) storage.Pool {
				p, err := zfs.Open(t.Context(), near, mounts)
				if err != nil {
					t.Fatal(err)
				}
				return p
			},
			Foreign: func(t testing.TB, s storage.Spec) func(testing.TB) { return foreign(t, near, s) },
		}
	})
}

func create(t testing.TB, pool, mounts string) *zfs.Pool {
	t.Helper()
	p, err := zfs.Create(t.Context(), pool, mounts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// foreign is a dataset of somebody else's under the name that a volume would have.
func foreign(t testing.TB, pool string, s storage.Spec) (intact func(testing.TB)) {
	t.Helper()
	name := pool + "/ployz/volumes/" + s.FileName()
	if _, err := gozfs.CreateFilesystem(name, map[string]string{"org.example:theirs": "yes"}); err != nil {
		t.Fatal(err)
	}
	return func(t testing.TB) {
		out, err := exec.Command("zfs", "get", "-H", "-o", "value", "org.example:theirs", name).Output()
		if err != nil || strings.TrimSpace(string(out)) != "yes" {
			t.Errorf("what was not ours is %q, %v", out, err)
		}
	}
}

// TestCommands: each command is a process and a look at the disk, and a branch waits for all of them. By hand it is two.
func TestCommands(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.ZFS)
	p := create(t, pool(t), t.TempDir())
	v, err := p.Ensure(t.Context(), storagetest.Spec("data"))
	storagetest.Must(t, err)
	ran := commands(t)
	_, err = p.Snapshot(t.Context(), "s", v.ID)
	storagetest.Must(t, err)
	storagetest.Must(t, p.Hold(t.Context(), v.ID, "s", "op1"))
	clone, err := p.Clone(t.Context(), v.ID, "s", storagetest.Spec("copy"), false)
	storagetest.Must(t, err)
	if got, want := ran(), []string{"get", "snapshot", "get", "get", "hold", "get", "clone"}; !slices.Equal(got, want) {
		t.Errorf("a branch ran %v, want %v", got, want)
	}
	if seen, err := p.Inspect(t.Context(), clone.ID); err != nil || !reflect.DeepEqual(seen, clone) {
		t.Errorf("the clone is %+v (%v), it was told as %+v", seen, err, clone)
	}
	storagetest.Must(t, p.Release(t.Context(), v.ID, "s", "op1"))
	storagetest.Destroy(t, p, clone.ID)
	storagetest.Destroy(t, p, v.ID)
}

// commands are the names of the zfs commands that are run from now on.
func commands(t testing.TB) func() []string {
	t.Helper()
	zfs, err := exec.LookPath("zfs")
	storagetest.Must(t, err)
	dir := t.TempDir()
	text := fmt.Sprintf("#!/bin/sh\necho $1 >>%s/ran\nexec %s \"$@\"\n", dir, zfs)
	storagetest.Must(t, os.WriteFile(filepath.Join(dir, "zfs"), []byte(text), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() []string {
		text, err := os.ReadFile(filepath.Join(dir, "ran"))
		storagetest.Must(t, err)
		return strings.Fields(string(text))
	}
}
