package deploy_test

import (
	"slices"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
)

// TestNamedSnapshots: a moment that is there gets a commit's name once, in place of one of a commit that never was, and
// gets its own back.
func TestNamedSnapshots(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	id := l.volume(t, "data").ID
	was, err := l.pool.Snapshot(t.Context(), "op-x-3", id)
	must(t, err)
	_, err = l.pool.Snapshot(t.Context(), "c9", id)
	must(t, err)
	must(t, l.pool.Hold(t.Context(), id, "c9", "commit"))
	by := deploy.Fenced{Operation: "x", Scope: "ns/shop", Fence: 1 << 40}
	order := deploy.SnapshotOrder{Name: "c9", Of: "op-x-3", Tag: "commit", Volumes: []string{id}}
	for range 2 {
		is, err := l.local.SnapshotVolumes(t.Context(), by, order)
		if err != nil || len(is) != 1 || is[0].Name != "c9" || is[0].GUID != was[0].GUID || is[0].Volume != id {
			t.Fatalf("%+v, %v", is, err)
		}
	}
	if got := l.heldBy(t, "m1", id); !slices.Contains(got, "c9 [commit]") || slices.Contains(got, "op []") {
		t.Errorf("named: %q", got)
	}
	back := deploy.Action{Verb: "unname-snapshots", Volumes: []string{id, "v9"}, Snapshot: "c9", Tag: "commit", As: "op-x-3"}
	for range 2 {
		must(t, l.local.Act(t.Context(), by, back))
	}
	all, err := l.pool.ListSnapshots(t.Context(), id)
	must(t, err)
	if last := all[len(all)-1]; last.Name != "op-x-3" || last.GUID != was[0].GUID || len(last.Holds) > 0 {
		t.Errorf("unnamed: %+v", last)
	}
	order.Of = "op-x-4"
	if _, err := l.local.SnapshotVolumes(t.Context(), by, order); api.CodeOf(err) != api.CodeVolumeSnapshotNotFound {
		t.Errorf("of a moment that is not there: %v", err)
	}
}
