package deploy_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// pruning makes a case whose worlds also tell all that the pool has, snapshots of earlier commits among it.
func pruning(before func(*testing.T, *lab)) optest.Case {
	return optest.Case{New: func(t *testing.T) *optest.World {
		l := newLab(t)
		before(t, l)
		return &optest.World{
			Store: l.store, Clock: l.clock, Operation: func() operation.Operation { return l.prune() },
			Snapshot: func() string {
				return l.snapshot() + "\n" + volumeNoise.ReplaceAllString(strings.Join(l.pool.World(), "\n"), "")
			},
		}
	}}
}

// moments are a data set's snapshots, as a pool has them.
func (l *lab) moments(t *testing.T, id string) (names []string) {
	t.Helper()
	all, err := l.local.Pool.ListSnapshots(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names
}

// retaining is the stateful shop that keeps the data of so many commits.
func retaining(version string, commits int) api.Spec {
	s := stateful(version)
	s.Retention = &api.Retention{Commits: commits}
	return s
}

// TestPruneAtTheBorder: what commit N left is what commit N+1's snapshot shows, and it stays as long as N keeps its data.
func TestPruneAtTheBorder(t *testing.T) {
	for _, c := range []struct {
		spec, asked int
		rule        string
		left        []string
	}{
		{1, 0, "only the present commit keeps its data (the spec's retention)", nil},
		{2, 0, "the last 2 commits keep their data (the spec's retention)", []string{"c5"}},
		{2, 1, "only the present commit keeps its data (as asked for now)", nil},
		{1, 3, "the last 3 commits keep their data (as asked for now)", []string{"c4", "c5"}},
		{5, 0, "", []string{"c2", "c3", "c4", "c5"}},
		{0, 0, "", []string{"c2", "c3", "c4", "c5"}},
	} {
		t.Run(fmt.Sprintf("%d of the spec, %d asked for", c.spec, c.asked), func(t *testing.T) {
			l := newLab(t)
			for n := range 5 {
				l.mustRun(t, deploy.NewDeploy(l.kit, retaining([]string{"v1", "v2"}[n%2], c.spec), nil))
			}
			prune := func() operation.Operation {
				return l.prune(func(r *api.VolumePruneRequest) { r.KeepCommits = c.asked })
			}
			text := strings.Join(lines(l.preview(t, prune())), "\n")
			id := l.volume(t, "data").ID
			if c.rule != "" && !strings.Contains(text, "forget snapshot data@c2 ("+id+"): it is what commit 1 left, and "+c.rule) {
				t.Errorf("the plan is\n%s", text)
			}
			l.mustRun(t, prune())
			if got := l.moments(t, id); !slices.Equal(got, c.left) {
				t.Errorf("left are %v, want %v", got, c.left)
			}
			for commit := 1; commit < 5; commit++ {
				name := fmt.Sprintf("c%d", commit+1)
				plan := l.preview(t, deploy.NewRollbackWithVolumes(l.kit, "shop", commit))
				if kept := slices.Contains(c.left, name); kept != (len(plan.Unmet) == 0) {
					t.Errorf("commit %d: %v", commit, plan.Unmet)
				}
			}
			if c.left == nil {
				l.refused(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 4), api.CodeVolumeLineage, ": a volume prune let go what commits so old had left", "ployzctl rollback shop --to 4")
			}
		})
	}
}

// TestPruneOfRandomPasts: whatever came before, a prune takes no data that one of the kept commits can be gone back to
// with, and everything that is left belongs to somebody.
func TestPruneOfRandomPasts(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 4))
			l := newLab(t)
			l.pool.ClonesDepend = seed%2 == 0
			l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v1"), nil))
			for range 8 {
				randomChange(t, l, r)
			}
			keep := 1 + r.IntN(5)
			before := l.ways(t)
			for range 2 { // the second has nothing more to do
				l.mustRun(t, l.prune(func(p *api.VolumePruneRequest) { p.KeepCommits = keep }))
			}
			after := l.ways(t)
			head := len(before)
			for n := max(head-keep+1, 1); n <= head; n++ {
				if before[n-1] != after[n-1] {
					t.Errorf("commit %d of %d, of which %d are kept, could be gone back to (%s) and now (%s)", n, head, keep, before[n-1], after[n-1])
				}
			}
			if plan := l.preview(t, l.prune(func(p *api.VolumePruneRequest) { p.KeepCommits = keep })); len(actions(plan, "forget")) > 0 {
				t.Errorf("after two prunes there is left to do:\n%s", strings.Join(lines(plan), "\n"))
			}
		})
	}
}

func actions(plan api.Plan, action string) []api.Change {
	return slices.DeleteFunc(slices.Clone(plan.Changes), func(c api.Change) bool { return c.Action != action })
}

// randomChange makes one more commit of the shop, or does something to its volumes.
func randomChange(t *testing.T, l *lab, r *rand.Rand) {
	t.Helper()
	history, err := deploy.History(t.Context(), l.store.Facts(), "shop")
	must(t, err)
	var op operation.Operation
	switch to := 1 + r.IntN(len(history)); r.IntN(7) {
	case 0:
		op = deploy.NewRollback(l.kit, "shop", to)
	case 1, 2:
		op = deploy.NewRollbackWithVolumes(l.kit, "shop", to)
	case 3:
		op = deploy.NewDeploy(l.kit, withoutUploads(), nil)
	case 4:
		op = l.prune(func(p *api.VolumePruneRequest) { p.KeepCommits = 6 })
	case 5:
		op = deploy.NewRemove(l.kit, "shop")
	default:
		op = deploy.NewDeploy(l.kit, stateful([]string{"v1", "v2"}[r.IntN(2)]), nil)
	}
	if out := l.run(op); out.Outcome != api.Committed && out.Outcome != api.Refused {
		t.Fatalf("%s ended %s: %v %v", op.Kind(), out.Outcome, out.Error, out.Leftovers)
	}
}

// ways says of each commit whether it can be gone back to with its data, or why not.
func (l *lab) ways(t *testing.T) (list []string) {
	t.Helper()
	history, err := deploy.History(t.Context(), l.store.Facts(), "shop")
	must(t, err)
	for n := 1; n <= len(history); n++ {
		plan, err := l.runner().Preview(t.Context(), deploy.NewRollbackWithVolumes(l.kit, "shop", n), "root")
		text := fmt.Sprint(api.CodeOf(err))
		for _, unmet := range plan.Unmet {
			text += " " + string(unmet.Code)
		}
		list = append(list, text)
	}
	return list
}

// TestPruneOfOthersSnapshots: an operator's stay; those that operations took go once they are over, held by nobody else
// and depended on by nothing.
func TestPruneOfOthersSnapshots(t *testing.T) {
	l := newLab(t)
	l.pool.ClonesDepend = true
	statefulTwice(t, l)
	id := l.volume(t, "data").ID
	l.mustRun(t, l.snap("before"))
	l.mustRun(t, l.clone("data", "before", "trial"))
	over := l.mustRun(t, deploy.NewSetSecret(l.kit, "shop", "key", []byte("v"))).Operation
	for name, tag := range map[string]string{
		storage.OperationSnapshot(over, 0): over, storage.OperationSnapshot("gone1", 3): "gone1", storage.OperationSnapshot("other", 0): "somebody",
		"clone-v9": "", "op-x": "", "c1x": "",
	} {
		_, err := l.pool.Snapshot(t.Context(), name, id)
		if err == nil && tag != "" {
			err = l.pool.Hold(t.Context(), id, name, tag)
		}
		must(t, err)
	}
	if _, err := l.pool.Clone(t.Context(), id, "c2", storage.Spec{ID: "vlate", Namespace: "shop", Name: "late"}, false); err != nil {
		t.Fatal(err)
	}
	l.put(t, store.Volume("shop", "vlate"), api.VolumeFact{ID: "vlate", Namespace: "shop", Name: "late", Machine: "m1", State: api.VolumeLive})
	text := strings.Join(lines(l.preview(t, l.prune())), "\n")
	for _, want := range []string{
		"forget snapshot data@" + storage.OperationSnapshot(over, 0) + " (" + id + "): the operation " + over + " took it and is over",
		"keep snapshot data@" + storage.OperationSnapshot("other", 0) + " (" + id + "): the snapshot op-other-0 of " + id + " is needed: it is held by somebody",
		"keep snapshot data@c2 (" + id + "): the snapshot c2 of " + id + " is needed: vlate began as it",
		"forget snapshot data@clone-v9 (" + id + "): a clone took it and does not depend on it",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the plan lacks\n%s\nof\n%s", want, text)
		}
	}
	out := l.mustRun(t, l.prune())
	left := l.moments(t, id)
	slices.Sort(left)
	if want := []string{"before", "c1x", "c2", "op-other-0", "op-x"}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
	var result api.VolumePruneResult
	must(t, json.Unmarshal(out.Value, &result))
	if !slices.ContainsFunc(result.Snapshots, func(s api.PrunedSnapshot) bool {
		return s.Volume == id && s.Name == "data" && s.Machine == "m1" && s.Snapshot == "c1" && s.Reason != ""
	}) {
		t.Errorf("the result is %+v", result.Snapshots)
	}
}

// TestPruneSnapshotsOnTheMachine: a machine forgets nothing that an operator took, or anybody needs, whatever it is told.
func TestPruneSnapshotsOnTheMachine(t *testing.T) {
	l := newLab(t)
	statefulTwice(t, l)
	id := l.volume(t, "data").ID
	held(t, l, id, "before", "operator")
	must(t, l.pool.Hold(t.Context(), id, "c2", "somebody"))
	by := deploy.Fenced{Operation: "op9", Step: "forget", Scope: "ns/shop", Fence: 1 << 40}
	err := l.local.Act(t.Context(), by, deploy.Action{Verb: "prune-snapshots", Volume: id, Snapshots: []string{"before", "c1", "c2", "c9"}})
	if err == nil || !strings.Contains(err.Error(), "no commit and no operation took the snapshot before") || !strings.Contains(err.Error(), "held by somebody") {
		t.Errorf("%v", err)
	}
	if got := l.moments(t, id); !slices.Equal(got, []string{"c2", "before"}) {
		t.Errorf("left are %v", got)
	}
	if err := l.local.Act(t.Context(), by, deploy.Action{Verb: "prune-snapshots", Volume: "v9", Snapshots: []string{"c1"}}); err != nil {
		t.Errorf("of a volume that is gone: %v", err)
	}
}

// TestRetentionOutlivesTheRelease: what a namespace keeps of its past is known also after it was taken away.
func TestRetentionOutlivesTheRelease(t *testing.T) {
	l := newLab(t)
	s := stateful("v1")
	s.Retention = &api.Retention{Commits: 1, Volumes: api.Duration(time.Hour)}
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	l.mustRun(t, deploy.NewRemove(l.kit, "shop"))
	prune := func() operation.Operation {
		return deploy.NewPruneVolumes(l.kit, api.VolumePruneRequest{Namespace: "shop"})
	}
	if text := strings.Join(lines(l.preview(t, prune())), "\n"); !strings.Contains(text, "which is less than 1h0m0s ago (the spec's retention)") {
		t.Errorf("the plan is\n%s", text)
	}
	l.clock.Advance(2 * time.Hour)
	l.mustRun(t, prune())
	if left := l.pool.World(); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

func TestCheckRetention(t *testing.T) {
	for place, r := range map[string]api.Retention{
		"retention.commits": {Commits: -1}, "retention.volumes": {Volumes: -1},
	} {
		s := shop("v1")
		s.Retention = &r
		if errs := deploy.Check(s); len(errs) != 1 || errs[0].Subject != place || errs[0].Code != api.CodeSpecInvalid {
			t.Errorf("%+v: %v", r, errs)
		}
	}
	s := shop("v1")
	s.Retention = &api.Retention{Commits: api.MaxKeepCommits + 1}
	if errs := deploy.Check(s); len(errs) != 1 {
		t.Errorf("%v", errs)
	}
}
