package deploy_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// volumesOf are the live data sets of a namespace, by name.
func (l *lab) volumesOf(t *testing.T, ns string) map[string]api.VolumeFact {
	t.Helper()
	all, err := deploy.Volumes(context.Background(), l.store.Facts(), ns)
	must(t, err)
	byName := map[string]api.VolumeFact{}
	for _, v := range all {
		if v.State == api.VolumeLive {
			byName[v.Name] = v
		}
	}
	return byName
}

// operationSnapshots are the snapshots in the pool that operations took for themselves.
func (l *lab) operationSnapshots() []string { return about(l.pool.World(), " op-") }

// TestBeginsAsThePresent: each volume begins as the other namespace's is at the moment of the operation, and the
// operation's own hold on that moment ends with it.
func TestBeginsAsThePresent(t *testing.T) {
	for name, depend := range map[string]bool{"clones stand alone": false, "clones depend": true} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.pool.ClonesDepend = depend
			statefulRuns(t, l)
			plan := l.preview(t, l.branch(tryIt))
			id := l.volume(t, "data").ID
			expectLines(t, about(volumeLines(plan), "volume data"), "clone volume data: as shop/data ("+id+") is now")
			expectLines(t, about(phases(plan), "snapshot the origin:"), "snapshot the origin: snapshot the origin on m1")
			out := l.mustRun(t, l.branch(tryIt))
			was, is := l.volumesOf(t, "shop"), l.volumesOf(t, "try")
			if len(is) != len(was) || len(was) != 4 {
				t.Fatalf("of %d there are %d", len(was), len(is))
			}
			for name, v := range is {
				o := v.Origin
				if o == nil || o.Volume != was[name].ID || o.Snapshot != storage.OperationSnapshot(out.Operation, 0) || o.GUID == "" {
					t.Errorf("%s began as %+v", name, o)
				}
				if v.SizeBytes != was[name].SizeBytes || v.Mode != was[name].Mode || v.Scope != was[name].Scope {
					t.Errorf("%+v is not as %+v", v, was[name])
				}
				expectPlace(t, l, v.ID, storage.StateLive)
			}
			left := l.operationSnapshots()
			if depend != (len(left) == 4) || !depend && len(left) != 0 || strings.Contains(strings.Join(left, ""), "["+out.Operation) {
				t.Errorf("of its snapshots it left %q", left)
			}
		})
	}
}

// TestBeginsAsThePresentFails: what was taken for it goes, and the origin is as it was.
func TestBeginsAsThePresentFails(t *testing.T) {
	l := newLab(t)
	l.pool.ClonesDepend = true
	statefulRuns(t, l)
	l.runtime.Program = func(s runtime.Spec) memruntime.Program { return memruntime.Program{Refuse: "no", Ends: s.Job} }
	before := l.pool.World()
	if out := l.run(l.branch(tryIt)); out.Outcome != api.RolledBack {
		t.Fatalf("%s %v %v", out.Outcome, out.Error, out.Leftovers)
	}
	if now := l.pool.World(); !slices.Equal(now, before) {
		t.Errorf("the pool had\n%s\nand has\n%s", strings.Join(before, "\n"), strings.Join(now, "\n"))
	}
}

// TestBeginsAsRefusals: an origin that cannot be snapshot is refused before anything is touched.
func TestBeginsAsRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		world func(t *testing.T, l *lab, data api.VolumeFact)
		code  api.Code
		says  string
	}{
		"silent machine": {func(t *testing.T, l *lab, data api.VolumeFact) {
			l.put(t, store.Machine("m2"), machine.Member{ID: "m2", Name: "m2", Recipient: "age1second"})
			data.Machine = "m2"
			l.put(t, store.Volume("shop", data.ID), data)
		}, api.CodeMachineSilent, "m2 has it and does not answer"},
		"not there": {func(t *testing.T, l *lab, data api.VolumeFact) {
			l.local.Pool = newPool(l.runtime)
		}, api.CodeVolumeNotFound, "the pool of m1"},
		"no pool": {func(t *testing.T, l *lab, data api.VolumeFact) { l.local.Pool = nil }, api.CodeVolumePoolUnavailable, "no pool"},
		"lost its name": {func(t *testing.T, l *lab, data api.VolumeFact) {
			must(t, l.runtime.Stop(t.Context(), l.instance(t, "db-0")))
			must(t, l.pool.Retire(t.Context(), data.ID))
		}, api.CodeVolumeNotLive, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			statefulRuns(t, l)
			c.world(t, l, l.volume(t, "data"))
			before := l.snapshot()
			out := l.run(l.branch(tryIt))
			e := found(out.Error, c.code)
			if out.Outcome != api.Refused || e == nil || !strings.Contains(e.Error(), c.says) {
				t.Fatalf("%s %v", out.Outcome, out.Error)
			}
			if now := l.snapshot(); now != before {
				t.Errorf("before\n%s\nafter\n%s", before, now)
			}
		})
	}
}
