package deploy_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
	"github.com/ployz/ployz/node/storage"
)

// TestBreakVolumes breaks every operation on volumes by themselves everywhere.
func TestBreakVolumes(t *testing.T) {
	for name, c := range volumeCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			optest.Exhaust(t, c)
		})
	}
}

// volumeCases are the operations on volumes by themselves, each in every state in which it finds its volume.
func volumeCases() map[string]optest.Case {
	return map[string]optest.Case{
		"volume.rm": on(uploadsUnused, func(l *lab) operation.Operation { return deploy.NewRemoveVolume(l.kit, "shop", "uploads") }),
		"volume.restore": on(uploadsKept, func(l *lab) operation.Operation {
			return deploy.NewRestoreVolume(l.kit, "shop", l.anyVolume("uploads").ID)
		}),
		"volume.prune":        pruning(uploadsOld),
		"volume.prune/copies": pruningCopies(),
		"volume.snapshot":     on(statefulRuns, func(l *lab) operation.Operation { return l.snap("before") }),
		"volume.snapshot.rm": on(snapped, func(l *lab) operation.Operation {
			return deploy.NewRemoveSnapshot(l.kit, api.VolumeSnapshotRequest{Namespace: "shop", Name: "data", Snapshot: "before"})
		}),
		"volume.clone":          on(statefulRuns, func(l *lab) operation.Operation { return l.clone("data", "", "trial") }),
		"volume.clone/depends":  on(dependent, func(l *lab) operation.Operation { return l.clone("data", "", "trial") }),
		"volume.clone/snapshot": on(snapped, func(l *lab) operation.Operation { return l.clone("data", "before", "trial") }),
		"volume.create": on(statefulRuns, func(l *lab) operation.Operation {
			return l.create(api.VolumeCreateRequest{Name: "media", SizeBytes: gib, Owner: &api.Owner{UID: 7, GID: 8}, Mode: 0o750})
		}),
		"volume.create/first": on(nothing, func(l *lab) operation.Operation { return l.create(api.VolumeCreateRequest{Name: "data.db-0"}) }),
	}
}

// withoutUploads is the stateful shop, with uploads declared and mounted by nobody.
func withoutUploads() api.Spec {
	s := stateful("v1")
	edit(&s, "app", func(s *api.Service) { s.Mounts = []api.Mount{{Volume: "cache", Target: "/cache"}} })
	edit(&s, "web", func(s *api.Service) { s.Mounts = nil })
	return s
}

func uploadsUnused(t *testing.T, l *lab) {
	statefulRuns(t, l)
	l.mustRun(t, deploy.NewDeploy(l.kit, withoutUploads(), nil))
}

func uploadsKept(t *testing.T, l *lab) {
	uploadsUnused(t, l)
	l.mustRun(t, deploy.NewRemoveVolume(l.kit, "shop", "uploads"))
}

// anyVolume is the fact of the first data set of a name, in any state; empty where there is none.
func (l *lab) anyVolume(name string) (v api.VolumeFact) {
	all, _ := deploy.Volumes(context.Background(), l.store.Facts(), "shop") // a store in memory
	if at := slices.IndexFunc(all, func(v api.VolumeFact) bool { return v.Name == name }); at >= 0 {
		return all[at]
	}
	return v
}

// refused wants an operation refused before it touched anything, with a code, words and a hint.
func (l *lab) refused(t *testing.T, op operation.Operation, code api.Code, says, hint string) {
	t.Helper()
	before := l.snapshot()
	out := l.run(op)
	e := found(out.Error, code)
	if out.Outcome != api.Refused || e == nil || !strings.Contains(e.Message, says) || !strings.Contains(e.Hint, hint) {
		t.Fatalf("%s ended %s: %v, hint %q", op.Kind(), out.Outcome, out.Error, hintOf(out.Error))
	}
	if after := l.snapshot(); after != before {
		t.Errorf("refused, and it changed\n%s\nto\n%s", before, after)
	}
}

func hintOf(e *api.Error) string {
	if e == nil {
		return ""
	}
	return e.Hint
}

// inPool wants a data set to be in a state in the pool.
func (l *lab) inPool(t *testing.T, id string, state storage.State) {
	t.Helper()
	if is, err := l.pool.Inspect(t.Context(), id); err != nil || is.State != state {
		t.Errorf("the pool has %s as %q, want %q (%v)", id, is.State, state, err)
	}
}

func TestRemoveVolume(t *testing.T) {
	l := newLab(t)
	uploadsUnused(t, l)
	id := l.volume(t, "uploads").ID
	l.pool.SetUsed(id, 3<<20)
	plan := l.preview(t, deploy.NewRemoveVolume(l.kit, "shop", "uploads"))
	expectLines(t, lines(plan), "retire volume uploads: it holds 3 MiB; it is kept, and restored with: ployzctl volume restore "+id)
	commit := l.current(t, "shop").Number
	out := l.mustRun(t, deploy.NewRemoveVolume(l.kit, "shop", "uploads"))
	if !strings.Contains(string(out.Value), `"state":"kept"`) || !strings.Contains(string(out.Value), id) {
		t.Errorf("the outcome's value is %s", out.Value)
	}
	l.inPool(t, id, storage.StateKept)
	if fact := l.anyVolume("uploads"); fact.State != api.VolumeKept || fact.Kept.IsZero() || fact.Operation != out.Operation {
		t.Errorf("the fact is %+v", fact)
	}
	if now := l.current(t, "shop").Number; now != commit {
		t.Errorf("it made commit %d of the namespace", now)
	}
	l.refused(t, deploy.NewRemoveVolume(l.kit, "shop", "uploads"), api.CodeVolumeNotFound, "no live volume uploads", "volume restore "+id)
	// The next deploy declares it still, and makes none: nothing mounts it.
	l.mustRun(t, deploy.NewDeploy(l.kit, withoutUploads(), nil))
	l.inPool(t, id, storage.StateKept)
}

func TestRemoveVolumeRefusals(t *testing.T) {
	l := newLab(t)
	_, silent := l.second(t)
	statefulRuns(t, l)
	remove := func(name string) operation.Operation { return deploy.NewRemoveVolume(l.kit, "shop", name) }
	l.refused(t, remove("uploads"), api.CodeVolumeInUse, "app, web mount it", "ployzctl deploy")
	l.refused(t, remove("cache.app-0"), api.CodeVolumeInUse, "app mount it", "ployzctl rm shop")
	l.mustRun(t, deploy.NewScale(l.kit, "shop", "app", 0))
	l.refused(t, remove("cache.app-0"), api.CodeVolumeInUse, "app mount it", "")
	l.refused(t, remove("nothing"), api.CodeVolumeNotFound, "no live volume nothing", "ployzctl volume ls shop")
	next := withoutUploads()
	edit(&next, "app", func(s *api.Service) { s.Placement.Replicas = 1 })
	l.mustRun(t, deploy.NewDeploy(l.kit, next, nil))
	if l.volume(t, "uploads").Machine == "m2" {
		*silent = true
		l.refused(t, remove("uploads"), api.CodeMachineSilent, "m2 has it and does not answer", "machine show m2")
	}
}

// TestRemoveVolumeInUse: what a process outside of any service has open stays, and so does its name.
func TestRemoveVolumeInUse(t *testing.T) {
	l := newLab(t)
	uploadsUnused(t, l)
	id, before := l.volume(t, "uploads").ID, l.snapshot()
	broken := &failing{Pool: l.pool, retire: storage.InUse(storage.Spec{ID: id, Namespace: "shop", Name: "uploads"}, "process 7")}
	l.local.Pool, l.local.Release = broken, time.Millisecond
	out := l.run(deploy.NewRemoveVolume(l.kit, "shop", "uploads"))
	if out.Outcome != api.RolledBack || out.Error.Code != api.CodeVolumeInUse {
		t.Fatalf("%s %v %v", out.Outcome, out.Error, out.Leftovers)
	}
	if after := l.snapshot(); after != before {
		t.Errorf("rolled back, and it changed\n%s\nto\n%s", before, after)
	}
}

// failing is a pool that refuses some calls.
type failing struct {
	storage.Pool
	retire error
}

// Retire implements storage.Places.
func (f *failing) Retire(context.Context, string) error { return f.retire }

func TestRestoreVolume(t *testing.T) {
	l := newLab(t)
	uploadsKept(t, l)
	id := l.anyVolume("uploads").ID
	l.mustRun(t, deploy.NewRestoreVolume(l.kit, "shop", id))
	l.inPool(t, id, storage.StateLive)
	if fact := l.volume(t, "uploads"); fact.ID != id || !fact.Kept.IsZero() {
		t.Errorf("the fact is %+v", fact)
	}
	l.refused(t, deploy.NewRestoreVolume(l.kit, "shop", id), api.CodeVolumeNotKept, "it has its name", "volume show shop/uploads")
	l.refused(t, deploy.NewRestoreVolume(l.kit, "shop", "v9"), api.CodeVolumeNotFound, "keeps no volume v9", "volume ls shop")
	// A deploy that mounts it again takes it as it is.
	l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v1"), nil))
	if got := l.volume(t, "uploads").ID; got != id {
		t.Errorf("the deploy has %s, not %s", got, id)
	}
}

func TestRestoreVolumeRefusals(t *testing.T) {
	l := newLab(t)
	uploadsKept(t, l)
	id := l.anyVolume("uploads").ID
	restore := func() operation.Operation { return deploy.NewRestoreVolume(l.kit, "shop", id) }
	l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v1"), nil))
	l.refused(t, restore(), api.CodeVolumeNameTaken, "has the name shop/uploads", "app, web mount that one")
	l.mustRun(t, deploy.NewDeploy(l.kit, withoutUploads(), nil))
	l.refused(t, restore(), api.CodeVolumeNameTaken, "has the name shop/uploads", "ployzctl volume rm shop/uploads")
	l.mustRun(t, deploy.NewRemoveVolume(l.kit, "shop", "uploads"))
	otherScope := withoutUploads()
	otherScope.Volumes["uploads"] = api.Volume{Scope: api.ScopeSlot}
	l.mustRun(t, deploy.NewDeploy(l.kit, otherScope, nil))
	l.refused(t, restore(), api.CodeVolumeScope, "its scope is namespace", "")
	l.mustRun(t, deploy.NewDeploy(l.kit, withoutUploads(), nil))
	pool := l.local.Pool
	l.local.Pool = nil
	l.refused(t, restore(), api.CodeVolumePoolUnavailable, "no pool", "ployzctl doctor")
	l.local.Pool = pool
	destroyed(t, l, id)
	l.refused(t, restore(), api.CodeVolumeNotFound, "in the pool of m1", "ployzctl volume ls")
}

// destroyed makes a kept data set disappear behind everybody's back.
func destroyed(t *testing.T, l *lab, id string) {
	t.Helper()
	all, err := l.pool.ListSnapshots(t.Context(), id)
	for _, s := range all {
		for _, tag := range s.Holds {
			if err == nil {
				err = l.pool.Release(t.Context(), id, s.Name, tag)
			}
		}
	}
	if err == nil {
		err = l.pool.Destroy(t.Context(), id)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestVolumeOpsClearEachOther: what one of them left, another clears, and a deploy does too.
func TestVolumeOpsClearEachOther(t *testing.T) {
	l := newLab(t)
	uploadsUnused(t, l)
	id := l.volume(t, "uploads").ID
	// As an interrupted volume rm leaves it.
	if err := l.pool.Retire(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	plan := l.preview(t, deploy.NewDeploy(l.kit, stateful("v1"), nil))
	expectLines(t, about(lines(plan), "volume uploads"), "restore volume uploads: it lost its name to an operation that did not come to its end")
	l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v1"), nil))
	l.inPool(t, id, storage.StateLive)
}
