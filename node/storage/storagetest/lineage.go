package storagetest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

func testSnapshot(t *testing.T, f Fixture) {
	ctx, v := t.Context(), ensure(t, f.Pool, Spec("data"))
	write(t, v, "hello", "then")
	first := snapshot(t, f.Pool, "s1", v.ID)
	write(t, v, "hello", "now")
	second := snapshot(t, f.Pool, "s2", v.ID)
	again := snapshot(t, f.Pool, "s1", v.ID)
	if first[0].GUID == "" || first[0].GUID == second[0].GUID || again[0].GUID != first[0].GUID {
		t.Fatalf("%+v, %+v, again %+v", first, second, again)
	}
	got, err := f.Pool.ListSnapshots(ctx, v.ID)
	Must(t, err)
	if len(got) != 2 || got[0].Name != "s1" || got[1].Name != "s2" || got[0].Volume != v.ID || got[0].GUID != first[0].GUID {
		t.Fatalf("listed: %+v", got)
	}
	Must(t, f.Pool.Forget(ctx, v.ID, "s1"))
	Must(t, f.Pool.Forget(ctx, v.ID, "s1"))
	if got, err = f.Pool.ListSnapshots(ctx, v.ID); err != nil || len(got) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	wantFile(t, v, "hello", "now")
}

func testSnapshotOfMany(t *testing.T, f Fixture) {
	a, b := ensure(t, f.Pool, Spec("a")), ensure(t, f.Pool, Spec("b"))
	if got := snapshot(t, f.Pool, "both", a.ID, b.ID); len(got) != 2 || got[0].Volume != a.ID || got[1].Volume != b.ID || got[0].GUID == got[1].GUID {
		t.Fatalf("%+v", got)
	}
	snapshot(t, f.Pool, "one", a.ID)
	_, err := f.Pool.Snapshot(t.Context(), "one", a.ID, b.ID)
	wantCode(t, err, api.CodeVolumeSnapshotTaken)
	if got, err := f.Pool.ListSnapshots(t.Context(), b.ID); err != nil || len(got) != 1 {
		t.Fatalf("refused, and there are %+v, %v", got, err)
	}
}

func testRenameSnapshot(t *testing.T, f Fixture) {
	ctx, v := t.Context(), ensure(t, f.Pool, Spec("data"))
	write(t, v, "hello", "then")
	first := snapshot(t, f.Pool, "s1", v.ID)[0]
	snapshot(t, f.Pool, "s2", v.ID)
	Must(t, f.Pool.Hold(ctx, v.ID, "s1", "op1"))
	wantCode(t, f.Pool.RenameSnapshot(ctx, v.ID, "s1", "s2"), api.CodeVolumeSnapshotTaken)
	wantCode(t, f.Pool.RenameSnapshot(ctx, v.ID, "s1", "a/b"), api.CodeVolumeInvalid)
	wantCode(t, f.Pool.RenameSnapshot(ctx, v.ID, "s9", "s8"), api.CodeVolumeSnapshotNotFound)
	for range 2 {
		Must(t, f.Pool.RenameSnapshot(ctx, v.ID, "s1", "c1"))
	}
	Must(t, f.Pool.RenameSnapshot(ctx, v.ID, "c1", "c1"))
	got, err := f.Reopen(t).ListSnapshots(ctx, v.ID)
	Must(t, err)
	if len(got) != 2 || got[0].Name != "c1" || got[0].GUID != first.GUID || got[1].Name != "s2" || !slices.Equal(got[0].Holds, []string{"op1"}) {
		t.Fatalf("listed: %+v", got)
	}
	wantCode(t, f.Pool.Forget(ctx, v.ID, "c1"), api.CodeVolumeSnapshotNeeded)
	Must(t, f.Pool.Release(ctx, v.ID, "c1", "op1"))
	again := snapshot(t, f.Pool, "s1", v.ID)[0]
	if again.GUID == first.GUID {
		t.Error("the old name is not free")
	}
	spec := Spec("data")
	clone, err := f.Pool.Clone(ctx, v.ID, "c1", spec, false)
	Must(t, err)
	t.Cleanup(func() { Destroy(t, f.Pool, spec.ID) })
	wantFile(t, clone, "hello", "then")
}

func testHold(t *testing.T, f Fixture) {
	ctx, v := t.Context(), ensure(t, f.Pool, Spec("data"))
	snapshot(t, f.Pool, "s", v.ID)
	for _, tag := range []string{"op2", "op1", "op1"} {
		Must(t, f.Pool.Hold(ctx, v.ID, "s", tag))
	}
	got, err := f.Pool.ListSnapshots(ctx, v.ID)
	if err != nil || !slices.Equal(got[0].Holds, []string{"op1", "op2"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	Must(t, f.Pool.Release(ctx, v.ID, "s", "op2"))
	Must(t, f.Pool.Release(ctx, v.ID, "s", "op2"))
	err = f.Pool.Forget(ctx, v.ID, "s")
	wantCode(t, err, api.CodeVolumeSnapshotNeeded)
	if !strings.Contains(err.Error(), "op1") {
		t.Errorf("%v does not say who holds it", err)
	}
	Must(t, f.Pool.Retire(ctx, v.ID))
	wantCode(t, f.Pool.Destroy(ctx, v.ID), api.CodeVolumeSnapshotNeeded)
	Must(t, f.Pool.Release(ctx, v.ID, "s", "op1"))
	Must(t, f.Pool.Destroy(ctx, v.ID))
}

// branched is a volume with a snapshot, written since, and a clone of that.
func branched(t *testing.T, p storage.Pool) (origin, clone storage.Volume) {
	t.Helper()
	origin = ensure(t, p, Spec("data"))
	write(t, origin, "hello", "then")
	snapshot(t, p, "s", origin.ID)
	write(t, origin, "hello", "now")
	spec := Spec("data")
	clone, err := p.Clone(t.Context(), origin.ID, "s", spec, false)
	Must(t, err)
	t.Cleanup(func() { Destroy(t, p, spec.ID) })
	return origin, clone
}

func testClone(t *testing.T, f Fixture) {
	ctx := t.Context()
	origin, clone := branched(t, f.Pool)
	if clone.Origin == nil || clone.Origin.Volume != origin.ID || clone.Origin.Snapshot != "s" || clone.Origin.GUID == "" || clone.State != storage.StateLive {
		t.Fatalf("%+v", clone)
	}
	wantFile(t, clone, "hello", "then")
	write(t, clone, "hello", "branch")
	wantFile(t, origin, "hello", "now")
	again, err := f.Pool.Clone(ctx, origin.ID, "s", clone.Spec, false)
	Must(t, err)
	wantFile(t, again, "hello", "branch")
	if u := inspect(t, f.Pool, clone.ID); u.SizeBytes != clone.SizeBytes {
		t.Errorf("the clone's size is %d", u.SizeBytes)
	}
	if n := fill(t, clone, 48); n > 32 {
		t.Errorf("a clone of 32 MiB took %d MiB", n)
	}
	_, err = f.Pool.Clone(ctx, origin.ID, "s", origin.Spec, false)
	wantCode(t, err, api.CodeVolumeNameTaken)
	other := Spec("data")
	other.Namespace = origin.Namespace
	_, err = f.Pool.Clone(ctx, origin.ID, "s", other, false)
	wantCode(t, err, api.CodeVolumeNameTaken)
}

func testCloneOfClone(t *testing.T, f Fixture) {
	_, clone := branched(t, f.Pool)
	write(t, clone, "hello", "branch")
	snapshot(t, f.Pool, "deeper", clone.ID)
	spec := Spec("data")
	deep, err := f.Pool.Clone(t.Context(), clone.ID, "deeper", spec, false)
	Must(t, err)
	t.Cleanup(func() { Destroy(t, f.Pool, spec.ID) })
	wantFile(t, deep, "hello", "branch")
	if deep.Origin.Volume != clone.ID {
		t.Fatalf("%+v", deep.Origin)
	}
}

// testPromote: the origin of a clone goes, and the clone stays.
func testPromote(t *testing.T, f Fixture) {
	ctx := t.Context()
	origin, clone := branched(t, f.Pool)
	Must(t, f.Pool.Retire(ctx, origin.ID))
	if f.Pool.Capabilities().ClonesDepend {
		err := f.Pool.Destroy(ctx, origin.ID)
		wantCode(t, err, api.CodeVolumeSnapshotNeeded)
		if !strings.Contains(err.Error(), clone.ID) {
			t.Errorf("%v does not name the clone", err)
		}
		wantCode(t, f.Pool.Forget(ctx, origin.ID, "s"), api.CodeVolumeSnapshotNeeded)
	}
	for range 2 {
		Must(t, f.Pool.Promote(ctx, clone.ID))
	}
	wantFile(t, inspect(t, f.Pool, clone.ID), "hello", "then")
	Must(t, f.Pool.Destroy(ctx, origin.ID))
	wantFile(t, inspect(t, f.Pool, clone.ID), "hello", "then")
	snapshot(t, f.Pool, "after", clone.ID)
}

// testSwap is a rollback and its undoing.
func testSwap(t *testing.T, f Fixture) {
	ctx := t.Context()
	now := ensure(t, f.Pool, Spec("data"))
	write(t, now, "hello", "then")
	snapshot(t, f.Pool, "s", now.ID)
	write(t, now, "hello", "now")
	spec := now.Spec
	spec.ID = Spec("").ID
	then, err := f.Pool.Clone(ctx, now.ID, "s", spec, true)
	Must(t, err)
	t.Cleanup(func() { Destroy(t, f.Pool, spec.ID) })
	if then.State != storage.StateKept || then.Path != "" {
		t.Fatalf("%+v", then)
	}
	for range 2 {
		Must(t, f.Pool.Swap(ctx, now.ID, then.ID))
		state(t, f.Pool, now.ID, storage.StateKept)
		state(t, f.Pool, then.ID, storage.StateLive)
	}
	if v := inspect(t, f.Pool, then.ID); v.Path != now.Path {
		t.Errorf("the path was %s and is %s", now.Path, v.Path)
	}
	wantFile(t, inspect(t, f.Pool, then.ID), "hello", "then")
	Must(t, f.Pool.Swap(ctx, then.ID, now.ID))
	wantFile(t, inspect(t, f.Pool, now.ID), "hello", "now")
	state(t, f.Pool, then.ID, storage.StateKept)
}

func testSwapRefused(t *testing.T, f Fixture) {
	ctx := t.Context()
	a, b := ensure(t, f.Pool, Spec("a")), ensure(t, f.Pool, Spec("b"))
	wantCode(t, f.Pool.Swap(ctx, a.ID, b.ID), api.CodeVolumeInvalid)
	Must(t, f.Pool.Retire(ctx, b.ID))
	wantCode(t, f.Pool.Swap(ctx, a.ID, b.ID), api.CodeVolumeInvalid)
	Must(t, f.Pool.Retire(ctx, a.ID))
	wantCode(t, f.Pool.Swap(ctx, a.ID, b.ID), api.CodeVolumeNotLive)
	_, err := f.Pool.Ensure(ctx, a.Spec)
	wantCode(t, err, api.CodeVolumeNotLive)
	state(t, f.Pool, a.ID, storage.StateKept)
	twin := b.Spec
	twin.ID = Spec("").ID
	ensure(t, f.Pool, twin)
	Must(t, f.Pool.Restore(ctx, a.ID))
	live := a.Spec
	live.ID = Spec("").ID
	_, err = f.Pool.Ensure(ctx, live)
	wantCode(t, err, api.CodeVolumeNameTaken)
}

// testRetire is a removal and its undoing, while another took the name.
func testRetire(t *testing.T, f Fixture) {
	ctx, v := t.Context(), ensure(t, f.Pool, Spec("data"))
	write(t, v, "hello", "there")
	snapshot(t, f.Pool, "s", v.ID)
	for range 2 {
		Must(t, f.Pool.Retire(ctx, v.ID))
		state(t, f.Pool, v.ID, storage.StateKept)
	}
	next := v.Spec
	next.ID = Spec("").ID
	other := ensure(t, f.Pool, next)
	wantNoFile(t, other, "hello")
	wantCode(t, f.Pool.Restore(ctx, v.ID), api.CodeVolumeNameTaken)
	Must(t, f.Pool.Retire(ctx, next.ID))
	for range 2 {
		Must(t, f.Pool.Restore(ctx, v.ID))
		state(t, f.Pool, v.ID, storage.StateLive)
	}
	wantFile(t, inspect(t, f.Pool, v.ID), "hello", "there")
	if s, err := f.Pool.ListSnapshots(ctx, v.ID); err != nil || len(s) != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
}

// testDestroyInUse: what a workload still has mounted is not destroyed under it.
func testDestroyInUse(t *testing.T, f Fixture) {
	ctx, v := t.Context(), ensure(t, f.Pool, Spec("data"))
	write(t, v, "hello", "there")
	at := t.TempDir()
	Must(t, unix.Mount(v.Path, at, "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) }) //nolint:errcheck // it is unmounted below
	Must(t, f.Pool.Retire(ctx, v.ID))
	wantCode(t, f.Pool.Destroy(ctx, v.ID), api.CodeVolumeInUse)
	if got, err := os.ReadFile(filepath.Join(at, "hello")); err != nil || string(got) != "there" {
		t.Fatalf("%q, %v", got, err)
	}
	Must(t, unix.Unmount(at, 0))
	Must(t, f.Pool.Destroy(ctx, v.ID))
}
