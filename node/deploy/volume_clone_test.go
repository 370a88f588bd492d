package deploy_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination/membus"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

func (l *lab) snap(name string) operation.Operation {
	return deploy.NewSnapshotVolume(l.kit, api.VolumeSnapshotRequest{Namespace: "shop", Name: "data", Snapshot: name})
}

func (l *lab) unsnap(volume, name string) operation.Operation {
	return deploy.NewRemoveSnapshot(l.kit, api.VolumeSnapshotRequest{Namespace: "shop", Name: volume, Snapshot: name})
}

func (l *lab) clone(from, snapshot, as string) operation.Operation {
	return deploy.NewCloneVolume(l.kit, api.VolumeCloneRequest{Namespace: "shop", Name: from, Snapshot: snapshot, As: as})
}

func (l *lab) create(r api.VolumeCreateRequest) operation.Operation {
	r.Namespace = "shop"
	return deploy.NewCreateVolume(l.kit, r)
}

func snapped(t *testing.T, l *lab) {
	statefulRuns(t, l)
	l.mustRun(t, l.snap("before"))
}

// dependent is a pool in which snapshots cannot go before their clones.
func dependent(t *testing.T, l *lab) {
	l.pool.ClonesDepend = true
	statefulRuns(t, l)
}

// value is the value of an outcome.
func value(t *testing.T, out api.Outcome) (r api.VolumeResult) {
	t.Helper()
	if err := json.Unmarshal(out.Value, &r); err != nil {
		t.Fatalf("%s: %v", out.Value, err)
	}
	return r
}

// snapshots are those of a data set, as "name held-by".
func (l *lab) snapshots(t *testing.T, id string) []string { return l.snapshotsIn(t, l.pool, id) }

// snapshotsIn are those of a data set, by its ID or the name of a live one, in some pool.
func (l *lab) snapshotsIn(t *testing.T, pool storage.Pool, of string) (list []string) {
	t.Helper()
	if v := l.anyVolume(of); v.ID != "" {
		of = v.ID
	}
	all, err := pool.ListSnapshots(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		list = append(list, strings.TrimSpace(s.Name+" "+strings.Join(s.Holds, " ")))
	}
	return list
}

func TestSnapshotVolume(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	id := l.volume(t, "data").ID
	plan := l.preview(t, l.snap("before"))
	expectLines(t, lines(plan), "create snapshot data@before: held until it is taken away with: ployzctl volume snapshot rm shop/data before")
	got := value(t, l.mustRun(t, l.snap("before")))
	all, err := l.pool.ListSnapshots(t.Context(), id)
	if err != nil || len(all) != 2 || got.Snapshot != "before" || got.GUID != all[1].GUID || got.Moment.IsZero() || got.ID != id {
		t.Errorf("%+v of %+v, %v", got, all, err)
	}
	expectLines(t, l.snapshots(t, id), "c1 commit", "before operator")
	l.refused(t, l.snap("before"), api.CodeVolumeSnapshotTaken, "it has a snapshot before", "ployzctl volume snapshot rm shop/data before")
	l.refused(t, l.snap("c7"), api.CodeVolumeInvalid, "commits and clones", "before-upgrade")
	l.refused(t, l.snap("a b"), api.CodeVolumeInvalid, "cannot be the name of a snapshot", "")
	// A commit's own snapshot stands beside it.
	l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v2"), nil))
	expectLines(t, l.snapshots(t, id), "c1 commit", "before operator", "c2 commit")
}

func TestRemoveSnapshot(t *testing.T) {
	l := newLab(t)
	snapped(t, l)
	id := l.volume(t, "data").ID
	l.refused(t, l.unsnap("data", "nothing"), api.CodeVolumeSnapshotNotFound, "no snapshot nothing", "volume show "+id)
	l.refused(t, l.unsnap("data", "c1"), api.CodeVolumeSnapshotNeeded, "held by commit", "volume show "+id)
	l.mustRun(t, l.unsnap("data", "before"))
	expectLines(t, l.snapshots(t, id), "c1 commit")
	// Of a kept one it goes by the ID.
	l.mustRun(t, l.snap("last"))
	l.mustRun(t, deploy.NewRemove(l.kit, "shop"))
	l.refused(t, l.unsnap("data", "last"), api.CodeVolumeNotFound, "no live volume data", "volume restore "+id)
	l.mustRun(t, l.unsnap(id, "last"))
	expectLines(t, l.snapshots(t, id), "c1 commit")
}

func TestRemoveSnapshotOfAClone(t *testing.T) {
	l := newLab(t)
	dependent(t, l)
	l.mustRun(t, l.snap("before"))
	clone := value(t, l.mustRun(t, l.clone("data", "before", "trial"))).ID
	l.refused(t, l.unsnap("data", "before"), api.CodeVolumeSnapshotNeeded, clone+" began as it", "volume show")
	id := l.volume(t, "data").ID
	expectLines(t, l.snapshots(t, id), "c1 commit", "before operator")
}

func TestCloneVolume(t *testing.T) {
	l := newLab(t)
	snapped(t, l)
	data := l.volume(t, "data")
	expectLines(t, lines(l.preview(t, l.clone("data", "before", "trial"))), "create volume trial: begins as data@before")
	got := value(t, l.mustRun(t, l.clone("data", "before", "trial")))
	fact := l.volume(t, "trial")
	if o := fact.Origin; o == nil || o.Volume != data.ID || o.Snapshot != "before" || o.GUID == "" || got.GUID != o.GUID || got.ID != fact.ID {
		t.Errorf("the fact is %+v, origin %+v, the result %+v", fact, fact.Origin, got)
	}
	if fact.SizeBytes != data.SizeBytes || fact.Owner.UID != 999 || fact.Mode != data.Mode || fact.Machine != "m1" || fact.Backend != "memory" || fact.ID == data.ID {
		t.Errorf("the fact is %+v", fact)
	}
	l.inPool(t, fact.ID, storage.StateLive)
	// Now, without a snapshot: the one that it took is gone again, since the clone stands alone here.
	got = value(t, l.mustRun(t, l.clone("data", "", "now")))
	if got.Snapshot != "clone-"+got.ID {
		t.Errorf("%+v", got)
	}
	expectLines(t, l.snapshots(t, data.ID), "c1 commit", "before operator")
	l.refused(t, l.clone("data", "", "trial"), api.CodeVolumeNameTaken, "has the name shop/trial", "volume show shop/trial")
	l.refused(t, l.clone("data", "never", "other"), api.CodeVolumeSnapshotNotFound, "no snapshot never", "volume show "+data.ID)
	l.refused(t, l.clone("nothing", "", "other"), api.CodeVolumeNotFound, "no live volume nothing", "volume ls shop")
	l.refused(t, l.clone("data", "", "a.b"), api.CodeVolumeInvalid, "cannot be a volume's name", "for example data")
	l.refused(t, l.clone("data", "", "cache"), api.CodeVolumeScope, "its scope is namespace", "")
	// A deploy mounts it, and a kept one can be cloned by its ID, to look into it.
	next := stateful("v2")
	next.Volumes["trial"] = api.Volume{}
	edit(&next, "web", func(s *api.Service) { s.Mounts = []api.Mount{{Volume: "trial", Target: "/trial"}} })
	l.mustRun(t, deploy.NewDeploy(l.kit, next, nil))
	if is := l.current(t, "shop").Volumes["trial"]; is.ID != fact.ID {
		t.Errorf("the commit has %+v", is)
	}
	l.mustRun(t, deploy.NewRemoveVolume(l.kit, "shop", "now"))
	l.mustRun(t, l.clone(got.ID, "", "again"))
	if o := l.volume(t, "again").Origin; o == nil || o.Volume != got.ID {
		t.Errorf("the origin is %+v", o)
	}
}

// TestCloneKeepsWhatItNeeds: where clones depend on their snapshots, the one that it took stays.
func TestCloneKeepsWhatItNeeds(t *testing.T) {
	l := newLab(t)
	dependent(t, l)
	got := value(t, l.mustRun(t, l.clone("data", "", "trial")))
	expectLines(t, l.snapshots(t, l.volume(t, "data").ID), "c1 commit", "clone-"+got.ID)
	l.mustRun(t, deploy.NewRemoveVolume(l.kit, "shop", "trial"))
	l.mustRun(t, l.prune(only(got.ID)))
	l.mustRun(t, l.unsnap("data", "clone-"+got.ID))
	expectLines(t, l.snapshots(t, l.volume(t, "data").ID), "c1 commit")
}

func TestCreateVolume(t *testing.T) {
	l := newLab(t)
	l.second(t)
	media := api.VolumeCreateRequest{Name: "media", Machine: "m2", SizeBytes: gib, Owner: &api.Owner{UID: 7, GID: 8}, Mode: 0o750}
	expectLines(t, lines(l.preview(t, l.create(media))), "create volume media: new and empty; asked for")
	l.mustRun(t, l.create(media))
	fact := l.volume(t, "media")
	if fact.Machine != "m2" || fact.SizeBytes != gib || fact.Owner.GID != 8 || fact.Mode != 0o750 || fact.Backend != "memory" || fact.Created.IsZero() {
		t.Errorf("the fact is %+v", fact)
	}
	// Its machine cannot leave with it unasked, though nothing was ever deployed there.
	held, err := deploy.HeldBy(t.Context(), l.store.Facts(), "m2")
	if err != nil || !slices.Equal(held, []string{"volume shop/media"}) {
		t.Errorf("m2 holds %v, %v", held, err)
	}
	next := stateful("v1")
	next.Volumes["media"] = api.Volume{SizeBytes: 2 * gib}
	edit(&next, "db", func(s *api.Service) { s.Mounts = []api.Mount{{Volume: "media", Target: "/media"}} })
	plan := l.preview(t, deploy.NewDeploy(l.kit, next, nil))
	expectLines(t, about(lines(plan), "volume media"), "grow volume media: it holds 0 bytes", "create db-0: its volume media is there")
	l.mustRun(t, deploy.NewDeploy(l.kit, next, nil))
	if now := l.volume(t, "media"); now.ID != fact.ID || now.SizeBytes != 2*gib {
		t.Errorf("the deploy made %+v of %+v", now, fact)
	}
}

func TestCreateVolumeRefusals(t *testing.T) {
	l := newLab(t)
	_, silent := l.second(t)
	statefulRuns(t, l)
	refused := func(r api.VolumeCreateRequest, code api.Code, says, hint string) {
		t.Helper()
		l.refused(t, l.create(r), code, says, hint)
	}
	refused(api.VolumeCreateRequest{Name: "data"}, api.CodeVolumeNameTaken, "has the name shop/data", "volume show shop/data")
	refused(api.VolumeCreateRequest{Name: "a/b"}, api.CodeVolumeInvalid, "cannot be a volume's name", "data.db-0")
	refused(api.VolumeCreateRequest{Name: "a."}, api.CodeVolumeInvalid, "cannot be a volume's name", "data.db-0")
	refused(api.VolumeCreateRequest{Name: "new", SizeBytes: 7}, api.CodeVolumeInvalid, "of 7 bytes", "")
	refused(api.VolumeCreateRequest{Name: "new", Mode: 0o20000}, api.CodeVolumeInvalid, "no permissions", "")
	refused(api.VolumeCreateRequest{Name: "data.db-0"}, api.CodeVolumeScope, "its scope is slot", "volume rm shop/data.db-0")
	refused(api.VolumeCreateRequest{Name: "new", SizeBytes: 4 << 40}, api.CodeNoMachine, "m1: its pool has 1 TiB free, and it may hold 4 TiB", "ployzctl status")
	refused(api.VolumeCreateRequest{Name: "new", Machine: "m9"}, api.CodeMachineAbsent, "no member of the cluster", "ployzctl machine ls")
	*silent = true
	refused(api.VolumeCreateRequest{Name: "new", Machine: "m2"}, api.CodeNoMachine, "m2: does not answer", "")
	l.put(t, store.Machine("m1"), machine.Member{ID: "m1", Name: "m1", Recipient: "age1test", Role: machine.Draining})
	refused(api.VolumeCreateRequest{Name: "new"}, api.CodeNoMachine, "m1: is draining", "")
}

// TestVolumesOverTheBus: what the operations ask of a machine, another machine answers as this one does.
func TestVolumesOverTheBus(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	id := l.volume(t, "data").ID
	far := &deploy.Remote{Machine: "m2", Caller: wired(t, &membus.Bus{}, "m2", l.local)}
	by := func(step string) deploy.Fenced {
		return deploy.Fenced{Operation: "op9", Step: step, Scope: "ns/shop", Fence: 1 << 40}
	}
	order := deploy.CloneOrder{Volume: id, Snapshot: "s", As: storage.Spec{ID: "clone1", Namespace: "shop", Name: "trial"}, Kept: true}
	act := func(p deploy.Participant, verb string) error {
		return p.Act(t.Context(), by(verb), deploy.Action{Verb: verb, Volume: id, Snapshot: "s", Tag: "operator"})
	}
	if err := act(far, "take-snapshot"); err != nil {
		t.Fatal(err)
	}
	made, err := far.CloneVolume(t.Context(), by("clone"), order)
	if err != nil || made.ID != "clone1" || made.State != storage.StateKept || made.Origin.Snapshot != "s" {
		t.Errorf("%+v %v", made, err)
	}
	here, err1 := l.local.ListSnapshots(t.Context(), []string{id, "gone"})
	there, err2 := far.ListSnapshots(t.Context(), []string{id, "gone"})
	if err1 != nil || err2 != nil || len(there[id]) != 2 || there[id][1].GUID != here[id][1].GUID || len(there["gone"]) != 0 {
		t.Errorf("%+v %v, %+v %v", here, err1, there, err2)
	}
	held(t, l, id, "s", "somebody")
	if err := act(far, "forget-snapshot"); api.CodeOf(err) != api.CodeVolumeSnapshotNeeded || !strings.Contains(err.Error(), "held by somebody") {
		t.Errorf("forgotten while held: %v", err)
	}
	expectLines(t, l.snapshots(t, id), "c1 commit", "s operator somebody")
	stale := by("stale")
	stale.Fence = 1
	if _, err := l.local.CloneVolume(t.Context(), stale, order); api.CodeOf(err) != api.CodeLeaseLost {
		t.Errorf("with a lost lease: %v", err)
	}
	l.local.Pool = nil
	_, err1 = l.local.CloneVolume(t.Context(), by("none"), order)
	_, err2 = l.local.ListSnapshots(t.Context(), []string{id})
	for _, err := range []error{err1, err2, act(l.local, "take-snapshot")} {
		if api.CodeOf(err) != api.CodeVolumePoolUnavailable {
			t.Errorf("without a pool: %v", err)
		}
	}
}
