package operation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

func TestScopeBusyNamesWhoAndSinceWhen(t *testing.T) {
	s := newStage(t)
	var inner api.Outcome
	outer := s.step("a")
	outer.Do = func(context.Context, *operation.Act) error {
		inner = s.runner.Run(context.Background(), operation.Request{Operation: s.good("b"), Caller: "somebody"})
		return nil
	}
	s.mustCommit(&script{kind: "build", plan: func() operation.Plan { return s.plan(phase("first", outer)) }})
	if inner.Outcome != api.Refused || inner.Error.Code != api.CodeScopeBusy {
		t.Fatalf("the second run ended %s: %v", inner.Outcome, inner.Error)
	}
	for _, word := range []string{"build op1", "root", "m1", "2026-01-01T00:00:00Z"} {
		if !strings.Contains(inner.Error.Message, word) {
			t.Errorf("%q does not say %q", inner.Error.Message, word)
		}
	}
	if !inner.Error.Retryable || !strings.Contains(inner.Error.Hint, "operation watch op1") {
		t.Errorf("retryable %t, hint %q", inner.Error.Retryable, inner.Error.Hint)
	}
}

func TestPlanDigest(t *testing.T) {
	s := newStage(t)
	make := func() *script { return s.good("x") }
	shown, err := s.runner.Preview(context.Background(), make(), "root")
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.runner.Preview(context.Background(), make(), "somebody else")
	if err != nil || again.Digest != shown.Digest {
		t.Errorf("two previews of one world: %s and %s (%v)", shown.Digest, again.Digest, err)
	}
	run := func(op *script, digest string) api.Outcome {
		return s.runner.Run(context.Background(), operation.Request{Operation: op, PlanDigest: digest})
	}
	stale := run(s.good("another"), shown.Digest)
	if stale.Outcome != api.Refused || stale.Error.Code != api.CodePlanStale || !strings.Contains(stale.Error.Hint, "--plan ") {
		t.Errorf("another plan under that digest ended %s: %v", stale.Outcome, stale.Error)
	}
	if out := run(make(), shown.Digest); out.Outcome != api.Committed {
		t.Errorf("the shown plan ended %s: %v", out.Outcome, out.Error)
	}
}

// TestRefusalsLeaveNoTrace: neither a preview nor a refusal writes a fact or a ledger entry.
func TestRefusalsLeaveNoTrace(t *testing.T) {
	s := newStage(t)
	s.mustCommit(s.good("x"))
	s.bury()
	was := s.everything()
	unmet := func() operation.Plan {
		p := s.plan(phase("first", s.step("y")))
		p.Requirements = []operation.Requirement{operation.Met("free", taken("y"))}
		return p
	}
	if _, err := s.runner.Preview(context.Background(), &script{kind: "build", plan: unmet}, "root"); err != nil {
		t.Fatal(err)
	}
	if got := s.everything(); got != was {
		t.Errorf("a preview changed\n%s\nto\n%s", was, got)
	}
	for name, req := range map[string]operation.Request{
		"unmet":   {Operation: &script{kind: "build", plan: unmet}},
		"stale":   {Operation: s.good("y"), PlanDigest: "0000000000000000"},
		"inspect": {Operation: &script{kind: "build", inspect: func(context.Context, operation.Situation) error { return errBad }}},
	} {
		if out := s.runner.Run(context.Background(), req); out.Outcome != api.Refused {
			t.Errorf("%s ended %s", name, out.Outcome)
		}
		if got := s.everything(); got != was {
			t.Errorf("%s changed\n%s\nto\n%s", name, was, got)
		}
	}
}

// everything is all facts, the whole ledger and the world.
func (s *stage) everything() string {
	s.t.Helper()
	var b strings.Builder
	facts, err := s.store.Facts().List(context.Background(), "")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range facts {
		fmt.Fprintln(&b, f.Key, f.Revision, string(f.Value))
	}
	last, err := s.store.Log().Last(context.Background(), 0)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range last {
		fmt.Fprintln(&b, r.Operation, r.Revision, string(r.Value))
	}
	return b.String() + s.world.String()
}

func TestPreviewListsRequirementsAndPhases(t *testing.T) {
	s := newStage(t)
	shown, err := s.runner.Preview(context.Background(), &script{kind: "build", plan: func() operation.Plan {
		p := s.plan(phase("first", s.step("a"), s.cleaning("b", nil)), phase("empty"))
		p.Cleanup = []operation.Step{s.cleaning("c", nil)}
		p.Requirements = []operation.Requirement{operation.Met("free", taken("x")), operation.Met("fine", nil), operation.Met("free", taken("y"))}
		return p
	}}, "root")
	if err != nil {
		t.Fatal(err)
	}
	if len(shown.Unmet) != 2 || shown.Unmet[0].Subject != "x" || shown.Unmet[1].Subject != "y" {
		t.Errorf("unmet: %v", shown.Unmet)
	}
	want := "[{first [make a on m1 remove b]} {clean up [remove c]}]"
	if got := fmt.Sprint(shown.Phases); got != want {
		t.Errorf("phases %s, want %s", got, want)
	}
}

// TestTogether runs a wide phase in which one step fails while its siblings are at work: every step that
// had begun has ended before the first undo, and all are undone in the reverse of the ledger's order.
func TestTogether(t *testing.T) {
	s := newStage(t)
	var running atomic.Int32
	started := make(chan struct{}, 4)
	sibling := func(name string) operation.Step {
		step := s.step(name)
		step.Do = func(ctx context.Context, _ *operation.Act) error {
			running.Add(1)
			defer running.Add(-1)
			s.world.put(name)
			started <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		step.Undo = func(context.Context, *operation.Act) error {
			if n := running.Load(); n != 0 {
				t.Errorf("an undo began while %d steps ran", n)
			}
			s.world.take(name)
			return nil
		}
		return step
	}
	failing := s.step("bad")
	failing.Do = func(context.Context, *operation.Act) error {
		<-started
		<-started
		s.world.put("bad")
		return errBad
	}
	steps := []operation.Step{sibling("a"), failing, sibling("b"), s.step("never")}
	out, seen, _ := s.run(context.Background(), &script{kind: "build", plan: func() operation.Plan {
		return s.plan(operation.Phase{Name: "wide", Steps: steps, Width: 3})
	}})
	if out.Outcome != api.RolledBack || !errors.Is(out.Error, errBad) || out.Error.Step != "make bad" {
		t.Errorf("it ended %s: %v in step %q", out.Outcome, out.Error, out.Error.Step)
	}
	if s.world.String() != "" {
		t.Errorf("the world is %q", s.world)
	}
	intended, undone := stepsOf(seen, api.EventStepIntended), stepsOf(seen, api.EventUndone)
	slices.Reverse(undone)
	if !slices.Equal(intended, undone) || slices.Contains(intended, "make never") {
		t.Errorf("intended %v, undone in reverse %v", intended, undone)
	}
}

func stepsOf(events []api.Event, kind string) []string {
	var names []string
	for _, e := range events {
		if e.Type == kind {
			names = append(names, e.Step)
		}
	}
	return names
}

func TestTogetherNeverWiderThanAsked(t *testing.T) {
	s := newStage(t)
	var running, most atomic.Int32
	var steps []operation.Step
	for i := range 20 {
		step := s.step(fmt.Sprint(i))
		step.Do = func(context.Context, *operation.Act) error {
			n := running.Add(1)
			defer running.Add(-1)
			for {
				m := most.Load()
				if n <= m || most.CompareAndSwap(m, n) {
					return nil
				}
			}
		}
		steps = append(steps, step)
	}
	s.mustCommit(&script{kind: "build", plan: func() operation.Plan {
		return s.plan(operation.Phase{Name: "wide", Steps: steps, Width: 4})
	}})
	if most.Load() > 4 {
		t.Errorf("%d steps ran at once", most.Load())
	}
}

// TestEntryBeforeAct: at the moment a step or an undo acts, and a commit is sent, its entry is in the store.
func TestEntryBeforeAct(t *testing.T) {
	s := newStage(t)
	want := func(kind, step string) {
		t.Helper()
		events, err := operation.History(context.Background(), s.store.Log(), "op1")
		if err != nil || events[len(events)-1].Type != kind || events[len(events)-1].Step != step {
			t.Errorf("the last entry is not %s %s: %v %v", kind, step, events, err)
		}
	}
	watched := s.step("a")
	watched.Do = func(context.Context, *operation.Act) error { want(api.EventStepIntended, "make a"); return nil }
	watched.Undo = func(context.Context, *operation.Act) error { want(api.EventUndoIntended, "make a"); return nil }
	s.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if isCommit(b) {
			want(api.EventCommitSent, "")
			return memstore.NeverSent()
		}
		return nil
	}})
	s.run(context.Background(), &script{kind: "build", plan: func() operation.Plan { return s.plan(phase("first", watched)) }})
}

// TestEntriesThatWait: what nothing depends on goes into the ledger with the next entry that something does: a step costs one
// record, and not three.
func TestEntriesThatWait(t *testing.T) {
	s := newStage(t)
	records := 0
	s.store.SetHooks(memstore.Hooks{BeforeAppend: func(string, string, []byte) error { records++; return nil }})
	s.mustCommit(&script{kind: "build", plan: func() operation.Plan {
		p := s.plan(phase("first", s.step("a"), s.step("b")), operation.Phase{Name: "second", Steps: []operation.Step{s.step("c")}, Width: 4})
		p.Cleanup = []operation.Step{s.cleaning("old", nil)}
		return p
	}})
	if want := 1 + 3 + 1 + 1 + 1; records != want { // opened, a b c, commit-sent, old, outcome
		t.Errorf("%d records, want %d", records, want)
	}
	events, err := operation.History(context.Background(), s.store.Log(), "op1")
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, e := range events {
		types = append(types, e.Type)
	}
	step := "step-intended step-done"
	want := strings.Join([]string{"opened phase", step, step, "phase", step, "commit-sent committed phase", step, "outcome"}, " ")
	if got := strings.Join(types, " "); got != want {
		t.Errorf("the ledger has\n%s, want\n%s", got, want)
	}
}

// TestDoneAmongOthers: the end of a step is told at once while others of its phase still run.
func TestDoneAmongOthers(t *testing.T) {
	s := newStage(t)
	slow, quick, begun := s.step("slow"), s.step("quick"), make(chan struct{})
	slow.Do = func(ctx context.Context, _ *operation.Act) error {
		close(begun)
		for {
			events, err := operation.History(ctx, s.store.Log(), "op1")
			if err != nil || len(stepsOf(events, api.EventStepDone)) > 0 {
				return err
			}
			time.Sleep(time.Millisecond)
		}
	}
	quick.Do = func(context.Context, *operation.Act) error { <-begun; return nil }
	slow.Timeout = 10 * time.Second
	s.mustCommit(&script{kind: "build", plan: func() operation.Plan {
		return s.plan(operation.Phase{Name: "wide", Steps: []operation.Step{slow, quick}, Width: 2})
	}})
}

// TestCleaningBeside: cleaning steps that may do so run side by side, and each that fails is a leftover.
func TestCleaningBeside(t *testing.T) {
	s := newStage(t)
	var first, second sync.WaitGroup
	first.Add(1)
	second.Add(1)
	meets := func(name string, own, other *sync.WaitGroup, err error) operation.Step {
		return operation.Step{Name: name, Beside: true, Do: func(context.Context, *operation.Act) error {
			own.Done()
			other.Wait() // for ever, if they came one after the other
			return err
		}}
	}
	after := s.cleaning("after", nil)
	after.Do = func(context.Context, *operation.Act) error { s.world.put("after"); return nil }
	out, seen, _ := s.run(context.Background(), &script{kind: "build", plan: func() operation.Plan {
		p := s.plan(phase("first", s.step("a")))
		p.Cleanup = []operation.Step{meets("x", &first, &second, errBad), meets("y", &second, &first, nil), after}
		return p
	}})
	if out.Outcome != api.CommittedLeftovers || len(out.Leftovers) != 1 || out.Leftovers[0].Subject != "x" {
		t.Errorf("it ended %s: %v", out.Outcome, out.Leftovers)
	}
	if got := stepsOf(seen, api.EventStepIntended); !slices.Equal(got, []string{"make a", "x", "y", "remove after"}) {
		t.Errorf("intended %v", got)
	}
	if got := s.world.String(); got != "a after" {
		t.Errorf("the world is %q", got)
	}
}

// TestCancel: the caller's cancel rolls back what was done, whichever step it meets, and is named as what it is.
func TestCancel(t *testing.T) {
	for _, ignores := range []bool{false, true} {
		s := newStage(t)
		ctx, cancel := context.WithCancelCause(context.Background())
		slow := s.step("b")
		slow.Do = func(ctx context.Context, _ *operation.Act) error {
			s.world.put("b")
			cancel(api.Errorf(api.CodeCancelled, "it was cancelled by somebody"))
			if ignores {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		out, seen, _ := s.run(ctx, &script{kind: "build", plan: func() operation.Plan {
			return s.plan(phase("first", s.step("a"), slow), phase("second", s.step("c")))
		}})
		if out.Outcome != api.RolledBack || out.Error.Code != api.CodeCancelled || s.world.String() != "" {
			t.Errorf("ignores=%t: it ended %s: %v, world %q", ignores, out.Outcome, out.Error, s.world)
		}
		if got := stepsOf(seen, api.EventUndone); !slices.Equal(got, []string{"make b", "make a"}) {
			t.Errorf("ignores=%t: undone %v", ignores, got)
		}
		s.expectOpens(0)
	}
}

// TestCancelAfterCommitSent: from the commit on the caller cannot cut anything short.
func TestCancelAfterCommitSent(t *testing.T) {
	s := newStage(t)
	s.world.put("old")
	ctx, cancel := context.WithCancel(context.Background())
	s.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if isCommit(b) {
			cancel()
		}
		return nil
	}})
	out, _, _ := s.run(ctx, &script{kind: "build", plan: func() operation.Plan {
		p := s.plan(phase("first", s.step("a")))
		p.Cleanup = []operation.Step{s.cleaning("old", nil)}
		return p
	}})
	if out.Outcome != api.Committed || s.world.String() != "a" {
		t.Errorf("it ended %s: %v, world %q", out.Outcome, out.Error, s.world)
	}
}

func TestUndoIsBoundedAndDetached(t *testing.T) {
	s := newStage(t)
	s.runner.UndoTimeout = 1 // a nanosecond
	stuck := s.step("a")
	stuck.Undo = func(ctx context.Context, _ *operation.Act) error { <-ctx.Done(); return ctx.Err() }
	out, _, _ := s.run(context.Background(), &script{kind: "build", plan: func() operation.Plan {
		return s.plan(phase("first", stuck, s.failing("b", errBad)))
	}})
	if out.Outcome != api.Stranded || len(out.Leftovers) != 1 || out.Leftovers[0].Clear != "ployzctl clear a" {
		t.Errorf("it ended %s with %v", out.Outcome, out.Leftovers)
	}
}

// TestSituation: a run knows its id and fence, a preview has neither.
func TestSituation(t *testing.T) {
	s := newStage(t)
	op := s.good("x")
	s.mustCommit(op)
	if op.saw.Operation != "op1" || op.saw.Caller != "root" || op.saw.Fence == 0 {
		t.Errorf("the run saw %+v", op.saw)
	}
	previewed := s.good("y")
	if _, err := s.runner.Preview(context.Background(), previewed, "root"); err != nil {
		t.Fatal(err)
	}
	if previewed.saw.Operation != "" || previewed.saw.Fence != 0 {
		t.Errorf("the preview saw %+v", previewed.saw)
	}
}

func TestResult(t *testing.T) {
	s := newStage(t)
	op := s.good("x")
	op.result = map[string]int{"made": 1}
	out, _, _ := s.run(context.Background(), op)
	if string(out.Value) != `{"made":1}` {
		t.Errorf("the value is %s", out.Value)
	}
}

func TestNewIDSortsByTime(t *testing.T) {
	ids := make([]string, 100)
	seen := map[string]bool{}
	for i := range ids {
		ids[i] = operation.NewID()
		if len(ids[i]) != 13 || seen[ids[i]] {
			t.Fatalf("id %q", ids[i])
		}
		seen[ids[i]] = true
	}
	if ids[0][:8] > ids[99][:8] {
		t.Errorf("%s was made before %s", ids[0], ids[99])
	}
}

func TestHistoryOfNothing(t *testing.T) {
	s := newStage(t)
	if _, err := operation.History(context.Background(), s.store.Log(), "nobody"); api.CodeOf(err) != api.CodeOperationAbsent {
		t.Errorf("got %v", err)
	}
	if _, err := s.store.Log().Append(context.Background(), "op9", "1", []byte("{")); err != nil {
		t.Fatal(err)
	}
	if _, err := operation.History(context.Background(), s.store.Log(), "op9"); api.CodeOf(err) != api.CodeInternal {
		t.Errorf("a damaged entry: %v", err)
	}
}

// telltale is a store whose commit says what it waits for.
type telltale struct{ store.Facts }

func (f telltale) Commit(ctx context.Context, batch store.Batch) (store.Revision, error) {
	if strings.HasSuffix(batch.ID, "-commit") {
		operation.Tell(ctx, "waiting for it")
	}
	return f.Facts.Commit(ctx, batch)
}

// TestTell: what a commit that takes its time says reaches the audience, and nothing else is told.
func TestTell(t *testing.T) {
	s := newStage(t)
	leases := &coordination.Leases{Facts: telltale{s.store.Facts()}, TTL: s.ttl}
	s.runner.Acquire = func(ctx context.Context, scope string, h coordination.Holder) (operation.Lease, error) {
		return leases.Acquire(ctx, scope, h)
	}
	var notes []string
	out := s.runner.Run(t.Context(), operation.Request{Operation: s.good("x"), Audience: func(e api.Event) {
		if e.Type == api.EventNote {
			notes = append(notes, e.Message)
		}
	}})
	if out.Outcome != api.Committed || !slices.Equal(notes, []string{"waiting for it"}) {
		t.Errorf("%s %v, and was told %q", out.Outcome, out.Error, notes)
	}
	operation.Tell(t.Context(), "nobody listens")
}
