package deploy_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// prune prunes the shop, with one commit keeping its data, and what lost its name for no time.
func (l *lab) prune(edits ...func(*api.VolumePruneRequest)) operation.Operation {
	r := api.VolumePruneRequest{Namespace: "shop", KeepCommits: 1, OlderThan: new(api.Duration)}
	for _, e := range edits {
		e(&r)
	}
	return deploy.NewPruneVolumes(l.kit, r)
}

func only(id string) func(*api.VolumePruneRequest) {
	return func(r *api.VolumePruneRequest) { r.ID = id }
}

// uploadsOld is a kept data set that only commits before the present one had.
func uploadsOld(t *testing.T, l *lab) {
	uploadsKept(t, l)
	l.mustRun(t, deploy.NewDeploy(l.kit, withoutUploads(), nil))
}

// planLines are a plan's changes with their machines and sizes.
func planLines(plan api.Plan) (list []string) {
	for _, c := range plan.Changes {
		list = append(list, strings.Join([]string{c.Action, c.Subject, c.Machine, c.From, c.Reason}, "|"))
	}
	return list
}

// ofSnapshots is what a plan says of snapshots.
var ofSnapshots = regexp.MustCompile(`^(forget|keep).snapshot .*|, forget snapshots of .*`)

// sets are a plan's lines without what they say of snapshots.
func sets(lines []string) (list []string) {
	for _, line := range lines {
		if left := ofSnapshots.ReplaceAllString(line, ""); left != "" {
			list = append(list, left)
		}
	}
	return list
}

func TestPrune(t *testing.T) {
	l := newLab(t)
	uploadsOld(t, l)
	id := l.anyVolume("uploads").ID
	l.pool.SetUsed(id, 5<<20)
	kept := "kept since 2026-01-01 00:00 UTC"
	plan := l.preview(t, l.prune())
	expectLines(t, sets(planLines(plan)), "destroy|volume uploads ("+id+")|m1|5 MiB|"+kept)
	// Without being told otherwise the last ten commits keep their data.
	all := func(r *api.VolumePruneRequest) { r.KeepCommits = 0 }
	needed := "commit 1 (snapshot c1), commit 2 (snapshot c2) can be gone back to with this data"
	expectLines(t, sets(planLines(l.preview(t, l.prune(all)))), "keep|volume uploads ("+id+")|m1|5 MiB|"+needed)
	l.refused(t, l.prune(all, only(id)), api.CodeVolumeSnapshotNeeded, needed, "ployzctl volume prune shop --keep-commits 1")
	week := func(r *api.VolumePruneRequest) { r.OlderThan = nil }
	expectLines(t, sets(planLines(l.preview(t, l.prune(week)))), "keep|volume uploads ("+id+")|m1|5 MiB|"+kept+", which is less than 168h0m0s ago (the default)")
	days := api.Duration(7 * 24 * time.Hour)
	l.refused(t, l.prune(only(id), func(r *api.VolumePruneRequest) { r.OlderThan = &days }), api.CodeBadRequest, "less than 168h", "--older-than 0")

	l.clock.Advance(8 * 24 * time.Hour)
	out := l.mustRun(t, l.prune(week))
	var result api.VolumePruneResult
	if err := json.Unmarshal(out.Value, &result); err != nil || len(result.Destroyed) != 1 || result.Destroyed[0].ID != id || result.OwnBytes != 5<<20 {
		t.Errorf("%s %v", out.Value, err)
	}
	if left := about(l.pool.World(), "uploads"); len(left) != 0 {
		t.Errorf("the pool has %v", left)
	}
	if fact := l.anyVolume("uploads"); fact.ID != "" {
		t.Errorf("there is still the fact %+v", fact)
	}
	expectLines(t, about(l.facts(t), " live"), "cache.app-0 live m1", "cache.app-1 live m1", "data live m1")
	l.mustRun(t, l.prune()) // nothing is left, and that is no error
	l.refused(t, l.prune(only(id)), api.CodeVolumeNotFound, "keeps no volume "+id, "volume ls shop")
	l.refused(t, l.prune(only(l.volume(t, "data").ID)), api.CodeVolumeNotKept, "it has its name, data", "ployzctl volume rm shop/data")
	l.refused(t, l.prune(func(r *api.VolumePruneRequest) { r.Namespace = "shoop" }), api.CodeNamespaceAbsent, "nothing is deployed under that name", "service ls")
	l.refused(t, l.prune(func(r *api.VolumePruneRequest) { r.KeepCommits = -1 }), api.CodeBadRequest, "less than nothing", "")
}

// TestPruneOfThePresent: what the present commit had is its own until the next one, however few keep their data.
func TestPruneOfThePresent(t *testing.T) {
	l := newLab(t)
	uploadsKept(t, l)
	id := l.anyVolume("uploads").ID
	l.refused(t, l.prune(only(id)), api.CodeVolumeSnapshotNeeded, "commit 2 (snapshot c2)", "the next commit lets it go")
	// Two of one name go together.
	l.mustRun(t, l.create(api.VolumeCreateRequest{Name: "uploads"}))
	l.mustRun(t, deploy.NewRemoveVolume(l.kit, "shop", "uploads"))
	l.mustRun(t, deploy.NewDeploy(l.kit, withoutUploads(), nil))
	expectLines(t, sets(about(phases(l.preview(t, l.prune())), "clean up")), "clean up: destroy volume uploads on m1, destroy volume uploads 2 on m1")
	l.mustRun(t, l.prune())
	if left := about(l.pool.World(), "uploads"); len(left) != 0 {
		t.Errorf("the pool has %v", left)
	}
}

// TestPruneSpares what somebody holds, and what a clone depends on until the clone goes as well.
func TestPruneSpares(t *testing.T) {
	l := newLab(t)
	l.pool.ClonesDepend = true
	uploadsOld(t, l)
	id := l.anyVolume("uploads").ID
	held(t, l, id, "before", "operator")
	l.refused(t, l.prune(only(id)), api.CodeVolumeSnapshotNeeded, "held by operator", "ployzctl volume snapshot rm shop/"+id+" before")
	err := l.pool.Release(t.Context(), id, "before", "operator")
	if err == nil {
		_, err = l.pool.Clone(t.Context(), id, "before", storage.Spec{ID: "clone1", Namespace: "shop", Name: "trial"}, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.refused(t, l.prune(only(id)), api.CodeVolumeSnapshotNeeded, "clone1 began as it", "ployzctl volume show "+id)
	l.put(t, store.Volume("shop", "clone1"), api.VolumeFact{ID: "clone1", Namespace: "shop", Name: "trial", Machine: "m1", State: api.VolumeKept})
	plan := l.preview(t, l.prune())
	expectLines(t, sets(about(phases(plan), "clean up")), "clean up: destroy volume trial on m1, destroy volume uploads on m1")
	l.mustRun(t, l.prune())
	if left := about(l.pool.World(), "uploads"); len(left) != 0 {
		t.Errorf("the pool has %v", left)
	}
}

func held(t *testing.T, l *lab, id, snapshot, tag string) {
	t.Helper()
	_, err := l.pool.Snapshot(t.Context(), snapshot, id)
	if err == nil {
		err = l.pool.Hold(t.Context(), id, snapshot, tag)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPruneOnTheMachine: a machine destroys nothing that is live, held or depended on, whatever a coordinator believes.
func TestPruneOnTheMachine(t *testing.T) {
	l := newLab(t)
	uploadsOld(t, l)
	by := deploy.Fenced{Operation: "op9", Step: "destroy", Scope: "ns/shop", Fence: 1 << 40}
	prune := func(id string) error {
		return l.local.Act(t.Context(), by, deploy.Action{Verb: "prune-volume", Volume: id})
	}
	if err := prune(l.volume(t, "data").ID); api.CodeOf(err) != api.CodeVolumeNotKept {
		t.Errorf("live: %v", err)
	}
	id := l.anyVolume("uploads").ID
	held(t, l, id, "x", "somebody")
	before := l.pool.World()
	if err := prune(id); api.CodeOf(err) != api.CodeVolumeSnapshotNeeded || !strings.Contains(err.Error(), "somebody") || strings.Contains(err.Error(), "commit") {
		t.Errorf("held: %v", err)
	}
	expectLines(t, l.pool.World(), before...)
	if err := prune("gone"); err != nil {
		t.Errorf("gone: %v", err)
	}
}

// TestPruneUnclaimed: what no fact names goes only where the ledger, or an earlier prune, proves whose it was.
func TestPruneUnclaimed(t *testing.T) {
	l := newLab(t)
	uploadsUnused(t, l)
	if _, err := l.pool.Ensure(t.Context(), storage.Spec{ID: "stranger", Namespace: "shop", Name: "old"}); err != nil {
		t.Fatal(err)
	}
	if err := l.pool.Retire(t.Context(), "stranger"); err != nil {
		t.Fatal(err)
	}
	// An operation that ended, and whose undo did not reach the machine.
	l.runtime.Program = func(s runtime.Spec) memruntime.Program {
		if s.Image == "app:v2" {
			return memruntime.Program{Refuse: "no"}
		}
		return memruntime.Program{Ends: s.Job}
	}
	out := l.run(deploy.NewDeploy(l.kit, stateful("v2"), nil))
	if out.Outcome != api.RolledBack {
		t.Fatalf("%s %v", out.Outcome, out.Error)
	}
	made := deploy.VolumeID(out.Operation, "shop", "half")
	if _, err := l.pool.Ensure(t.Context(), storage.Spec{ID: made, Namespace: "shop", Name: "half"}); err != nil {
		t.Fatal(err)
	}
	if err := l.pool.Retire(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	// One of a committed operation, whose fact was lost.
	lost := l.volume(t, "uploads")
	l.removeFact(t, store.Volume("shop", lost.ID))
	if err := l.pool.Retire(t.Context(), lost.ID); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(planLines(l.preview(t, l.prune())), "\n")
	for _, want := range []string{
		"keep|volume old (stranger)|m1|0 bytes|no operation in the ledger made it",
		"destroy|volume half (" + made + ")|m1|0 bytes|left by the operation " + out.Operation + ", rolled-back",
		"keep|volume uploads (" + lost.ID + ")|m1|0 bytes|the operation " + lost.Operation + " made it and committed, and its fact is lost",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the plan lacks\n%s\nof\n%s", want, got)
		}
	}
	l.refused(t, l.prune(only("stranger")), api.CodeVolumeUnclaimed, "no operation in the ledger", "ployzctl volume show stranger --machine m1")
	l.mustRun(t, l.prune())
	if left := about(l.pool.World(), "half"); len(left) != 0 {
		t.Errorf("the pool has %v", left)
	}
	l.inPool(t, "stranger", storage.StateKept)
	l.inPool(t, lost.ID, storage.StateKept)
}

// TestPruneGoesOn: a prune that committed and did not come to destroy anything is gone on with by the next.
func TestPruneGoesOn(t *testing.T) {
	l := newLab(t)
	uploadsOld(t, l)
	id := l.anyVolume("uploads").ID
	l.pool.Users = func(of string) string {
		if of == id {
			return "a shell"
		}
		return ""
	}
	l.local.Release = time.Millisecond
	out := l.run(l.prune())
	if out.Outcome != api.CommittedLeftovers || len(out.Leftovers) != 1 || out.Leftovers[0].Clear != "ployzctl volume prune shop" {
		t.Fatalf("%s %v %v", out.Outcome, out.Error, out.Leftovers)
	}
	l.pool.Users = nil
	expectLines(t, sets(lines(l.preview(t, l.prune()))), "destroy volume uploads ("+id+"): the prune "+out.Operation+" did not come to it")
	l.mustRun(t, l.prune())
	if left := about(l.pool.World(), "uploads"); len(left) != 0 {
		t.Errorf("the pool has %v", left)
	}
}

// TestPruneOfTheAway: a silent machine keeps what it has; what left with its machine is only forgotten.
func TestPruneOfTheAway(t *testing.T) {
	l := newLab(t)
	_, silent := l.second(t)
	statefulRuns(t, l)
	l.put(t, store.Volume("shop", "far"), api.VolumeFact{ID: "far", Namespace: "shop", Name: "far", Machine: "m2", State: api.VolumeKept, Kept: l.clock.Now()})
	l.put(t, store.Volume("shop", "left"), api.VolumeFact{ID: "left", Namespace: "shop", Name: "left", Machine: "m9", State: api.VolumeKept, Kept: l.clock.Now()})
	*silent = true
	expectLines(t, sets(lines(l.preview(t, l.prune()))),
		"keep volume far (far): m2 has it and does not answer: m2: no answer within 2s (deploy.machine-silent)",
		"destroy volume left (left): kept since 2026-01-01 00:00 UTC, and m9 has left the cluster with it")
	l.refused(t, l.prune(only("far")), api.CodeMachineSilent, "does not answer", "machine show m2")
	l.mustRun(t, l.prune())
	expectLines(t, about(l.facts(t), " kept"), "far kept m2")
	*silent = false
	l.mustRun(t, l.prune(func(r *api.VolumePruneRequest) { r.Machine = "m1" }))
	expectLines(t, about(l.facts(t), " kept"), "far kept m2")
	expectLines(t, sets(lines(l.preview(t, l.prune()))), "destroy volume far (far): kept since 2026-01-01 00:00 UTC, and the pool of m2 has it no more")
}

func (l *lab) removeFact(t *testing.T, key store.Key) {
	t.Helper()
	if _, err := l.store.Facts().Commit(t.Context(), store.Batch{ID: operation.NewID(), Puts: []store.Put{{Key: key, Remove: true}}}); err != nil {
		t.Fatal(err)
	}
}
