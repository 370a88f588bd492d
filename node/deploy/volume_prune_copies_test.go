package deploy_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/mempool"
	"github.com/ployz/ployz/node/store"
)

// elsewhere is the pool of the lab's second machine.
func (l *lab) elsewhere() *mempool.Pool {
	return l.kit.Participants.(both).two.Pool.(*mempool.Pool)
}

// copied gives the pool of m2 a copy of a data set of m1, with a snapshot that an operator and a commit hold. For a
// reason that is "" no fact says so.
func (l *lab) copied(t *testing.T, name, reason string) (id string) {
	t.Helper()
	fact := l.anyVolume(name)
	far := l.elsewhere()
	_, err := far.Ensure(t.Context(), storage.Spec{ID: fact.ID, Namespace: "shop", Name: name})
	if err == nil {
		_, err = far.Snapshot(t.Context(), "op-1-0", fact.ID)
	}
	must(t, err)
	must(t, far.Hold(t.Context(), fact.ID, "op-1-0", "operator"))
	must(t, far.Retire(t.Context(), fact.ID))
	if reason != "" {
		fact.Copies = []api.VolumeCopy{{Machine: "m2", Snapshot: "op-1-0", GUID: "g", Reason: reason, Since: l.clock.Now()}}
		l.put(t, store.Volume("shop", fact.ID), fact)
	}
	return fact.ID
}

// onOne is a shop whose volumes are on m1, with a second machine beside it.
func onOne(t *testing.T, l *lab) {
	statefulRuns(t, l)
	l.second(t)
}

// week is a prune that leaves what lost its name within a week.
func week(r *api.VolumePruneRequest) { r.OlderThan = nil }

func at(id, machineName string) func(*api.VolumePruneRequest) {
	return func(r *api.VolumePruneRequest) { r.ID, r.Machine = id, machineName }
}

func TestPruneMovedCopies(t *testing.T) {
	l := newLab(t)
	onOne(t, l)
	id := l.copied(t, "data", api.CopyMoved)
	is := "copy of data (" + id + "): a copy of the one that is live on m1, which a migration left at 2026-01-01 00:00 UTC"
	expectLines(t, sets(lines(l.preview(t, l.prune(week)))), "keep "+is+", less than 168h0m0s ago (the default)")
	l.refused(t, l.prune(func(r *api.VolumePruneRequest) { r.ID, r.OlderThan = id, new(7*api.Duration(24*time.Hour)) }), api.CodeBadRequest, "a migration left", "--id "+id+" --machine m2")
	l.clock.Advance(8 * 24 * time.Hour)
	expectLines(t, sets(lines(l.preview(t, l.prune(week)))), "destroy "+is)
	operationBefore := l.volume(t, "data").Operation
	out := l.mustRun(t, l.prune(week))
	if left := l.elsewhere().World(); len(left) != 0 {
		t.Errorf("m2 has %v", left)
	}
	if v := l.volume(t, "data"); len(v.Copies) != 0 || v.Operation != operationBefore {
		t.Errorf("the fact is %+v", v)
	}
	l.inPool(t, id, storage.StateLive)
	var result api.VolumePruneResult
	must(t, json.Unmarshal(out.Value, &result))
	if len(result.Destroyed) != 1 || !result.Destroyed[0].Copy || result.Destroyed[0].Machine != "m2" {
		t.Errorf("%+v", result)
	}
}

func TestPruneSentCopies(t *testing.T) {
	l := newLab(t)
	onOne(t, l)
	id := l.copied(t, "data", api.CopySent)
	l.clock.Advance(100 * 24 * time.Hour)
	expectLines(t, sets(lines(l.preview(t, l.prune()))), "keep copy of data ("+id+"): a copy of the one that is live on m1, brought up to date at 2026-01-01 00:00 UTC")
	l.refused(t, l.prune(only(id)), api.CodeVolumeCopied, "a copy of the one that is live on m1", "ployzctl volume prune shop --id "+id+" --machine m2")
	l.mustRun(t, l.prune(at(id, "m2")))
	if left := l.elsewhere().World(); len(left) != 0 || len(l.volume(t, "data").Copies) != 0 {
		t.Errorf("m2 has %v, the fact %v", left, l.volume(t, "data").Copies)
	}
	l.copied(t, "data", api.CopySent) // that an earlier prune took one there does not count against it
	expectLines(t, sets(lines(l.preview(t, l.prune()))), "keep copy of data ("+id+"): a copy of the one that is live on m1, brought up to date at 2026-04-11 00:00 UTC")
}

// TestPruneOfWhatHasCopies: a data set goes with what a migration left of it, and not before what was sent.
func TestPruneOfWhatHasCopies(t *testing.T) {
	l := newLab(t)
	uploadsOld(t, l)
	l.second(t)
	id := l.copied(t, "uploads", api.CopySent)
	l.refused(t, l.prune(at(id, "m1")), api.CodeVolumeCopied, "m2 has a copy of it", "--id "+id+" --machine m2")
	l.mustRun(t, l.prune())
	l.inPool(t, id, storage.StateKept)
	fact := l.anyVolume("uploads")
	fact.Copies[0].Reason = api.CopyMoved
	l.put(t, store.Volume("shop", id), fact)
	expectLines(t, sets(about(phases(l.preview(t, l.prune())), "clean up")), "clean up: destroy volume uploads on m1, destroy copy of uploads on m2")
	l.mustRun(t, l.prune())
	if left := append(about(l.pool.World(), "uploads"), l.elsewhere().World()...); len(left) != 0 || l.anyVolume("uploads").ID != "" {
		t.Errorf("left are %v, and the fact %+v", left, l.anyVolume("uploads"))
	}
}

// TestPruneOfAwayCopies: a silent machine keeps its copy, and the fact loses one that left with its machine, or that the
// pool has no more.
func TestPruneOfAwayCopies(t *testing.T) {
	l := newLab(t)
	onOne(t, l)
	id := l.copied(t, "data", api.CopyMoved)
	fact := l.volume(t, "data")
	fact.Copies = append(fact.Copies, api.VolumeCopy{Machine: "m9", Snapshot: "op-1-0", Reason: api.CopySent})
	l.put(t, store.Volume("shop", id), fact)
	silent := l.kit.Participants.(both).silent
	*silent = true
	expectLines(t, sets(lines(l.preview(t, l.prune()))),
		"keep copy of data ("+id+"): m2 has it and does not answer: m2: no answer within 2s (deploy.machine-silent)",
		"destroy copy of data ("+id+"): a copy of the one that is live on m1, and m9 has left the cluster with it")
	l.mustRun(t, l.prune())
	if c := l.volume(t, "data").Copies; len(c) != 1 || c[0].Machine != "m2" {
		t.Errorf("the copies are %v", c)
	}
	*silent = false
	must(t, l.elsewhere().Release(t.Context(), id, "op-1-0", "operator"))
	must(t, l.elsewhere().Destroy(t.Context(), id))
	expectLines(t, sets(lines(l.preview(t, l.prune(week)))), "destroy copy of data ("+id+"): a copy of the one that is live on m1, and the pool of m2 has it no more")
	l.mustRun(t, l.prune(week))
	if c := l.volume(t, "data").Copies; len(c) != 0 {
		t.Errorf("the copies are %v", c)
	}
}

// TestPruneOfUnlistedCopies: one that no fact lists goes by name only, and none goes that has its name or a clone.
func TestPruneOfUnlistedCopies(t *testing.T) {
	l := newLab(t)
	onOne(t, l)
	id, far := l.copied(t, "data", ""), l.elsewhere()
	far.ClonesDepend = true
	l.refused(t, l.prune(only(id)), api.CodeVolumeUnclaimed, "no operation that committed made it", "--machine m2")
	must(t, far.Restore(t.Context(), id))
	by := deploy.Fenced{Operation: "op9", Step: "destroy", Scope: "ns/other", Fence: 1}
	two := l.kit.Participants.(both).two
	if err := two.Act(t.Context(), by, deploy.Action{Verb: "prune-copy", Volume: id}); api.CodeOf(err) != api.CodeVolumeNotKept {
		t.Errorf("one that has its name: %v", err)
	}
	must(t, far.Retire(t.Context(), id))
	_, err := far.Clone(t.Context(), id, "op-1-0", storage.Spec{ID: "vclone", Namespace: "shop", Name: "trial"}, true)
	must(t, err)
	l.refused(t, l.prune(at(id, "m2")), api.CodeVolumeSnapshotNeeded, "vclone began as it", "")
	if err := two.Act(t.Context(), by, deploy.Action{Verb: "prune-copy", Volume: id}); api.CodeOf(err) != api.CodeVolumeSnapshotNeeded {
		t.Errorf("one that a clone needs: %v", err)
	}
	must(t, far.Destroy(t.Context(), "vclone"))
	l.mustRun(t, l.prune(at(id, "m2")))
	if left := far.World(); len(left) != 0 {
		t.Errorf("m2 has %v", left)
	}
	if err := two.Act(t.Context(), by, deploy.Action{Verb: "prune-copy", Volume: id}); err != nil {
		t.Errorf("one that is gone: %v", err)
	}
}

// pruningCopies breaks a prune that destroys copies with and without what they are of.
func pruningCopies() optest.Case {
	return optest.Case{New: func(t *testing.T) *optest.World {
		l := newLab(t)
		uploadsOld(t, l)
		l.second(t)
		for _, name := range []string{"uploads", "data"} {
			l.copied(t, name, api.CopyMoved)
		}
		return &optest.World{
			Store: l.store, Clock: l.clock, Operation: func() operation.Operation { return l.prune() },
			Snapshot: func() string {
				all := slices.Concat(l.pool.World(), l.elsewhere().World())
				return l.snapshot() + "\n" + volumeNoise.ReplaceAllString(strings.Join(all, "\n"), "")
			},
		}
	}}
}
