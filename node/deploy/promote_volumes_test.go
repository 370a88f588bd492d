package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// triedWithData is a shop with volumes, and a branch of it with volumes and a version of its own.
func triedWithData(t *testing.T, l *lab) {
	statefulTwice(t, l)
	branched(t, l, fewer(stateful("v1")))
}

func withData(l *lab) *deploy.Promote {
	return deploy.NewPromote(l.kit, api.PromoteRequest{Branch: "try", Namespace: "shop", WithData: true})
}

// breakPromoteWithData compares worlds as breakWithData does, and for its reason.
func breakPromoteWithData() optest.Case {
	return optest.Case{New: func(t *testing.T) *optest.World {
		l := newLab(t)
		triedWithData(t, l)
		return &optest.World{
			Store: l.store, Clock: l.clock, Snapshot: l.oneOfEach,
			Operation: func() operation.Operation { return withData(l) },
		}
	}}
}

// TestPromoteLeavesData: without data the target's stays as it is and no smaller, and the plan says what the branch has.
func TestPromoteLeavesData(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	s := fewer(stateful("v2"))
	s.Volumes["data"] = api.Volume{SizeBytes: gib, Owner: &api.Owner{UID: 999, GID: 999}, Mode: 0o700}
	s.Volumes["extra"] = api.Volume{}
	edit(&s, "web", func(s *api.Service) { s.Mounts = append(s.Mounts, api.Mount{Volume: "extra", Target: "/extra"}) })
	branched(t, l, s)
	was := l.volume(t, "data")
	said := volumeLines(l.preview(t, promote(l)))
	expectLines(t, about(said, "volume data"), "keep volume data: its data stays as it is now; what try has of it comes with --with-data")
	expectLines(t, about(said, "volume extra"), "create volume extra: new and empty; what try has of it comes with --with-data")
	l.mustRun(t, promote(l))
	if now := l.volume(t, "data"); now.ID != was.ID || now.SizeBytes != 10*gib || l.current(t, "shop").Spec.Volumes["data"].SizeBytes != 10*gib {
		t.Errorf("data was %+v and is %+v", was, now)
	}
	if extra := l.volume(t, "extra"); extra.Origin != nil {
		t.Errorf("extra is %+v", extra)
	}
	l.mountsOnlyLive(t)
}

// TestPromoteWithData swaps clones of the branch's volumes in, and a rollback with data gives the old back, and again
// the promoted.
func TestPromoteWithData(t *testing.T) {
	l := newLab(t)
	triedWithData(t, l)
	was, branch := l.volume(t, "data"), l.volumesOf(t, "try")["data"]
	l.pool.SetUsed(was.ID, 2*gib)
	plan := l.preview(t, withData(l))
	expectLines(t, about(volumeLines(plan), "volume data"), "swap volume data: as try/data ("+branch.ID+") is now; the present one, "+was.ID+
		", which holds 2 GiB, is kept, and comes back with: ployzctl rollback shop --to 2 --with-data; what was written to that one since the branch began is not in what comes")
	expectLines(t, about(volumeLines(plan), "cache.app-1"), "keep volume cache.app-1: its data stays as it is now; try has none of that name")
	out := l.runner().Run(t.Context(), operation.Request{Operation: withData(l), PlanDigest: plan.Digest})
	if out.Outcome != api.Committed {
		t.Fatalf("%s %v", out.Outcome, out.Error)
	}
	promoted := l.volume(t, "data")
	if o := promoted.Origin; o == nil || o.Volume != branch.ID || o.Snapshot != storage.OperationSnapshot(out.Operation, 0) || o.GUID == "" {
		t.Errorf("data began as %+v", o)
	}
	expectPlace(t, l, was.ID, storage.StateKept)
	expectPlace(t, l, branch.ID, storage.StateLive)
	in := l.current(t, "shop").Volumes["data"]
	if in.ID != promoted.ID || in.Of != was.ID || in.Snapshot != "c3" {
		t.Errorf("the commit has %+v", in)
	}
	if left := l.operationSnapshots(); len(left) != 0 {
		t.Errorf("it left %q", left)
	}
	l.mountsOnlyLive(t)

	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 0))
	if back := l.volume(t, "data"); *back.Origin != (api.VolumeOrigin{Volume: was.ID, Snapshot: "c3", GUID: in.GUID}) {
		t.Errorf("rolled back, data began as %+v", back.Origin)
	}
	left := l.current(t, "shop").Volumes["data"]
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 0))
	if again := l.volume(t, "data"); *again.Origin != (api.VolumeOrigin{Volume: promoted.ID, Snapshot: "c4", GUID: left.GUID}) {
		t.Errorf("and again forward, data began as %+v", again.Origin)
	}
	if c := l.current(t, "shop"); c.Of != 3 || c.Spec.Services["app"].Placement.Replicas != 2 {
		t.Errorf("it runs %d with %+v", c.Of, c.Spec.Services["app"].Placement)
	}
	l.mountsOnlyLive(t)
}

// TestPromoteWithDataOfOnePiece: where a clone depends on its origin, the branch's snapshot stays for it, and held by nobody.
func TestPromoteWithDataOfOnePiece(t *testing.T) {
	l := newLab(t)
	l.pool.ClonesDepend = true
	triedWithData(t, l)
	out := l.mustRun(t, withData(l))
	left := about(l.operationSnapshots(), "op-"+out.Operation)
	if len(left) != 3 || strings.Contains(strings.Join(left, ""), "["+out.Operation) {
		t.Errorf("of its snapshots it left %q", left)
	}
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 0))
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 0))
	l.mountsOnlyLive(t)
}

// TestPromoteWithDataToNew: where nobody has the name, the clone has it at once.
func TestPromoteWithDataToNew(t *testing.T) {
	l := newLab(t)
	triedWithData(t, l)
	l.mustRun(t, deploy.NewRemove(l.kit, "shop"))
	op := func() operation.Operation {
		return deploy.NewPromote(l.kit, api.PromoteRequest{Branch: "try", WithData: true, Secrets: api.BranchSecretsCopy})
	}
	branch := l.volumesOf(t, "try")["data"].ID
	expectLines(t, about(volumeLines(l.preview(t, op())), "volume data"), "clone volume data: as try/data ("+branch+") is now")
	l.mustRun(t, op())
	if now := l.volume(t, "data"); now.Origin == nil || now.Origin.Volume != branch {
		t.Errorf("data is %+v", now)
	}
	l.mountsOnlyLive(t)
}

// TestPromoteWithDataFails: a release that does not start puts the target's data back.
func TestPromoteWithDataFails(t *testing.T) {
	l := newLab(t)
	triedWithData(t, l)
	was, before := l.volume(t, "data").ID, l.snapshot()
	l.runtime.Program = func(s runtime.Spec) memruntime.Program {
		if s.Namespace == "shop" && s.Image == "app:v1" && !s.Job {
			return memruntime.Program{Refuse: "no"}
		}
		return memruntime.Program{Ends: s.Job}
	}
	if out := l.run(withData(l)); out.Outcome != api.RolledBack {
		t.Fatalf("%s %v %v", out.Outcome, out.Error, out.Leftovers)
	}
	if now := l.snapshot(); now != before {
		t.Errorf("before\n%s\nafter\n%s", before, now)
	}
	expectPlace(t, l, was, storage.StateLive)
	l.mountsOnlyLive(t)
}

// TestPromoteWithDataRefusals: each is made before anything is touched, and says what would do.
func TestPromoteWithDataRefusals(t *testing.T) {
	second := func(t *testing.T, l *lab) {
		t.Helper()
		l.put(t, store.Machine("m2"), machine.Member{ID: "m2", Name: "m2", Recipient: "age1second"})
	}
	for name, c := range map[string]struct {
		world      func(t *testing.T, l *lab)
		code       api.Code
		says, hint string
	}{
		"on another machine": {func(t *testing.T, l *lab) {
			now := l.volume(t, "data")
			second(t, l)
			now.Machine = "m2"
			l.put(t, store.Volume("shop", now.ID), now)
		}, api.CodeVolumeLineage, "that of try is on m1, and the present one on m2", "ployzctl migrate try --from m1 --to m2"},
		"the branch's on a silent machine": {func(t *testing.T, l *lab) {
			of := l.volumesOf(t, "try")["data"]
			second(t, l)
			of.Machine = "m2"
			l.put(t, store.Volume("try", of.ID), of)
		}, api.CodeMachineSilent, "m2 has it and does not answer", "ployzctl machine show m2"},
		"not in the pool": {func(t *testing.T, l *lab) {
			now := l.volume(t, "uploads")
			now.ID = "vanother"
			l.takeFact(t, l.volume(t, "uploads").ID)
			l.put(t, store.Volume("shop", now.ID), now)
		}, api.CodeVolumeLineage, "the present one, vanother, is not in the pool of m1", "ployzctl volume show vanother"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			triedWithData(t, l)
			c.world(t, l)
			l.refused(t, withData(l), c.code, c.says, c.hint)
		})
	}
}

// TestPromoteSwapsAlone: nobody of the target has a volume open that changes places, and the branch runs on.
func TestPromoteSwapsAlone(t *testing.T) {
	l := newLab(t)
	triedWithData(t, l)
	users, looked := l.pool.Users, 0
	var running []string
	for _, slot := range l.current(t, "try").Slots {
		running = append(running, slot.Instance)
	}
	l.runtime.SetFault(func(p memruntime.Point) error {
		if p.Call == "Stop" && slices.Contains(running, p.Subject) {
			t.Errorf("the branch's %s is stopped", p.Subject)
		}
		if p.Call != "Prepare" || p.After {
			return nil
		}
		looked++
		all, err := l.pool.List(t.Context())
		for _, v := range all {
			if v.State == storage.StateKept && users(v.ID) != "" {
				t.Errorf("%s is kept and used by %s", v.FullName(), users(v.ID))
			}
		}
		return err
	})
	l.mustRun(t, withData(l))
	if looked == 0 {
		t.Error("nothing was tried")
	}
	if said := about(phases(l.preview(t, withData(l))), "stop the writers:"); len(said) != 1 || !strings.Contains(said[0], "db-0") {
		t.Errorf("the plan says %q", said)
	}
}

// TestPromoteOnBtrfs: the rows are the branch's, a rollback gives the old ones back, another the promoted, and what the
// branch writes later is its own.
func TestPromoteOnBtrfs(t *testing.T) {
	l := newLab(t)
	pool := l.onBtrfs(t)
	file := func(ns string) string {
		t.Helper()
		v, err := pool.Inspect(t.Context(), l.volumesOf(t, ns)["data"].ID)
		must(t, err)
		return filepath.Join(v.Path, "rows")
	}
	write := func(ns, rows string) { t.Helper(); must(t, os.WriteFile(file(ns), []byte(rows), 0o600)) }
	want := func(rows string) {
		t.Helper()
		if text, err := os.ReadFile(file("shop")); err != nil || string(text) != rows {
			t.Errorf("the rows are %q, %v, want %q", text, err, rows)
		}
	}
	l.mustRun(t, deploy.NewDeploy(l.kit, small("v1", 32<<20), nil))
	branched(t, l, small("v2", 32<<20))
	write("shop", "the shop's")
	write("try", "the branch's")
	l.mustRun(t, promote(l))
	want("the shop's")
	l.mustRun(t, withData(l))
	want("the branch's")
	write("try", "later")
	want("the branch's")
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 0))
	want("the shop's")
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 0))
	want("the branch's")
	l.mustRun(t, withData(l))
	want("later")
}
