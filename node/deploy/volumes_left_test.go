package deploy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store/memstore"
)

// killed runs an operation until the ledger's next entry after the condition holds, where the coordinator dies.
func (l *lab) killed(t *testing.T, op operation.Operation, when func() bool) {
	t.Helper()
	died := false
	l.store.SetHooks(memstore.Hooks{BeforeAppend: func(string, string, []byte) error {
		if when() {
			panic("killed")
		}
		return nil
	}})
	func() {
		defer func() { died = recover() != nil }()
		l.run(op)
	}()
	l.store.SetHooks(memstore.Hooks{})
	l.clock.Advance(time.Hour) // its lease runs out
	if !died {
		t.Fatal("the coordinator was not killed")
	}
}

// TestInterruptedTwice: what the first of two interrupted operations made goes as well, although the second never came
// to clear it.
func TestInterruptedTwice(t *testing.T) {
	l := newLab(t)
	first := func() operation.Operation { return deploy.NewDeploy(l.kit, stateful("v1"), nil) }
	l.killed(t, first(), func() bool { return len(l.pool.World()) == 2 })
	entries := 0
	l.killed(t, first(), func() bool { entries++; return entries == 3 })
	if left := l.pool.World(); len(left) != 2 {
		t.Fatalf("two interrupted operations left %v", left)
	}
	if got := about(volumeLines(l.preview(t, first())), "remove volume "); len(got) != 2 || !strings.HasSuffix(got[0], ": left by an unfinished operation") {
		t.Errorf("the plan says %q", got)
	}
	l.mustRun(t, first())
	facts, err := deploy.Volumes(t.Context(), l.store.Facts(), "shop")
	if err != nil || len(facts) != 4 {
		t.Fatalf("%+v, %v", facts, err)
	}
	for _, line := range about(l.pool.World(), "volume ") {
		if id := strings.Fields(line)[2]; !slices.ContainsFunc(facts, func(f api.VolumeFact) bool { return f.ID == id }) {
			t.Errorf("nobody knows of %s", line)
		}
	}
}

// TestUnknownVolumeIsKept: a live volume that no fact and no unfinished operation accounts for, as after a restored
// backup of the store, is data: it loses its name, if the namespace is worked on, and nothing else.
func TestUnknownVolumeIsKept(t *testing.T) {
	l := newLab(t)
	theirs := storage.Spec{ID: "unknown1", Namespace: "shop", Name: "data"}
	if _, err := l.pool.Ensure(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	plan := l.preview(t, deploy.NewDeploy(l.kit, stateful("v1"), nil))
	expectLines(t, about(volumeLines(plan), "unknown1"), "retire volume data (unknown1): no commit knows it: it is kept")
	statefulRuns(t, l)
	if is, err := l.pool.Inspect(t.Context(), "unknown1"); err != nil || is.State != storage.StateKept {
		t.Errorf("it is %+v, %v", is, err)
	}
	if l.volume(t, "data").ID == "unknown1" {
		t.Error("it was taken for the new one")
	}
}

// TestDroppedOnASilentMachine: a data set whose machine does not answer is kept by intent at once, and loses its name
// there with the first operation that reaches it.
func TestDroppedOnASilentMachine(t *testing.T) {
	l := newLab(t)
	_, silent := l.second(t)
	s := shop("v1")
	s.Volumes = map[string]api.Volume{"data": {}}
	edit(&s, "db", func(s *api.Service) {
		s.Placement.Machines, s.Mounts = []string{"m2"}, []api.Mount{{Volume: "data", Target: "/data"}}
	})
	edit(&s, "app", func(s *api.Service) { s.Placement.Machines = []string{"m1"} })
	edit(&s, "web", func(s *api.Service) { s.Placement.Machines = []string{"m1"} })
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	id, pool := l.volume(t, "data").ID, l.kit.Participants.(both).two.Pool
	edit(&s, "db", func(s *api.Service) { s.Mounts, s.Placement.Machines = nil, []string{"m1"} })
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil)) // declared, and mounted by nobody
	expectLines(t, l.facts(t), "data live m2")
	*silent = true
	s.Volumes = nil
	plan := l.preview(t, deploy.NewDeploy(l.kit, s, nil))
	if got := volumeLines(plan); len(got) != 1 || !strings.HasSuffix(got[0], "; m2 does not answer and does it with the next operation") {
		t.Errorf("the plan says %q", got)
	}
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	expectLines(t, l.facts(t), "data kept m2")
	*silent = false
	s.Volumes = map[string]api.Volume{"other": {}}
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	if is, err := pool.Inspect(t.Context(), id); err != nil || is.State != storage.StateKept {
		t.Errorf("once it answers it has %+v, %v", is, err)
	}
}
