package deploy_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/store"
)

// plays makes a service's instances behave as told; all others run, and jobs end well.
func (l *lab) plays(service, digestOf string, p memruntime.Program) {
	digest := ""
	if digestOf != "" {
		image := l.images.Serve(digestOf, digestOf, runtime.ImageConfig{})
		digest = image.Digest
	}
	l.runtime.Program = func(s runtime.Spec) memruntime.Program {
		if s.Service == service && (digest == "" || s.Digest == digest) {
			return p
		}
		return memruntime.Program{Ends: s.Job}
	}
}

// stepsThat are the steps of an event type, in order.
func stepsThat(events []api.Event, kind string) []string {
	var list []string
	for _, e := range events {
		if e.Type == kind {
			list = append(list, e.Step)
		}
	}
	return list
}

func (l *lab) watch(ctx context.Context, op operation.Operation) (api.Outcome, []api.Event) {
	var seen []api.Event
	out := l.runner().Run(ctx, operation.Request{Operation: op, Caller: "root", Audience: func(e api.Event) { seen = append(seen, e) }})
	return out, seen
}

// TestNeverReady: the new instance's last lines are shown, and the old one was not touched.
func TestNeverReady(t *testing.T) {
	for name, program := range map[string]memruntime.Program{
		"ends":       {Lines: []string{"starting", "no such table: orders"}, Ends: true, ExitCode: 3},
		"ends well":  {Lines: []string{"starting", "no such table: orders"}, Ends: true},
		"is refused": {Lines: []string{"starting", "no such table: orders"}, Refuse: "exec format error"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.plays("app", "app:v2", program)
			shopRuns(t, l)
			was := l.snapshot()
			s := shop("v2")
			edit(&s, "app", func(s *api.Service) {
				s.Ready = &api.Probe{TCP: &api.TCPProbe{Port: 1}, Deadline: api.Duration(100 * time.Millisecond), Interval: api.Duration(time.Millisecond)}
			})
			old := l.instance(t, "app-0")
			out, seen := l.watch(t.Context(), deploy.NewDeploy(l.kit, s, nil))
			if out.Outcome != api.RolledBack || out.Error.Operation == "" || out.Error.Step == "" {
				t.Fatalf("it ended %s: %v in step %q", out.Outcome, out.Error, out.Error.Step)
			}
			shown := strings.Join(out.Error.Log, "\n") + out.Error.Message
			if !strings.Contains(shown, "no such table: orders") {
				t.Errorf("the last lines are missing: %+v", out.Error)
			}
			if name != "is refused" && (out.Error.Code != api.CodeNotReady || out.Error.Hint == "") {
				t.Errorf("got %v, hint %q", out.Error, out.Error.Hint)
			}
			if got := l.snapshot(); got != was {
				t.Errorf("the world was\n%s\nis\n%s", was, got)
			}
			if l.instance(t, "app-0") != old || slices.ContainsFunc(stepsThat(seen, api.EventStepIntended), func(s string) bool { return strings.HasPrefix(s, "stop") }) {
				t.Errorf("the old one was touched: %v", stepsThat(seen, api.EventStepIntended))
			}
		})
	}
}

func TestJobBeforeFails(t *testing.T) {
	l := newLab(t)
	l.plays("migrate", "", memruntime.Program{Lines: []string{"migrating", "column exists"}, Ends: true, ExitCode: 2})
	was := l.snapshot()
	out := l.run(deploy.NewDeploy(l.kit, shop("v1"), nil))
	if out.Outcome != api.RolledBack || out.Error.Code != api.CodeJobFailed || !strings.Contains(out.Error.Message, "status 2") {
		t.Fatalf("it ended %s: %v", out.Outcome, out.Error)
	}
	if !slices.Equal(out.Error.Log, []string{"migrating", "column exists"}) || out.Error.Subject != "shop/migrate" {
		t.Errorf("got %+v", out.Error)
	}
	if got := l.snapshot(); got != was {
		t.Errorf("the world is\n%s", got)
	}
}

// TestJobNeverEnds: its deadline ends it.
func TestJobNeverEnds(t *testing.T) {
	l := newLab(t)
	l.plays("migrate", "", memruntime.Program{Lines: []string{"waiting for a lock"}})
	s := shop("v1")
	edit(&s, "migrate", func(s *api.Service) { s.Job.Deadline = api.Duration(50 * time.Millisecond) })
	out := l.run(deploy.NewDeploy(l.kit, s, nil))
	if out.Outcome != api.RolledBack || out.Error.Code != api.CodeJobFailed || !slices.Equal(out.Error.Log, []string{"waiting for a lock"}) {
		t.Errorf("it ended %s: %+v", out.Outcome, out.Error)
	}
}

// withAfter is the shop with two jobs after the commit, the second of which needs the first.
func withAfter() api.Spec {
	s := shop("v1")
	s.Services["zap"] = api.Service{Image: "app:v1", Job: &api.Job{When: "after"}}
	s.Services["audit"] = api.Service{Image: "app:v1", Job: &api.Job{When: "after"}, DependsOn: map[string]api.Condition{"zap": api.Completed}}
	return s
}

func TestJobsAfter(t *testing.T) {
	l := newLab(t)
	_, seen := l.watch(t.Context(), deploy.NewDeploy(l.kit, withAfter(), nil))
	done := stepsThat(seen, api.EventStepDone)
	if at := slices.Index(done, "run zap"); at < 0 || slices.Index(done, "run audit") < at {
		t.Errorf("done in the order %v", done)
	}
	if strings.Contains(l.snapshot(), "shop/zap") {
		t.Errorf("a job stays:\n%s", l.snapshot())
	}
}

func TestJobAfterFails(t *testing.T) {
	for name, program := range map[string]memruntime.Program{
		"ends badly": {Lines: []string{"no mail server"}, Ends: true, ExitCode: 1},
		"is refused": {Refuse: "exec format error"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.plays("zap", "", program)
			out, seen := l.watch(t.Context(), deploy.NewDeploy(l.kit, withAfter(), nil))
			if out.Outcome != api.CommittedLeftovers || len(out.Leftovers) != 1 || out.Commit != "1" {
				t.Fatalf("it ended %s with %v", out.Outcome, out.Leftovers)
			}
			if left := out.Leftovers[0]; left.Subject != "run zap" || left.Clear != "ployzctl service restart shop/zap" {
				t.Errorf("left %+v", left)
			}
			if !slices.Contains(stepsThat(seen, api.EventStepDone), "remove job zap") {
				t.Error("the failed run was not removed")
			}
			l.runtime.Program = nil
			again, seen := l.watch(t.Context(), deploy.NewRestart(l.kit, "shop", "zap"))
			if again.Outcome != api.Committed || !slices.Equal(stepsThat(seen, api.EventStepDone), []string{"publish ports", "routing applied", "run zap", "remove job zap"}) {
				t.Errorf("the command that clears it ended %s: %v", again.Outcome, stepsThat(seen, api.EventStepDone))
			}
		})
	}
}

// TestJobsRunWhenSomethingChanged: not when nothing did, and by themselves when only they did.
func TestJobsRunWhenSomethingChanged(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	runs := func(s api.Spec) bool {
		_, seen := l.watch(t.Context(), deploy.NewDeploy(l.kit, s, nil))
		return slices.Contains(stepsThat(seen, api.EventStepDone), "ready migrate")
	}
	if runs(shop("v1")) {
		t.Error("a job ran again although nothing changed")
	}
	s := shop("v1")
	edit(&s, "migrate", func(s *api.Service) { s.Image = "app:v2" })
	if !runs(s) {
		t.Error("a job with a new image did not run")
	}
	alone := api.Spec{Namespace: "jobs", Services: map[string]api.Service{"migrate": {Image: "app:v1", Job: &api.Job{When: "before"}}}}
	if !runs(alone) {
		t.Error("a namespace of nothing but a job did not run it")
	}
}

// TestGatewayLate: the commit is durable; what does not serve it yet is named.
func TestGatewayLate(t *testing.T) {
	for name, c := range map[string]struct {
		says func([]deploy.Consumer) []deploy.Consumer
		want string
	}{
		"late":   {func(list []deploy.Consumer) []deploy.Consumer { list[0].Revision = 1; return list }, "gateway serves revision 1, not "},
		"silent": {func(list []deploy.Consumer) []deploy.Consumer { list[1].Err = errors.New("no socket"); return list }, "dns does not answer: no socket"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			s := shop("v1")
			delete(s.Services, "migrate") // one layer: nobody has to find anybody before the commit
			for name := range s.Services {
				edit(&s, name, func(s *api.Service) { s.DependsOn = nil })
			}
			l.says = c.says
			out := l.run(deploy.NewDeploy(l.kit, s, nil))
			if out.Outcome != api.CommittedLeftovers || len(out.Leftovers) != 1 {
				t.Fatalf("it ended %s: %v %v", out.Outcome, out.Error, out.Leftovers)
			}
			left := out.Leftovers[0]
			if left.Subject != "routing applied" || left.Clear == "" || !strings.Contains(left.Problem, c.want) ||
				!strings.Contains(left.Problem, "on m1") || !strings.Contains(left.Problem, string(api.CodeNotApplied)) {
				t.Errorf("left %+v", left)
			}
			if l.current(t, "shop").Number != 1 {
				t.Error("it is not committed")
			}
		})
	}
}

// TestDrain: the old stop only once no gateway has anything open to them, or their time is up.
func TestDrain(t *testing.T) {
	for name, c := range map[string]struct {
		busy func(looks int, old string) deploy.Consumer
		drain,
		atLeast, atMost time.Duration
	}{
		"in flight for a while": {func(looks int, old string) deploy.Consumer {
			return deploy.Consumer{Name: "gateway", InFlight: map[string]int{old: max(0, 6-looks)}}
		}, 5 * time.Second, 100 * time.Millisecond, 4 * time.Second},
		"in flight for ever": {func(_ int, old string) deploy.Consumer {
			return deploy.Consumer{Name: "gateway", InFlight: map[string]int{old: 1}}
		}, 200 * time.Millisecond, 200 * time.Millisecond, 4 * time.Second},
		"silent": {func(int, string) deploy.Consumer {
			return deploy.Consumer{Name: "gateway", Err: errors.New("no answer")}
		}, 200 * time.Millisecond, 200 * time.Millisecond, 4 * time.Second},
		"others only": {func(int, string) deploy.Consumer {
			return deploy.Consumer{Name: "gateway", InFlight: map[string]int{"another": 9}}
		}, 5 * time.Second, 0, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			s := shop("v1")
			edit(&s, "app", func(s *api.Service) { s.Update.Drain = api.Duration(c.drain) })
			l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
			old := l.instance(t, "app-0")
			looks := 0
			l.says = func(list []deploy.Consumer) []deploy.Consumer {
				looks++
				said := c.busy(looks, old)
				said.Revision = list[0].Revision
				return []deploy.Consumer{said}
			}
			s = shop("v2")
			edit(&s, "app", func(s *api.Service) { s.Update.Drain = api.Duration(c.drain) })
			var began, ended time.Time
			var stopped bool
			l.runner().Run(t.Context(), operation.Request{Operation: deploy.NewDeploy(l.kit, s, nil), Audience: func(e api.Event) {
				switch {
				case e.Step == "drain the old" && e.Type == api.EventStepIntended:
					began = time.Now()
					_, err := l.runtime.Inspect(context.Background(), old)
					stopped = err != nil
				case e.Step == "drain the old" && e.Type == api.EventStepDone:
					ended = time.Now()
				}
			}})
			if took := ended.Sub(began); took < c.atLeast || took > c.atMost || stopped {
				t.Errorf("it drained for %s, want %s to %s; stopped before: %t", took, c.atLeast, c.atMost, stopped)
			}
			if _, err := l.runtime.Inspect(t.Context(), old); api.CodeOf(err) != api.CodeRuntimeNotFound {
				t.Errorf("the old is still there: %v", err)
			}
		})
	}
}

// TestStopFirst: the old stops before the new starts, and starts again when the new fails.
func TestStopFirst(t *testing.T) {
	stopFirst := func(version string) api.Spec {
		s := shop(version)
		edit(&s, "app", func(s *api.Service) { s.Update.Order, s.Placement.Replicas = "stop-first", 1 })
		return s
	}
	l := newLab(t)
	l.plays("app", "app:v2", memruntime.Program{Ends: true, ExitCode: 1})
	l.mustRun(t, deploy.NewDeploy(l.kit, stopFirst("v1"), nil))
	was := l.snapshot()
	out, seen := l.watch(t.Context(), deploy.NewDeploy(l.kit, stopFirst("v2"), nil))
	if out.Outcome != api.RolledBack || l.snapshot() != was {
		t.Errorf("it ended %s in\n%s\nwant\n%s", out.Outcome, l.snapshot(), was)
	}
	if got := stepsThat(seen, api.EventUndone); !slices.Contains(got, "stop the old app-0") {
		t.Errorf("undone %v", got)
	}
	l.runtime.End(l.instance(t, "app-0"), 1)
	if out = l.run(deploy.NewDeploy(l.kit, stopFirst("v2"), nil)); out.Outcome != api.RolledBack {
		t.Errorf("with an old one that had ended: %s %v", out.Outcome, out.Leftovers)
	}
	if o, err := l.runtime.Inspect(t.Context(), l.instance(t, "app-0")); err != nil || o.State == runtime.StateRunning {
		t.Errorf("giving up started what had not run: %s %v", o.State, err)
	}
	l.runtime.Program = nil
	_, seen = l.watch(t.Context(), deploy.NewDeploy(l.kit, stopFirst("v2"), nil))
	done := stepsThat(seen, api.EventStepDone)
	if stop, start := slices.Index(done, "stop the old app-0"), slices.Index(done, "start app-0"); stop < 0 || start < stop {
		t.Errorf("done in the order %v", done)
	}
}

func TestCancelled(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	was := l.snapshot()
	ctx, cancel := context.WithCancelCause(t.Context())
	op := deploy.NewDeploy(l.kit, shop("v2"), nil)
	out := l.runner().Run(ctx, operation.Request{Operation: op, Audience: func(e api.Event) {
		if e.Type == api.EventStepDone && e.Step == "start app-0" {
			cancel(api.Errorf(api.CodeCancelled, "it was cancelled by somebody"))
		}
	}})
	if out.Outcome != api.RolledBack || out.Error.Code != api.CodeCancelled || l.snapshot() != was {
		t.Errorf("it ended %s: %v in\n%s", out.Outcome, out.Error, l.snapshot())
	}
}

func TestSecondDeployWhileOneRuns(t *testing.T) {
	l := newLab(t)
	var second api.Outcome
	l.runtime.SetFault(func(p memruntime.Point) error {
		if second.Outcome == "" {
			second = l.run(deploy.NewScale(l.kit, "shop", "app", 3))
		}
		return nil
	})
	out := l.run(deploy.NewDeploy(l.kit, shop("v1"), nil))
	if out.Outcome != api.Committed {
		t.Errorf("the first ended %s: %v", out.Outcome, out.Error)
	}
	if second.Outcome != api.Refused || second.Error.Code != api.CodeScopeBusy {
		t.Fatalf("the second ended %s: %v", second.Outcome, second.Error)
	}
	for _, word := range []string{"deploy " + out.Operation, "by root on m1", "since 2026-01-01T00:00:00Z"} {
		if !strings.Contains(second.Error.Message, word) {
			t.Errorf("%q does not say %q", second.Error.Message, word)
		}
	}
}

// TestPausedCoordinator: it is stopped in the middle of a step until another has taken the scope over; then it can
// act on the machine no more, nor commit.
func TestPausedCoordinator(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	var took, late api.Outcome
	var acts []error
	l.runtime.SetFault(func(p memruntime.Point) error {
		if took.Outcome != "" || p.Call != "Start" || !p.After {
			return nil
		}
		took.Outcome = "running"
		l.clock.Advance(coordination.TTL + time.Second)
		took = l.run(deploy.NewScale(l.kit, "shop", "app", 3))
		return nil
	})
	recorded := recording{l.local, &acts}
	kit := l.kit
	kit.Participants = recordedOnly{recorded}
	late = l.runner().Run(t.Context(), operation.Request{Operation: deploy.NewDeploy(kit, shop("v2"), nil), Caller: "root"})
	if took.Outcome != api.Committed {
		t.Fatalf("the one that took over ended %s: %v", took.Outcome, took.Error)
	}
	if late.Outcome != api.Stranded && late.Outcome != api.RolledBack {
		t.Fatalf("the paused one ended %s: %v", late.Outcome, late.Error)
	}
	refused := slices.IndexFunc(acts, func(err error) bool { return api.CodeOf(err) == api.CodeLeaseLost })
	if refused < 0 || slices.ContainsFunc(acts[refused:], func(err error) bool { return err == nil }) {
		t.Errorf("what it tried on the machine: %v", acts)
	}
	now := l.current(t, "shop")
	if now.Operation != took.Operation || len(now.Slots) != 5 {
		t.Errorf("the present commit is %d by %s with %d slots", now.Number, now.Operation, len(now.Slots))
	}
	for _, line := range l.runtime.World() {
		if !strings.Contains(line, "state=running") {
			t.Errorf("the world has %s", line)
		}
	}
}

// recording notes how each act on the machine ended.
type recording struct {
	*deploy.Local
	acts *[]error
}

func (r recording) Launch(ctx context.Context, by deploy.Fenced, spec runtime.Spec) (runtime.Addresses, error) {
	addrs, err := r.Local.Launch(ctx, by, spec)
	*r.acts = append(*r.acts, err)
	return addrs, err
}

func (r recording) Act(ctx context.Context, by deploy.Fenced, action deploy.Action) error {
	err := r.Local.Act(ctx, by, action)
	*r.acts = append(*r.acts, err)
	return err
}

type recordedOnly struct{ r recording }

func (p recordedOnly) Participant(context.Context, string) (deploy.Participant, error) {
	return p.r, nil
}

// TestFencedFromInspectOn: whoever was there before can change nothing of what a new coordinator has seen.
func TestFencedFromInspectOn(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	lease, err := l.store.Facts().Get(t.Context(), store.Head("shop"))
	if err != nil {
		t.Fatal(err)
	}
	old := deploy.Fenced{Operation: "old", Scope: "ns/shop", Fence: lease.Revision}
	refusedWhileLooking := error(nil)
	l.local.Machine = func(ctx context.Context) (deploy.Observation, error) {
		refusedWhileLooking = l.local.Act(ctx, old, deploy.Action{Verb: "stop", Instance: l.instance(t, "db-0")})
		return l.observe(ctx)
	}
	l.mustRun(t, deploy.NewScale(l.kit, "shop", "app", 3))
	if api.CodeOf(refusedWhileLooking) != api.CodeLeaseLost {
		t.Errorf("an older coordinator acted: %v", refusedWhileLooking)
	}
}
