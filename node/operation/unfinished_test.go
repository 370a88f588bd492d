package operation_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// dying is an operation whose coordinator dies in its step, or right after its commit landed.
func (s *stage) dying(name string) *script {
	step := s.step(name)
	step.Do = func(context.Context, *operation.Act) error { s.world.put(name); panic(errKilled) }
	return &script{kind: "build", plan: func() operation.Plan { return s.resolving(phase("first", step)) }}
}

func (s *stage) dyingAfterCommit(name string) *script {
	s.store.SetHooks(memstore.Hooks{AfterCommit: func(b store.Batch, _ store.Revision) error {
		if isCommit(b) {
			panic(errKilled)
		}
		return nil
	}})
	return s.good(name)
}

// good is an operation that commits, and clears what others left.
func (s *stage) good(name string) *script {
	return &script{kind: "build", plan: func() operation.Plan { return s.resolving(phase("first", s.step(name))) }}
}

func (s *stage) resolving(phases ...operation.Phase) operation.Plan {
	p := s.plan(phases...)
	p.Resolves = true
	return p
}

func (s *stage) summary(id string) api.OperationSummary {
	s.t.Helper()
	events, err := operation.History(context.Background(), s.store.Log(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return operation.Summarise(events, false)
}

func (s *stage) expectOpens(want int) {
	s.t.Helper()
	opens, err := s.store.Facts().List(context.Background(), store.Opens())
	if err != nil || len(opens) != want {
		s.t.Errorf("%d operations are open (%v), want %d", len(opens), err, want)
	}
}

func (s *stage) mustCommit(op *script) {
	s.t.Helper()
	out, _, _ := s.run(context.Background(), op)
	if out.Outcome != api.Committed {
		s.t.Fatalf("it ended %s: %v", out.Outcome, out.Error)
	}
}

// TestChain: X is interrupted, Y retries and is interrupted too, Z resolves both.
func TestChain(t *testing.T) {
	s := newStage(t)
	if _, _, dead := s.run(context.Background(), s.dyingAfterCommit("x")); !dead {
		t.Fatal("X lives")
	}
	s.store.SetHooks(memstore.Hooks{})
	if _, _, dead := s.run(context.Background(), s.dying("y")); !dead {
		t.Fatal("Y lives")
	}
	s.expectOpens(1)
	z := s.good("z")
	s.mustCommit(z)
	s.expectOpens(0)
	if z.saw.Unfinished == nil || z.saw.Unfinished.Operation != "op2" {
		t.Errorf("Z saw %+v, want op2", z.saw.Unfinished)
	}
	for id, landed := range map[string]string{"op1": "its commit had landed", "op2": "its commit had not landed"} {
		sum := s.summary(id)
		if sum.State != string(api.Interrupted) || sum.ResolvedBy != "op3" {
			t.Errorf("%s is %s, resolved by %q", id, sum.State, sum.ResolvedBy)
		}
		events, _ := operation.History(context.Background(), s.store.Log(), id)
		if last := events[len(events)-1]; last.Message != landed {
			t.Errorf("the last entry of %s says %q, want %q", id, last.Message, landed)
		}
	}
}

// TestChainRolledBack: the middle one ends cleanly and puts the mark of the first back.
func TestChainRolledBack(t *testing.T) {
	s := newStage(t)
	s.run(context.Background(), s.dying("x"))
	y := &script{kind: "build", plan: func() operation.Plan { return s.resolving(phase("first", s.failing("y", errBad))) }}
	if out, _, _ := s.run(context.Background(), y); out.Outcome != api.RolledBack {
		t.Fatalf("Y ended %s", out.Outcome)
	}
	s.expectOpens(1)
	if sum := s.summary("op1"); sum.ResolvedBy != "" {
		t.Errorf("X is resolved by %s, which was rolled back", sum.ResolvedBy)
	}
	s.mustCommit(s.good("z"))
	if sum := s.summary("op1"); sum.ResolvedBy != "op3" {
		t.Errorf("X is resolved by %q", sum.ResolvedBy)
	}
	if sum := s.summary("op2"); sum.State != string(api.RolledBack) || sum.ResolvedBy != "" {
		t.Errorf("Y is %s, resolved by %q", sum.State, sum.ResolvedBy)
	}
}

func TestUnfinishedBlocksWhoCannotResolve(t *testing.T) {
	s := newStage(t)
	s.run(context.Background(), s.dying("x"))
	out, seen, dead := s.run(context.Background(), &script{kind: "paint", plan: func() operation.Plan { return s.plan() }})
	golden(t, "refused-interrupted", s.transcript(out, seen, dead))
}

// TestCleanEndIsNoUnfinished: only the giving back of the scope failed, so nobody has to deal with it.
func TestCleanEndIsNoUnfinished(t *testing.T) {
	for name, op := range map[string]func(*stage) *script{
		"rolled back": func(s *stage) *script {
			return &script{kind: "build", plan: func() operation.Plan { return s.resolving(phase("first", s.failing("y", errBad))) }}
		},
		"committed": func(s *stage) *script { return s.good("y") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.run(context.Background(), s.dying("x"))
				s.store.SetHooks(noRelease(memstore.NeverSent, always))
				out, _, _ := s.run(context.Background(), op(s))
				s.expectOpens(1)
				s.bury()
				s.store.SetHooks(memstore.Hooks{})
				z := s.good("z")
				s.mustCommit(z)
				s.expectOpens(0)
				owed := z.saw.Unfinished != nil && z.saw.Unfinished.Operation == "op1"
				if owed != (out.Outcome == api.RolledBack) {
					t.Errorf("after %s Z saw %+v", out.Outcome, z.saw.Unfinished)
				}
				if sum := s.summary("op1"); sum.ResolvedBy == "" {
					t.Error("X is not resolved")
				}
			})
		})
	}
}

// TestOpeningBroken breaks everything between the lease and the first step. Nothing may stay open,
// and the ledger may not call anything interrupted that touched nothing.
func TestOpeningBroken(t *testing.T) {
	opening := func(b store.Batch) bool { return strings.HasSuffix(b.ID, "-open") }
	once := func(act func() error) func() error {
		done := false
		return func() error {
			if done {
				return nil
			}
			done = true
			return act()
		}
	}
	lost := once(func() error { return memstore.ReplyLost() })
	for name, hooks := range map[string]memstore.Hooks{
		"open fact never sent": {BeforeCommit: func(b store.Batch) error { return onlyIf(opening(b), memstore.NeverSent()) }},
		"open fact lost":       {BeforeCommit: func(b store.Batch) error { return onlyIf(opening(b), memstore.ReplyLost()) }},
		"open fact landed, reply lost": {AfterCommit: func(b store.Batch, _ store.Revision) error {
			return onlyIf(opening(b), memstore.ReplyLost())
		}},
		"ledger never sent": {BeforeAppend: func(string, string, []byte) error { return memstore.NeverSent() }},
		"ledger lost":       {BeforeAppend: func(string, string, []byte) error { return memstore.ReplyLost() }},
		"killed before the open fact": {BeforeCommit: func(b store.Batch) error {
			if opening(b) {
				panic(errKilled)
			}
			return nil
		}},
		"killed after the open fact": {AfterCommit: func(b store.Batch, _ store.Revision) error {
			if opening(b) {
				panic(errKilled)
			}
			return nil
		}},
		"lease lost on the way": {AfterCommit: func(b store.Batch, _ store.Revision) error {
			return onlyIf(strings.Contains(b.ID, "-lease"), lost())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.store.SetHooks(hooks)
			out, _, dead := s.run(context.Background(), s.good("x"))
			s.store.SetHooks(memstore.Hooks{})
			if name == "lease lost on the way" {
				if out.Outcome != api.Committed {
					t.Errorf("a lease whose answer was lost ended the run: %s %v", out.Outcome, out.Error)
				}
				return
			}
			if !dead && (out.Outcome != api.Refused || s.world.String() != "") {
				t.Errorf("it ended %s (%v), the world is %q", out.Outcome, out.Error, s.world)
			}
			if !dead {
				s.expectOpens(0)
			}
			s.bury()
			if events, err := operation.History(context.Background(), s.store.Log(), "op1"); err == nil {
				if sum := operation.Summarise(events, false); sum.State != string(api.Refused) || sum.Error == nil {
					t.Errorf("the ledger calls it %s: %v", sum.State, sum.Error)
				}
			}
			next := s.good("y")
			s.mustCommit(next)
			if next.saw.Unfinished != nil {
				t.Errorf("the next one has to deal with %+v", next.saw.Unfinished)
			}
			s.expectOpens(0)
		})
	}
}

func onlyIf(when bool, err error) error {
	if when {
		return err
	}
	return nil
}

// TestLedgerAnswerLost: an entry that landed without an answer is asked for again and not written twice.
func TestLedgerAnswerLost(t *testing.T) {
	s := newStage(t)
	seen := map[string]bool{}
	s.store.SetHooks(memstore.Hooks{AfterAppend: func(_, id string, _ store.Revision) error {
		if !seen[id] {
			seen[id] = true
			return memstore.ReplyLost()
		}
		return nil
	}})
	out, events, _ := s.run(context.Background(), s.good("x"))
	if out.Outcome != api.Committed {
		t.Fatalf("it ended %s: %v", out.Outcome, out.Error)
	}
	s.store.SetHooks(memstore.Hooks{})
	s.expectLedger(events)
}

func TestUncertainResolved(t *testing.T) {
	s := newStage(t)
	s.store.SetHooks(onCommit(memstore.ReplyLost()))
	if out, _, _ := s.run(context.Background(), s.good("x")); out.Outcome != api.Uncertain {
		t.Fatalf("X ended %s", out.Outcome)
	}
	s.store.SetHooks(memstore.Hooks{})
	if out, _, _ := s.run(context.Background(), s.good("y")); out.Outcome != api.Refused || out.Error.Code != api.CodeScopeBusy {
		t.Errorf("while X's lease lives Y ended %s: %v", out.Outcome, out.Error)
	}
	s.bury()
	s.mustCommit(s.good("z"))
	if sum := s.summary("op1"); sum.State != string(api.Uncertain) || sum.ResolvedBy != "op3" {
		t.Errorf("X is %s, resolved by %q", sum.State, sum.ResolvedBy)
	}
}
