package deploy_test

import (
	"context"
	"regexp"
	"slices"
	"strconv"
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

func statefulTwice(t *testing.T, l *lab) {
	statefulRuns(t, l)
	l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v2"), nil))
}

// goneBack has gone back to the first commit with its data.
func goneBack(t *testing.T, l *lab) {
	statefulTwice(t, l)
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 1))
}

// breakWithData breaks a rollback with data. One that is repeated after its commit swaps once more and keeps one more,
// so that worlds are compared without how many of a name are kept; what no fact accounts for is told all the same.
func breakWithData(before func(*testing.T, *lab), to int) optest.Case {
	return optest.Case{New: func(t *testing.T) *optest.World {
		l := newLab(t)
		before(t, l)
		return &optest.World{
			Store: l.store, Clock: l.clock, Snapshot: l.oneOfEach,
			Operation: func() operation.Operation { return deploy.NewRollbackWithVolumes(l.kit, "shop", to) },
		}
	}}
}

// presentMoment is a snapshot that a commit names, in a world. Right after a removal there is nothing to take one of; in
// a repetition there is.
var presentMoment = regexp.MustCompile(`(?m)^snapshot \S+ +of the present\n|,*\}`)

func withoutMoments(c optest.Case) optest.Case {
	inner := c.New
	c.New = func(t *testing.T) *optest.World {
		w := inner(t)
		snapshot := w.Snapshot
		w.Snapshot = func() string { return presentMoment.ReplaceAllString(snapshot(), "") }
		return w
	}
	return c
}

var lineage = regexp.MustCompile(`"origin":\{[^}]*\},?|"of":"[^"]*",?`)

func (l *lab) oneOfEach() string {
	lines := strings.Split(lineage.ReplaceAllString(l.snapshot(), ""), "\n")
	var facts []api.VolumeFact
	for _, ns := range []string{"shop", "try"} {
		of, err := deploy.Volumes(context.Background(), l.store.Facts(), ns)
		if err != nil {
			return err.Error()
		}
		facts = append(facts, of...)
	}
	stored, err := l.pool.List(context.Background())
	if err != nil {
		return err.Error()
	}
	for _, v := range stored {
		if !slices.ContainsFunc(facts, func(f api.VolumeFact) bool { return f.ID == v.ID && f.State == string(v.State) }) {
			lines = append(lines, "no fact says that "+v.Name+" is "+string(v.State))
		}
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}

// TestWithData: each volume of the commit that is gone back to is a clone of the snapshot that shows how that commit
// left it, what was there is kept, and going back again gives what was there.
func TestWithData(t *testing.T) {
	l := newLab(t)
	statefulTwice(t, l)
	was := l.volume(t, "data")
	left := l.current(t, "shop").Volumes["data"]
	l.pool.SetUsed(was.ID, 2*gib)
	plan := l.preview(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 1))
	said := about(volumeLines(plan), "volume data")
	if len(said) != 1 || !strings.HasPrefix(said[0], "swap volume data: as commit 1 left it: a clone of c2 of "+was.ID+" (2") ||
		!strings.HasSuffix(said[0], ", guid "+left.GUID+"); the present one, "+was.ID+", which holds 2 GiB, is kept, and comes back with: ployzctl rollback shop --to 2 --with-data") {
		t.Errorf("the plan says %q", said)
	}
	got := phases(plan)
	for _, want := range []string{"stop the writers:", "snapshot: snapshot c3 on m1", "clone:", "swap:"} {
		if len(about(got, want)) != 1 {
			t.Errorf("no phase %q in %q", want, got)
		}
	}
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 1))
	now := l.volume(t, "data")
	if now.ID == was.ID || now.Origin == nil || *now.Origin != (api.VolumeOrigin{Volume: was.ID, Snapshot: "c2", GUID: left.GUID}) {
		t.Errorf("data is %+v", now)
	}
	if now.SizeBytes != was.SizeBytes || now.Owner.UID != was.Owner.UID || now.Mode != was.Mode || now.Backend != was.Backend {
		t.Errorf("it was %+v and is %+v", was, now)
	}
	in := l.current(t, "shop").Volumes["data"]
	if in.ID != now.ID || in.Of != was.ID || in.Snapshot != "c3" || in.GUID == "" {
		t.Errorf("the commit has %+v", in)
	}
	expectPlace(t, l, was.ID, storage.StateKept)
	expectPlace(t, l, now.ID, storage.StateLive)
	taken, err := l.pool.ListSnapshots(t.Context(), was.ID)
	if err != nil || len(taken) != 3 || taken[2].Name != "c3" || taken[2].GUID != in.GUID || !slices.Equal(taken[2].Holds, []string{"commit"}) {
		t.Errorf("what was there has %+v, %v", taken, err)
	}
	l.mountsOnlyLive(t)

	// And back again, to how the second commit left it.
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 0))
	again := l.volume(t, "data")
	if again.Origin == nil || *again.Origin != (api.VolumeOrigin{Volume: was.ID, Snapshot: "c3", GUID: in.GUID}) {
		t.Errorf("gone back again, data is %+v", again)
	}
	if c := l.current(t, "shop"); c.Spec.Services["app"].Image != "app:v2" || c.Of != 2 {
		t.Errorf("it runs %s of commit %d", c.Spec.Services["app"].Image, c.Of)
	}
	expectPlace(t, l, now.ID, storage.StateKept)
	l.mountsOnlyLive(t)
}

func expectPlace(t *testing.T, l *lab, id string, want storage.State) {
	t.Helper()
	if is, err := l.pool.Inspect(t.Context(), id); err != nil || is.State != want {
		t.Errorf("the pool has %+v, %v; it should be %s", is, err, want)
	}
}

// mountsOnlyLive: nothing that runs has a data set that is not the live one of its name.
func (l *lab) mountsOnlyLive(t *testing.T) {
	t.Helper()
	all, err := l.runtime.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		for _, m := range o.Spec.Mounts {
			if is, err := l.pool.Inspect(t.Context(), m.Volume); err != nil || is.State != storage.StateLive || is.Path != m.Source {
				t.Errorf("%s mounts %+v, which is %+v, %v", o.ID, m, is, err)
			}
		}
	}
}

// TestSwapAlone: when a volume changes places nobody runs that mounts one of that name, to read it or to write.
func TestSwapAlone(t *testing.T) {
	l := newLab(t)
	statefulTwice(t, l)
	users, swaps := l.pool.Users, 0
	l.runtime.SetFault(func(p memruntime.Point) error {
		if p.Call != "Prepare" || p.After {
			return nil
		}
		swaps++
		all, err := l.pool.List(context.Background())
		for _, v := range all {
			if v.State == storage.StateKept && users(v.ID) != "" {
				t.Errorf("%s is kept and used by %s", v.FullName(), users(v.ID))
			}
		}
		return err
	})
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 1))
	if swaps == 0 {
		t.Error("nothing was tried")
	}
	l.runtime.SetFault(nil)
	plan := l.preview(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 2))
	if said := about(lines(plan), "replace web-0"); len(said) != 1 || !strings.HasSuffix(said[0], "the old one stops first, since the volume uploads is swapped") {
		t.Errorf("of a reader the plan says %q", said)
	}
}

// TestWithDataFails: a rollback whose old revision does not start puts the present data back.
func TestWithDataFails(t *testing.T) {
	l := newLab(t)
	statefulTwice(t, l)
	was, before := l.volume(t, "data").ID, l.snapshot()
	l.runtime.Program = func(s runtime.Spec) memruntime.Program {
		if s.Image == "app:v1" && s.Slot == "app-1" {
			return memruntime.Program{Refuse: "no"}
		}
		return memruntime.Program{Ends: s.Job}
	}
	out := l.run(deploy.NewRollbackWithVolumes(l.kit, "shop", 1))
	if out.Outcome != api.RolledBack {
		t.Fatalf("%s %v %v", out.Outcome, out.Error, out.Leftovers)
	}
	if now := l.snapshot(); now != before {
		t.Errorf("before\n%s\nafter\n%s", before, now)
	}
	expectPlace(t, l, was, storage.StateLive)
	l.mountsOnlyLive(t)
}

// TestWithDataAfterRemove: what a removal left itself comes back, and what earlier commits left as a clone, also where
// another has the name by then.
func TestWithDataAfterRemove(t *testing.T) {
	l := newLab(t)
	statefulTwice(t, l)
	was := l.volume(t, "data").ID
	l.mustRun(t, deploy.NewRemove(l.kit, "shop"))
	said := about(volumeLines(l.preview(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 1))), "volume data")
	if len(said) != 1 || !strings.HasPrefix(said[0], "clone volume data: as commit 1 left it: a clone of c2 of "+was) || strings.Contains(said[0], "present") {
		t.Errorf("the plan says %q", said)
	}
	expectLines(t, about(volumeLines(l.preview(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 2))), "volume data"), "restore volume data: commit 2 had it, and it is kept")
	statefulRuns(t, l)
	other := l.volume(t, "data").ID
	e := found(l.run(deploy.NewRollbackWithVolumes(l.kit, "shop", 2)).Error, api.CodeVolumeLineage)
	if e == nil || e.Subject != "volumes.cache.app-0" || !strings.Contains(e.Message, " itself, of which there is no snapshot, and ") ||
		!strings.HasSuffix(e.Hint, "ployzctl rm shop && ployzctl rollback shop --to 2 --with-data") {
		t.Fatalf("refused as %v", e)
	}
	l.mustRun(t, deploy.NewRemove(l.kit, "shop")) // as the hint says
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 2))
	if now := l.volume(t, "data"); now.ID != was || !now.Kept.IsZero() {
		t.Errorf("data is %+v", now)
	}
	expectPlace(t, l, was, storage.StateLive)
	expectPlace(t, l, other, storage.StateKept)
	l.mustRun(t, deploy.NewRemove(l.kit, "shop"))
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 1))
	if now := l.volume(t, "data"); now.Origin == nil || now.Origin.Snapshot != "c2" || now.Origin.Volume != was {
		t.Errorf("data is %+v", now)
	}
	l.mountsOnlyLive(t)
}

// TestWithoutData says what the data is that stays.
func TestWithoutData(t *testing.T) {
	l := newLab(t)
	statefulTwice(t, l)
	said := about(volumeLines(l.preview(t, deploy.NewRollback(l.kit, "shop", 1))), "volume data")
	expectLines(t, said, "keep volume data: its data stays as it is now; commit 1 left it otherwise, and it is given back so with --with-data")
	reader := stateful("v1")
	for _, name := range []string{"db", "app"} {
		edit(&reader, name, func(s *api.Service) {
			s.Mounts = slices.Clone(s.Mounts)
			for i := range s.Mounts {
				s.Mounts[i].ReadOnly = true
			}
		})
	}
	l.mustRun(t, deploy.NewDeploy(l.kit, reader, nil))
	said = about(volumeLines(l.preview(t, deploy.NewRollback(l.kit, "shop", 2))), "volume data")
	expectLines(t, said, "keep volume data: its data stays as it is now; nobody wrote it since commit 2 was left")
}

// TestWithDataRefusals: each is made before anything is touched, and says what would be safe.
func TestWithDataRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		world      func(t *testing.T, l *lab, id string)
		to         int
		code       api.Code
		says, hint string
	}{
		"the present": {nil, 2, api.CodeVolumeLineage, "commit 2 is the present one", "ployzctl rollback shop --to 1 --with-data"},
		"no snapshot": {func(t *testing.T, l *lab, id string) {
			must(t, l.pool.Release(t.Context(), id, "c2", "commit"))
			must(t, l.pool.Forget(t.Context(), id, "c2"))
		}, 1, api.CodeVolumeLineage, "the data that commit 1 left cannot be given back: the snapshot c2 of ", "ployzctl rollback shop --to 1"},
		"another snapshot": {func(t *testing.T, l *lab, id string) {
			must(t, l.pool.Release(t.Context(), id, "c2", "commit"))
			must(t, l.pool.Forget(t.Context(), id, "c2"))
			_, err := l.pool.Snapshot(t.Context(), "c2", id)
			must(t, err)
		}, 1, api.CodeVolumeLineage, "is another snapshot than the one of then", "ployzctl rollback shop --to 1"},
		"destroyed": {func(t *testing.T, l *lab, id string) {
			l.takeFact(t, id)
		}, 1, api.CodeVolumeLineage, ", which had it, was destroyed", "ployzctl rollback shop --to 1"},
		"not taken": {func(t *testing.T, l *lab, _ string) {
			l.editCommit(t, 2, func(c *api.Commit) {
				v := c.Volumes["data"]
				v.Snapshot, v.GUID = "", ""
				c.Volumes["data"] = v
			})
		}, 1, api.CodeVolumeLineage, "was taken then", "ployzctl volume show"},
		"elsewhere": {func(t *testing.T, l *lab, id string) {
			l.put(t, store.Machine("m2"), machine.Member{ID: "m2", Name: "m2", Recipient: "age1second"})
			fact := l.volume(t, "data")
			fact.ID, fact.Machine = "other", "m2"
			l.put(t, store.Volume("shop", "other"), fact)
			fact.ID, fact.Machine, fact.State = id, "m1", api.VolumeKept
			l.put(t, store.Volume("shop", id), fact)
		}, 1, api.CodeVolumeLineage, "it is on m1, and the present one on m2", "ployzctl rm shop && ployzctl rollback shop --to 1 --with-data"},
		"moved to a silent machine": {func(t *testing.T, l *lab, id string) {
			fact := l.volume(t, "data")
			fact.Machine = "m3"
			l.put(t, store.Volume("shop", id), fact)
		}, 1, api.CodeMachineSilent, "m3 has the data that commit 1 left, and cannot be asked", "ployzctl machine show m3"},
		"no pool": {func(_ *testing.T, l *lab, _ string) { l.local.Pool = nil }, 1, api.CodeVolumePoolUnavailable, "cannot be asked", "ployzctl"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			statefulTwice(t, l)
			if c.world != nil {
				c.world(t, l, l.volume(t, "data").ID)
			}
			before := l.snapshot()
			out := l.run(deploy.NewRollbackWithVolumes(l.kit, "shop", c.to))
			e := found(out.Error, c.code)
			if out.Outcome != api.Refused || e == nil || !strings.Contains(e.Message, c.says) || !strings.Contains(e.Hint, c.hint) {
				t.Fatalf("%s %v", out.Outcome, out.Error)
			}
			if after := l.snapshot(); after != before {
				t.Errorf("refused, and it changed\n%s\nto\n%s", before, after)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestWithDataOfTheFirst: while it is the present one there is nothing to go back to.
func TestWithDataOfTheFirst(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	e := l.run(deploy.NewRollbackWithVolumes(l.kit, "shop", 1)).Error
	if e == nil || e.Code != api.CodeVolumeLineage || e.Hint != "go without --with-data: ployzctl rollback shop --to 1" {
		t.Errorf("%v", e)
	}
}

// TestClonesTheMoment: a snapshot that was taken anew between the plan and its run is not taken for the one of then.
func TestClonesTheMoment(t *testing.T) {
	l := newLab(t)
	statefulTwice(t, l)
	id, before, swapped := l.volume(t, "data").ID, "", false
	l.runtime.SetFault(func(p memruntime.Point) error {
		if p.Call != "Stop" || swapped {
			return nil
		}
		swapped = true
		must(t, l.pool.Release(context.Background(), id, "c2", "commit"))
		must(t, l.pool.Forget(context.Background(), id, "c2"))
		_, err := l.pool.Snapshot(context.Background(), "c2", id)
		before = l.volume(t, "data").ID
		return err
	})
	out := l.run(deploy.NewRollbackWithVolumes(l.kit, "shop", 1))
	if out.Outcome != api.RolledBack || found(out.Error, api.CodeVolumeSnapshotNotFound) == nil {
		t.Errorf("%s %v", out.Outcome, out.Error)
	}
	if all, err := l.pool.List(t.Context()); err != nil || len(all) != 4 || l.volume(t, "data").ID != before {
		t.Errorf("the pool has %+v, %v", all, err)
	}
}

// takeFact removes a data set's fact, as a prune does.
func (l *lab) takeFact(t *testing.T, id string) {
	t.Helper()
	_, err := l.store.Facts().Commit(t.Context(), store.Batch{ID: operation.NewID(), Puts: []store.Put{{Key: store.Volume("shop", id), Remove: true}}})
	must(t, err)
}

func (l *lab) editCommit(t *testing.T, number int, edit func(*api.Commit)) {
	t.Helper()
	c, err := deploy.ReadCommit(t.Context(), l.store.Facts(), "shop", number)
	must(t, err)
	edit(&c)
	l.put(t, store.Commit("shop", strconv.Itoa(number)), c)
}

// TestWithDataPlan: a rollback with data that was previewed is refused once the data that it gives back is another.
func TestWithDataPlan(t *testing.T) {
	l := newLab(t)
	statefulTwice(t, l)
	plain, with := l.preview(t, deploy.NewRollback(l.kit, "shop", 1)), l.preview(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 1))
	if plain.Digest == with.Digest || with.Digest != l.preview(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 1)).Digest {
		t.Errorf("digests: %s without, %s with", plain.Digest, with.Digest)
	}
}

// TestWithDataOnTwo: data sets of slots go back each on its own machine, and one whose machine was moved to without
// the snapshot is refused.
func TestWithDataOnTwo(t *testing.T) {
	l := newLab(t)
	l.second(t)
	spread := func(version string) api.Spec {
		s := shop(version)
		s.Volumes = map[string]api.Volume{"cache": {SizeBytes: gib, Scope: api.ScopeSlot}}
		edit(&s, "app", func(s *api.Service) {
			s.Placement = api.Placement{Global: true}
			s.Mounts = []api.Mount{{Volume: "cache", Target: "/cache"}}
		})
		return s
	}
	l.mustRun(t, deploy.NewDeploy(l.kit, spread("v1"), nil))
	l.mustRun(t, deploy.NewDeploy(l.kit, spread("v2"), nil))
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 1))
	for _, machineName := range []string{"m1", "m2"} {
		now := l.volume(t, "cache.app-"+machineName)
		if now.Machine != machineName || now.Origin == nil || now.Origin.Snapshot != "c2" {
			t.Errorf("on %s it is %+v", machineName, now)
		}
	}
	// A fact that says another machine stands for a move that left the snapshots behind.
	kept := l.current(t, "shop").Volumes["cache.app-m1"].Of
	all, err := deploy.Volumes(t.Context(), l.store.Facts(), "shop")
	must(t, err)
	fact := all[slices.IndexFunc(all, func(v api.VolumeFact) bool { return v.ID == kept })]
	fact.Machine = "m2"
	l.put(t, store.Volume("shop", kept), fact)
	out := l.run(deploy.NewRollbackWithVolumes(l.kit, "shop", 2))
	e := found(out.Error, api.CodeVolumeLineage)
	if out.Outcome != api.Refused || e == nil || !strings.Contains(e.Message, "the snapshot c3 of "+kept+" is not in the pool of m2") {
		t.Errorf("%s %v", out.Outcome, out.Error)
	}
}
