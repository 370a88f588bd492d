package deploy_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/store"
)

// second adds a machine m2 to a lab; silent makes it stop answering.
func (l *lab) second(t *testing.T) (two *memruntime.Runtime, silent *bool) {
	t.Helper()
	two, silent = memruntime.New(), new(bool)
	fences, err := coordination.OpenFences(filepath.Join(t.TempDir(), "fences.json"))
	if err != nil {
		t.Fatal(err)
	}
	l.far = newPool(two)
	local := &deploy.Local{
		Runtime: two, Images: l.images, Network: memruntime.NewNetwork(), Console: two, Fences: fences, Pool: l.far,
		Subnet:  deploy.Subnet{V4: netip.MustParsePrefix("10.101.2.0/24"), V6: netip.MustParsePrefix("fd00:1:2:2::/64")},
		Machine: l.observe, Serving: l.serving, Steady: time.Nanosecond,
	}
	l.kit.Participants, l.two = both{l.local, local, silent}, local
	l.put(t, store.Machine("m2"), machine.Member{ID: "m2", Name: "m2", Recipient: "age1second"})
	return two, silent
}

type both struct {
	one, two *deploy.Local
	silent   *bool
}

func (b both) Participant(_ context.Context, name string) (deploy.Participant, error) {
	switch {
	case name == "m1":
		return b.one, nil
	case *b.silent:
		return nil, api.Errorf(api.CodeMachineSilent, "no answer within 2s").About(name)
	}
	return b.two, nil
}

// TestAppliedSideBySide: no machine waits to be asked whether it serves the commit until another has said so.
func TestAppliedSideBySide(t *testing.T) {
	l := newLab(t)
	l.second(t)
	here, there := make(chan struct{}), make(chan struct{})
	meets := func(own, other chan struct{}) func(context.Context, string) ([]deploy.Consumer, error) {
		var once sync.Once
		return func(ctx context.Context, ns string) ([]deploy.Consumer, error) {
			once.Do(func() { close(own) })
			select {
			case <-other:
				return l.serving(ctx, ns)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	l.local.Serving, l.two.Serving = meets(here, there), meets(there, here)
	s := shop("v1")
	delete(s.Services, "migrate") // one layer, which is announced by nothing but the commit
	for name := range s.Services {
		edit(&s, name, func(s *api.Service) { s.DependsOn = nil })
	}
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
}

// TestTwoMachines: a second machine changes placement, not shape.
func TestTwoMachines(t *testing.T) {
	l := newLab(t)
	two, silent := l.second(t)
	shopRuns(t, l)
	at := func() string {
		var list []string
		for name, slot := range l.current(t, "shop").Slots {
			list = append(list, name+"@"+slot.Machine)
		}
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	if got, want := at(), "app-0@m1 app-1@m2 db-0@m1 web-0@m1"; got != want {
		t.Errorf("placed %s, want %s", got, want)
	}
	if len(two.World()) != 1 {
		t.Errorf("m2 runs %v", two.World())
	}
	for name, slot := range l.current(t, "shop").Slots {
		if want := fmt.Sprintf("10.101.%s.", slot.Machine[1:]); !strings.HasPrefix(slot.V4.String(), want) {
			t.Errorf("%s on %s has %s", name, slot.Machine, slot.V4)
		}
	}
	*silent = true
	out := l.run(deploy.NewDeploy(l.kit, shop("v2"), nil))
	if out.Outcome != api.Refused || !strings.Contains(fmt.Sprint(out.Error.Details, out.Error), string(api.CodeMachineSilent)) {
		t.Errorf("with m2 silent it ended %s: %v", out.Outcome, out.Error)
	}
	*silent = false
	l.put(t, store.Machine("m2"), machine.Member{ID: "m2", Name: "m2", Role: machine.Draining})
	l.mustRun(t, deploy.NewDeploy(l.kit, shop("v2"), nil))
	if got, want := at(), "app-0@m1 app-1@m1 db-0@m1 web-0@m1"; got != want {
		t.Errorf("off the draining machine: %s, want %s", got, want)
	}
	if len(two.World()) != 0 {
		t.Errorf("m2 still runs %v", two.World())
	}
}

// TestSilentMachineWithoutInstances is in nobody's way, but is not given anything.
func TestSilentMachineWithoutInstances(t *testing.T) {
	l := newLab(t)
	_, silent := l.second(t)
	*silent = true
	out := l.run(deploy.NewDeploy(l.kit, shop("v1"), nil))
	if out.Outcome != api.Committed {
		t.Fatalf("it ended %s: %v %v", out.Outcome, out.Error, out.Leftovers)
	}
	plan := l.preview(t, deploy.NewScale(l.kit, "shop", "app", 3))
	if !slices.ContainsFunc(plan.Changes, func(c api.Change) bool { return strings.Contains(c.Reason, "not m2: does not answer") }) {
		t.Errorf("the preview does not say why not m2: %v", lines(plan))
	}
}

// TestStopFirstOnAMachineThatIsGone: what a removed machine held cannot be stopped first, and need not be.
func TestStopFirstOnAMachineThatIsGone(t *testing.T) {
	l := newLab(t)
	_, silent := l.second(t)
	spec := shop("v1")
	edit(&spec, "app", func(s *api.Service) { s.Update.Order = "stop-first" })
	l.mustRun(t, deploy.NewDeploy(l.kit, spec, nil))
	l.remove(t, store.Machine("m2"))
	*silent = true
	l.mustRun(t, deploy.NewClear(l.kit, "shop"))
	for name, slot := range l.current(t, "shop").Slots {
		if slot.Machine != "m1" {
			t.Errorf("%s is on %s", name, slot.Machine)
		}
	}
}

// TestCommandsOfOneStep: what one step asks of a machine at once must not be taken for a repetition or an undo.
func TestCommandsOfOneStep(t *testing.T) {
	l := newLab(t)
	asked := &acts{Participant: l.local, of: map[string][]string{}}
	l.kit.Participants = everywhere{asked}
	l.mustRun(t, deploy.NewDeploy(l.kit, shop("v1"), nil))
	l.mustRun(t, deploy.NewDeploy(l.kit, shop("v2"), nil))
	for step, instances := range asked.of {
		if len(instances) > 1 {
			t.Errorf("%s asked for %v", step, instances)
		}
	}
}

// acts is a participant that notes what is retired, by operation and step.
type acts struct {
	deploy.Participant
	mu sync.Mutex
	of map[string][]string // guarded by mu
}

// everywhere is a cluster whose machines are all one.
type everywhere struct{ p deploy.Participant }

func (e everywhere) Participant(context.Context, string) (deploy.Participant, error) { return e.p, nil }

func (a *acts) Act(ctx context.Context, by deploy.Fenced, action deploy.Action) error {
	a.mu.Lock()
	if key := by.Operation + " " + by.Step; action.Verb == "retire" {
		a.of[key] = append(a.of[key], action.Instance)
	}
	a.mu.Unlock()
	return a.Participant.Act(ctx, by, action)
}

// remove takes a fact away.
func (l *lab) remove(t *testing.T, key store.Key) {
	t.Helper()
	if _, err := l.store.Facts().Commit(t.Context(), store.Batch{ID: "remove", Puts: []store.Put{{Key: key, Remove: true}}}); err != nil {
		t.Fatal(err)
	}
}
