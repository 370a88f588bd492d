package deploy_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

const gib = 1 << 30

// stateful is the shop with volumes: one that the database writes, one that two services share, one for each slot.
func stateful(version string) api.Spec {
	s := shop(version)
	s.Volumes = map[string]api.Volume{
		"data":    {SizeBytes: 10 * gib, Owner: &api.Owner{UID: 999, GID: 999}, Mode: 0o700},
		"uploads": {},
		"cache":   {SizeBytes: gib, Scope: api.ScopeSlot},
	}
	edit(&s, "db", func(s *api.Service) { s.Mounts = []api.Mount{{Volume: "data", Target: "/var/lib/db"}} })
	edit(&s, "app", func(s *api.Service) {
		s.Mounts = []api.Mount{{Volume: "uploads", Target: "/srv/uploads"}, {Volume: "cache", Target: "/cache"}}
	})
	edit(&s, "web", func(s *api.Service) {
		s.Mounts = []api.Mount{{Volume: "uploads", Target: "/srv/uploads", ReadOnly: true}}
	})
	return s
}

// otherVolumes grows one, shrinks one, gives one another owner, drops one and adds one.
func otherVolumes() api.Spec {
	s := stateful("v2")
	s.Volumes = map[string]api.Volume{"data": {SizeBytes: 20 * gib}, "cache": {SizeBytes: gib / 2, Scope: api.ScopeSlot}, "new": {}}
	edit(&s, "app", func(s *api.Service) {
		s.Mounts = []api.Mount{{Volume: "new", Target: "/new"}, {Volume: "cache", Target: "/cache"}}
	})
	edit(&s, "web", func(s *api.Service) { s.Mounts = nil })
	return s
}

func statefulRuns(t *testing.T, l *lab) { l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v1"), nil)) }

func volumesChanged(t *testing.T, l *lab) {
	statefulRuns(t, l)
	l.mustRun(t, deploy.NewDeploy(l.kit, otherVolumes(), nil))
}

// facts are the namespace's data sets as "name state machine", sorted.
func (l *lab) facts(t testing.TB) []string {
	t.Helper()
	all, err := deploy.Volumes(context.Background(), l.store.Facts(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, v := range all {
		lines = append(lines, v.Name+" "+v.State+" "+v.Machine)
	}
	slices.Sort(lines)
	return lines
}

func (l *lab) volume(t testing.TB, name string) api.VolumeFact {
	t.Helper()
	all, err := deploy.Volumes(context.Background(), l.store.Facts(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(all, func(v api.VolumeFact) bool { return v.Name == name && v.State == api.VolumeLive })
	if at < 0 {
		t.Fatalf("no live data set %s among %+v", name, all)
	}
	return all[at]
}

// volumeLines are what a plan says of volumes.
func volumeLines(plan api.Plan) []string {
	plan.Changes = slices.DeleteFunc(slices.Clone(plan.Changes), func(c api.Change) bool { return !strings.HasPrefix(c.Subject, "volume ") })
	return lines(plan)
}

// about are the lines of a list that have a word.
func about(list []string, word string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !strings.Contains(s, word) })
}

func TestVolumesOfTheFirst(t *testing.T) {
	l := newLab(t)
	plan := l.preview(t, deploy.NewDeploy(l.kit, stateful("v1"), nil))
	expectLines(t, volumeLines(plan), "create volume cache.app-0: new and empty", "create volume cache.app-1: new and empty",
		"create volume data: new and empty", "create volume uploads: new and empty")
	expectLines(t, about(phases(plan), "volumes:"), "volumes: volume cache.app-0 on m1, volume cache.app-1 on m1, volume data on m1, volume uploads on m1")
	statefulRuns(t, l)
	expectLines(t, l.facts(t), "cache.app-0 live m1", "cache.app-1 live m1", "data live m1", "uploads live m1")
	fact := l.volume(t, "data")
	if fact.SizeBytes != 10*gib || fact.Owner.UID != 999 || fact.Mode != 0o700 || fact.Backend != "memory" || fact.Created.IsZero() || fact.Operation == "" {
		t.Errorf("the fact is %+v", fact)
	}
	commit := l.current(t, "shop")
	if got := commit.Volumes["data"]; got.ID != fact.ID || got.Machine != "m1" || len(commit.Volumes) != 4 {
		t.Errorf("the commit has %+v", commit.Volumes)
	}
	is, err := l.pool.Inspect(t.Context(), fact.ID)
	if err != nil || is.State != storage.StateLive || is.FullName() != "shop/data" || is.Owner.GID != 999 || is.Mode != 0o700 {
		t.Errorf("the pool has %+v, %v", is, err)
	}
	db, err := l.runtime.Inspect(t.Context(), l.instance(t, "db-0"))
	want := runtime.Mount{Volume: fact.ID, Source: is.Path, Target: "/var/lib/db"}
	if err != nil || len(db.Spec.Mounts) != 1 || db.Spec.Mounts[0] != want {
		t.Errorf("the database mounts %+v, %v", db.Spec.Mounts, err)
	}
	other, _ := l.runtime.Inspect(t.Context(), l.instance(t, "app-1"))
	if got := l.volume(t, "cache.app-1").ID; other.Spec.Mounts[1].Volume != got {
		t.Errorf("app-1 mounts %+v, and its cache is %s", other.Spec.Mounts, got)
	}
}

func TestVolumesOfAnUpdate(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	was := l.volume(t, "data")
	l.pool.SetUsed(was.ID, 3*gib/2)
	plan := l.preview(t, deploy.NewDeploy(l.kit, otherVolumes(), nil))
	expectLines(t, volumeLines(plan),
		"shrink volume cache.app-0: it holds 0 bytes", "shrink volume cache.app-1: it holds 0 bytes", "grow volume data: it holds 1.5 GiB", "create volume new: new and empty",
		"retire volume uploads: no longer asked for: it is kept, and restored with: ployzctl volume restore "+l.volume(t, "uploads").ID)
	if got := lines(plan)[5]; !strings.HasPrefix(got, "replace app-0: ") || !strings.HasSuffix(got, "; the old one stops first, since both write the volume cache.app-0") {
		t.Errorf("the plan says %q", got)
	}
	expectLines(t, about(phases(plan), "stop the writers"), "stop the writers: stop the old app-0 on m1, stop the old app-1 on m1")
	l.mustRun(t, deploy.NewDeploy(l.kit, otherVolumes(), nil))
	expectLines(t, l.facts(t), "cache.app-0 live m1", "cache.app-1 live m1", "data live m1", "new live m1", "uploads kept m1")
	if now := l.volume(t, "data"); now.ID != was.ID || now.SizeBytes != 20*gib || !now.Created.Equal(was.Created) || now.Operation == was.Operation {
		t.Errorf("it was %+v and is %+v", was, now)
	}
	if kept := about(l.pool.World(), " kept "); len(kept) != 1 || !strings.HasPrefix(kept[0], "volume shop/uploads ") {
		t.Errorf("the pool keeps %v", kept)
	}
	same := l.preview(t, deploy.NewRollback(l.kit, "shop", 2))
	expectLines(t, about(volumeLines(same), "volume data"), "keep volume data: its data stays as it is now")
	// What is kept gets its name back with the commit that had it, and keeps its size where that has grown.
	const otherwise = "; commit 1 left it otherwise, and it is given back so with --with-data"
	back := l.preview(t, deploy.NewRollback(l.kit, "shop", 1))
	expectLines(t, volumeLines(back),
		"grow volume cache.app-0: it holds 0 bytes"+otherwise, "grow volume cache.app-1: it holds 0 bytes"+otherwise, "update volume data: its owner or mode"+otherwise,
		"restore volume uploads: commit 1 had it, and it is kept; nobody wrote it since commit 1 was left",
		"retire volume new: no longer asked for: it is kept, and restored with: ployzctl volume restore "+l.volume(t, "new").ID)
	l.mustRun(t, deploy.NewRollback(l.kit, "shop", 1))
	if now := l.volume(t, "data"); now.SizeBytes != 20*gib {
		t.Errorf("after the rollback the size is %d", now.SizeBytes)
	}
	expectLines(t, l.facts(t), "cache.app-0 live m1", "cache.app-1 live m1", "data live m1", "new kept m1", "uploads live m1")
}

// TestRemoveKeepsVolumes, and a deploy after it begins anew and says so.
func TestRemoveKeepsVolumes(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	id := l.volume(t, "data").ID
	l.mustRun(t, deploy.NewRemove(l.kit, "shop"))
	expectLines(t, l.facts(t), "cache.app-0 kept m1", "cache.app-1 kept m1", "data kept m1", "uploads kept m1")
	if is, err := l.pool.Inspect(t.Context(), id); err != nil || is.State != storage.StateKept {
		t.Errorf("the pool has %+v, %v", is, err)
	}
	plan := l.preview(t, deploy.NewDeploy(l.kit, stateful("v1"), nil))
	expectLines(t, about(lines(plan), "volume data"), "create volume data: new and empty; a kept one of that name is restored with: ployzctl volume restore "+id)
	statefulRuns(t, l)
	if l.volume(t, "data").ID == id {
		t.Error("a removed data set came back by itself")
	}
}

// TestStoppedKeepsVolumes: a service scaled to nothing keeps what its slots had, one scaled down does not.
func TestStoppedKeepsVolumes(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	first := l.volume(t, "cache.app-0").ID
	l.mustRun(t, deploy.NewScale(l.kit, "shop", "app", 1))
	expectLines(t, about(l.facts(t), "cache"), "cache.app-0 live m1", "cache.app-1 kept m1")
	l.mustRun(t, deploy.NewScale(l.kit, "shop", "app", 0))
	expectLines(t, about(l.facts(t), " live"), "cache.app-0 live m1", "data live m1", "uploads live m1")
	l.mustRun(t, deploy.NewScale(l.kit, "shop", "app", 2))
	if got := l.volume(t, "cache.app-0").ID; got != first {
		t.Errorf("cache.app-0 was %s and is %s", first, got)
	}
}

// writing are the data sets, by id, that an instance may write.
func writing(s runtime.Spec) (ids []string) {
	for _, m := range s.Mounts {
		if !m.ReadOnly {
			ids = append(ids, m.Volume)
		}
	}
	return ids
}

// TestNeverTwoWriters: while anything of the new release starts, nothing of the old one that writes the same runs, also
// where the service has another name now, or a job writes what the service does.
func TestNeverTwoWriters(t *testing.T) {
	renamed := stateful("v1")
	renamed.Services["base"] = renamed.Services["db"]
	delete(renamed.Services, "db")
	edit(&renamed, "migrate", func(s *api.Service) { s.DependsOn = nil })
	withJob := stateful("v2")
	edit(&withJob, "migrate", func(s *api.Service) { s.Mounts = []api.Mount{{Volume: "uploads", Target: "/uploads"}} })
	for name, next := range map[string]api.Spec{"update": stateful("v2"), "renamed": renamed, "job": withJob} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			statefulRuns(t, l)
			old, starts := map[string]bool{}, 0
			for _, slot := range l.current(t, "shop").Slots {
				old[slot.Instance] = true
			}
			l.runtime.SetFault(func(p memruntime.Point) error {
				if p.Call != "Start" || p.After {
					return nil
				}
				starts++
				starting, err := l.runtime.Inspect(context.Background(), p.Subject)
				if err != nil {
					return err
				}
				all, err := l.runtime.List(context.Background())
				for _, o := range all {
					shared := slices.ContainsFunc(writing(o.Spec), func(id string) bool { return slices.Contains(writing(starting.Spec), id) })
					if old[o.ID] && o.State == runtime.StateRunning && shared && !l.stays(t, o.ID, next) {
						t.Errorf("%s starts while %s still writes the same", p.Subject, o.ID)
					}
				}
				return err
			})
			l.mustRun(t, deploy.NewDeploy(l.kit, next, nil))
			if starts < 2 {
				t.Errorf("%d instances were started: nothing was tried", starts)
			}
		})
	}
}

// stays says that an instance belongs to the next release as well, and so shares a volume of the namespace by the
// operator's wish.
func (l *lab) stays(t *testing.T, instance string, next api.Spec) bool {
	o, err := l.runtime.Inspect(context.Background(), instance)
	if err != nil {
		t.Error(err)
	}
	return next.Services[o.Spec.Service].Image == o.Spec.Image && o.Spec.Service != "app"
}

// TestFailedUpdateTakesNothing: what the failed operation made is gone, what it stopped runs, what was grown is as before.
func TestFailedUpdateTakesNothing(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	before := l.snapshot()
	l.runtime.Program = func(s runtime.Spec) memruntime.Program {
		if s.Image == "app:v2" && s.Slot == "app-1" {
			return memruntime.Program{Refuse: "no"}
		}
		return memruntime.Program{Ends: s.Job}
	}
	out := l.run(deploy.NewDeploy(l.kit, otherVolumes(), nil))
	if out.Outcome != api.RolledBack || out.Error.Code != api.CodeStartFailed {
		t.Fatalf("%s %v %v", out.Outcome, out.Error, out.Leftovers)
	}
	if now := l.snapshot(); now != before {
		t.Errorf("before\n%s\nafter\n%s", before, now)
	}
}

// TestFilledMeanwhile: a volume that was grown and holds more than before by the time of the undo keeps its room.
func TestFilledMeanwhile(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	id := l.volume(t, "data").ID
	next := stateful("v2")
	next.Volumes["data"] = api.Volume{SizeBytes: 20 * gib}
	l.runtime.Program = func(s runtime.Spec) memruntime.Program {
		if s.Image == "app:v2" {
			l.pool.SetUsed(id, 15*gib)
			return memruntime.Program{Refuse: "no"}
		}
		return memruntime.Program{Ends: s.Job}
	}
	if out := l.run(deploy.NewDeploy(l.kit, next, nil)); out.Outcome != api.RolledBack {
		t.Fatalf("%s %v %v", out.Outcome, out.Error, out.Leftovers)
	}
	if is, err := l.pool.Inspect(t.Context(), id); err != nil || is.SizeBytes != 20*gib {
		t.Errorf("it has %d bytes, %v", is.SizeBytes, err)
	}
}

// TestVolumeRefusals: each is made before anything is touched, and says what to do.
func TestVolumeRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		world func(t *testing.T, l *lab)
		spec  func(s *api.Spec)
		code  api.Code
		says  string
	}{
		"shrink under use": {
			func(t *testing.T, l *lab) { l.pool.SetUsed(l.volume(t, "data").ID, 2*gib) },
			func(s *api.Spec) { s.Volumes["data"] = api.Volume{SizeBytes: gib} }, api.CodeVolumeShrink, "holds 2 GiB and cannot be limited to 1 GiB",
		},
		"more than the pool": {nil, func(s *api.Spec) { s.Volumes["data"] = api.Volume{SizeBytes: 2 << 40} }, api.CodeVolumeNoSpace, "free of"},
		"new and more than the pool": {nil, func(s *api.Spec) {
			s.Volumes["new"] = api.Volume{SizeBytes: 2 << 40}
			edit(s, "db", func(s *api.Service) { s.Mounts = append(s.Mounts, api.Mount{Volume: "new", Target: "/new"}) })
		}, api.CodeNoMachine, "its pool has 1 TiB free, and the volume new may hold 2 TiB"},
		"scope": {nil, func(s *api.Spec) { s.Volumes["data"] = api.Volume{Scope: api.ScopeSlot} }, api.CodeVolumeScope, "its scope is namespace"},
		"undeclared": {nil, func(s *api.Spec) {
			edit(s, "db", func(s *api.Service) { s.Mounts = []api.Mount{{Volume: "gone", Target: "/x"}} })
		}, api.CodeSpecInvalid, `no volume "gone"`},
		"start-first": {nil, func(s *api.Spec) { edit(s, "db", func(s *api.Service) { s.Update.Order = "start-first" }) }, api.CodeSpecInvalid, "at once"},
		"no pool": {func(_ *testing.T, l *lab) { l.local.Pool = nil }, func(s *api.Spec) {
			edit(s, "db", func(s *api.Service) { s.Image = "app:v1" })
		}, api.CodeNoMachine, "cannot keep volumes: the machine has no pool for volumes"},
		"lost": {func(t *testing.T, l *lab) {
			id := l.volume(t, "data").ID
			if err := l.pool.Retire(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			l.pool.Users = nil
			if err := l.pool.Release(t.Context(), id, "c1", "commit"); err != nil {
				t.Fatal(err)
			}
			if err := l.pool.Destroy(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}, func(s *api.Spec) { edit(s, "db", func(s *api.Service) { s.Image = "app:v1" }) }, api.CodeVolumeNotFound, "there is no volume"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			statefulRuns(t, l)
			if c.world != nil {
				c.world(t, l)
			}
			before, next := l.snapshot(), stateful("v1")
			c.spec(&next)
			out := l.run(deploy.NewDeploy(l.kit, next, nil))
			e := found(out.Error, c.code)
			if out.Outcome != api.Refused || e == nil || !strings.Contains(e.Message, c.says) {
				t.Fatalf("%s %v", out.Outcome, out.Error)
			}
			if e.Hint == "" && c.code != api.CodeSpecInvalid {
				t.Errorf("%v has no hint", e)
			}
			if after := l.snapshot(); after != before {
				t.Errorf("refused, and it changed\n%s\nto\n%s", before, after)
			}
		})
	}
}

// found is the error with a code, or one of its details.
func found(e *api.Error, code api.Code) *api.Error {
	if e == nil || e.Code == code {
		return e
	}
	for _, d := range e.Details {
		if f := found(d, code); f != nil {
			return f
		}
	}
	return nil
}

// TestVolumesPin: a slot goes where its data is, and nowhere if it may not go there.
func TestVolumesPin(t *testing.T) {
	l := newLab(t)
	two, _ := l.second(t)
	statefulRuns(t, l)
	slots := l.current(t, "shop").Slots
	if slots["app-0"].Machine != slots["app-1"].Machine || slots["app-0"].Machine != slots["web-0"].Machine {
		t.Fatalf("they share uploads, and are at %+v", slots)
	}
	l.mustRun(t, deploy.NewScale(l.kit, "shop", "app", 0))
	plan := l.preview(t, deploy.NewScale(l.kit, "shop", "app", 1))
	expectLines(t, about(lines(plan), "create app-0"), "create app-0: its volume cache.app-0 is there")
	l.put(t, store.Machine("m1"), machine.Member{ID: "m1", Name: "m1", Recipient: "age1test", Role: machine.Disabled})
	l.put(t, store.Machine("m2"), machine.Member{ID: "m2", Name: "m2", Recipient: "age1second", Role: machine.Disabled})
	out := l.run(deploy.NewScale(l.kit, "shop", "app", 1))
	e := found(out.Error, api.CodeNoMachine)
	if out.Outcome != api.Refused || e == nil || !strings.Contains(e.Error(), "is disabled") {
		t.Fatalf("%s %v", out.Outcome, out.Error)
	}
	l.put(t, store.Machine("m2"), machine.Member{ID: "m2", Name: "m2", Recipient: "age1second"})
	l.put(t, store.Machine("m1"), machine.Member{ID: "m1", Name: "m1", Recipient: "age1test"})
	held, err := deploy.HeldBy(t.Context(), l.store.Facts(), l.volume(t, "data").Machine)
	if err != nil || !slices.Contains(held, "volume shop/data") {
		t.Errorf("the machine holds %v, %v", held, err)
	}
	_ = two
}

// TestGlobalNeedsSlots: one on every machine cannot have one volume on one.
func TestGlobalNeedsSlots(t *testing.T) {
	l := newLab(t)
	l.second(t)
	s := shop("v1")
	s.Volumes = map[string]api.Volume{"data": {}}
	edit(&s, "db", func(s *api.Service) {
		s.Placement.Global, s.Mounts = true, []api.Mount{{Volume: "data", Target: "/data"}}
	})
	out := l.run(deploy.NewDeploy(l.kit, s, nil))
	if e := found(out.Error, api.CodeVolumeSpread); out.Outcome != api.Refused || e == nil || !strings.Contains(e.Hint, "scope: slot") {
		t.Fatalf("%s %v", out.Outcome, out.Error)
	}
	s.Volumes["data"] = api.Volume{Scope: api.ScopeSlot}
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	expectLines(t, l.facts(t), "data.db-m1 live m1", "data.db-m2 live m2")
}

// TestDestroyOnlyWhatWasMade: no coordinator can make a machine destroy a volume that its operation did not make.
func TestDestroyOnlyWhatWasMade(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	id := l.volume(t, "data").ID
	by := deploy.Fenced{Operation: "op9", Step: "destroy", Scope: "ns/shop", Fence: 1 << 40}
	err := l.local.Act(t.Context(), by, deploy.Action{Verb: "destroy-volume", Volume: id, Maker: "op9"})
	if api.CodeOf(err) != api.CodeBadRequest {
		t.Errorf("it was destroyed, or refused as %v", err)
	}
	if is, err := l.pool.Inspect(t.Context(), id); err != nil || is.State != storage.StateLive {
		t.Errorf("the volume is %+v, %v", is, err)
	}
}

// TestSnapshotAtCommit: a commit names the data as it was once the old writers had stopped and before the new started,
// and history shows it.
func TestSnapshotAtCommit(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	old := l.instance(t, "app-0")
	moment := false
	l.runtime.SetFault(func(p memruntime.Point) error {
		o, err := l.runtime.Inspect(context.Background(), old)
		if p.Call != "Prepare" || p.After || o.Spec.Service != "app" || !strings.Contains(p.Subject, "shop-app-") || err != nil {
			return nil
		}
		taken, err := l.pool.ListSnapshots(context.Background(), l.volume(t, "cache.app-0").ID)
		moment = err == nil && len(taken) == 2 && taken[1].Name == "c2" && slices.Equal(taken[1].Holds, []string{"commit"})
		if o.State == runtime.StateRunning {
			t.Error("the old writer runs while the new one is prepared")
		}
		return err
	})
	l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v2"), nil))
	if !moment {
		t.Error("when the new writer was prepared there was no snapshot yet")
	}
	commit := l.current(t, "shop")
	for name, v := range commit.Volumes {
		taken, err := l.pool.ListSnapshots(t.Context(), v.ID)
		if err != nil || len(taken) != 2 || v.Snapshot != "c2" || v.GUID != taken[1].GUID {
			t.Errorf("%s: the commit says %+v, and there are %+v, %v", name, v, taken, err)
		}
	}
	history, err := deploy.History(t.Context(), l.store.Facts(), "shop")
	if err != nil || history[0].Volumes["data"] != "c2" || history[1].Volumes["data"] != "c1" {
		t.Errorf("history says %+v, %v", history, err)
	}
	expectLines(t, about(phases(l.preview(t, deploy.NewDeploy(l.kit, stateful("v1"), nil))), "snapshot"), "snapshot: snapshot c3 on m1")
}

// TestSnapshotOfAnother: what an operation that was never committed has taken under the commit's name shows another
// moment, and is taken anew.
func TestSnapshotOfAnother(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	id := l.volume(t, "data").ID
	stale, err := l.pool.Snapshot(t.Context(), "c2", id)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.pool.Hold(t.Context(), id, "c2", "commit"); err != nil {
		t.Fatal(err)
	}
	l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v2"), nil))
	if got := l.current(t, "shop").Volumes["data"].GUID; got == "" || got == stale[0].GUID {
		t.Errorf("the commit names %s", got)
	}
}

// TestNoPool: a machine without a pool says so, with what to do, whatever it is asked.
func TestNoPool(t *testing.T) {
	l := newLab(t)
	l.local.Pool = nil
	by := deploy.Fenced{Operation: "op1", Step: "volume", Scope: "ns/shop", Fence: 1}
	stored, err := l.local.Stored(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	_, ensureErr := l.local.EnsureVolume(t.Context(), by, storage.Spec{ID: "v1", Namespace: "shop", Name: "data"})
	actErr := l.local.Act(t.Context(), by, deploy.Action{Verb: "retire-volume", Volume: "v1"})
	image, err := l.images.Ensure(t.Context(), "db:v1", runtime.Pull{})
	if err != nil {
		t.Fatal(err)
	}
	spec := runtime.Spec{ID: "shop-db-0", Namespace: "shop", Service: "db", Image: "db:v1", Digest: image.Digest, Mounts: []runtime.Mount{{Volume: "v1", Target: "/data"}}}
	_, launchErr := l.local.Launch(t.Context(), by, spec)
	for what, err := range map[string]error{"stored": stored.None, "ensure": ensureErr, "act": actErr, "launch": launchErr} {
		if api.CodeOf(err) != api.CodeVolumePoolUnavailable || api.AsError(err).Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestStoppedWriterIsFoundAgain: the job before the switch needs the database, whose old instance had to stop first.
func TestStoppedWriterIsFoundAgain(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	next := stateful("v1")
	edit(&next, "db", func(s *api.Service) { s.Process.Env = map[string]string{"LEVEL": "2"} })
	plan := l.preview(t, deploy.NewDeploy(l.kit, next, nil))
	expectLines(t, about(phases(plan), "announce"), "announce: announce db")
	old := l.instance(t, "db-0")
	announced := 0
	l.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if !strings.Contains(b.ID, "-announce-") {
			return nil
		}
		announced++
		view, err := routing.Decode("shop", b.Puts[0].Value)
		if err != nil {
			return err
		}
		if db := view.Services["db"]; len(db.Instances) != 1 || db.Instances[0].ID == old {
			t.Errorf("%+v is announced, and %s has stopped", db, old)
		}
		if app := view.Services["app"]; len(app.Instances) != 2 || len(app.Routes) == 0 {
			t.Errorf("%+v is announced of what goes on", app)
		}
		return nil
	}})
	l.mustRun(t, deploy.NewDeploy(l.kit, next, nil))
	if announced != 1 {
		t.Errorf("it was announced %d times", announced)
	}
}
