package operation_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

var errBad = errors.New("it broke")

// endings are all the ways in which a run can end, the ugly ones first. Each returns the operation to run.
var endings = []struct {
	name string
	make func(s *stage) *script
}{
	{"stranded", func(s *stage) *script {
		stuck := s.step("a")
		stuck.Undo = func(context.Context, *operation.Act) error { return errBad }
		return &script{kind: "build", plan: func() operation.Plan {
			return s.plan(phase("first", stuck, s.step("b")), phase("second", s.failing("c", errBad)))
		}}
	}},
	{"uncertain", func(s *stage) *script {
		s.store.SetHooks(onCommit(memstore.ReplyLost()))
		return &script{kind: "build", plan: func() operation.Plan { return s.plan(phase("first", s.step("a"))) }}
	}},
	{"uncertain-but-found", func(s *stage) *script {
		s.store.SetHooks(memstore.Hooks{AfterCommit: func(b store.Batch, _ store.Revision) error {
			if isCommit(b) {
				return memstore.ReplyLost()
			}
			return nil
		}})
		return &script{kind: "build", plan: func() operation.Plan { return s.plan(phase("first", s.step("a"))) }}
	}},
	{"killed-in-a-step", func(s *stage) *script {
		deadly := s.step("b")
		deadly.Do = func(context.Context, *operation.Act) error { s.world.put("b"); panic(errKilled) }
		return &script{kind: "build", plan: func() operation.Plan { return s.plan(phase("first", s.step("a"), deadly)) }}
	}},
	{"leftovers", func(s *stage) *script {
		return &script{kind: "build", plan: func() operation.Plan {
			p := s.plan(phase("first", s.step("a")))
			p.Cleanup = []operation.Step{s.cleaning("old", errBad), s.cleaning("older", nil)}
			return p
		}}
	}},
	{"lease-lost-in-a-step", func(s *stage) *script {
		s.ttl = 30 * time.Millisecond
		slow := s.step("b")
		slow.Do = func(ctx context.Context, _ *operation.Act) error {
			s.world.put("b")
			s.advance(time.Minute) // the store forgets the lease
			<-ctx.Done()
			return ctx.Err()
		}
		return &script{kind: "build", plan: func() operation.Plan { return s.plan(phase("first", s.step("a"), slow)) }}
	}},
	{"lease-lost-at-the-commit", func(s *stage) *script {
		s.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
			if isCommit(b) {
				s.advance(coordination.TTL + time.Second)
			}
			return nil
		}})
		return &script{kind: "build", plan: func() operation.Plan { return s.plan(phase("first", s.step("a"))) }}
	}},
	{"ledger-away-in-a-step", func(s *stage) *script {
		away := s.step("b")
		away.Do = func(context.Context, *operation.Act) error {
			s.world.put("b")
			s.store.SetHooks(memstore.Hooks{BeforeAppend: func(string, string, []byte) error { return memstore.NeverSent() }})
			return nil
		}
		return &script{kind: "build", plan: func() operation.Plan { return s.plan(phase("first", s.step("a"), away, s.step("c"))) }}
	}},
	{"step-failed", func(s *stage) *script {
		return &script{kind: "build", plan: func() operation.Plan {
			return s.plan(phase("first", s.step("a"), s.step("b")), phase("second", s.failing("c", errBad), s.step("d")))
		}}
	}},
	{"step-failed-with-a-code", func(s *stage) *script {
		typed := api.Errorf(api.CodeNotReady, "it did not become ready").About("shop/web").WithHint("look at it")
		return &script{kind: "build", plan: func() operation.Plan { return s.plan(phase("first", s.failing("a", typed))) }}
	}},
	{"step-timed-out", func(s *stage) *script {
		slow := s.step("a")
		slow.Timeout = time.Millisecond
		slow.Do = func(ctx context.Context, _ *operation.Act) error { <-ctx.Done(); return ctx.Err() }
		return &script{kind: "build", plan: func() operation.Plan { return s.plan(phase("first", slow)) }}
	}},
	{"commit-rejected", func(s *stage) *script {
		s.store.SetHooks(onCommit(memstore.Rejected(witness)))
		return &script{kind: "build", plan: func() operation.Plan { return s.plan(phase("first", s.step("a"))) }}
	}},
	{"commit-never-sent", func(s *stage) *script {
		s.store.SetHooks(onCommit(memstore.NeverSent()))
		return &script{kind: "build", plan: func() operation.Plan { return s.plan(phase("first", s.step("a"))) }}
	}},
	{"refused-one", func(s *stage) *script {
		return &script{kind: "build", plan: func() operation.Plan {
			p := s.plan(phase("first", s.step("a")))
			p.Requirements = []operation.Requirement{operation.Met("fine", nil), operation.Met("free", taken("x"))}
			return p
		}}
	}},
	{"refused-several", func(s *stage) *script {
		return &script{kind: "build", plan: func() operation.Plan {
			p := s.plan(phase("first", s.step("a")))
			p.Requirements = []operation.Requirement{operation.Met("free", taken("x")), operation.Met("fine", nil), operation.Met("free", taken("y"))}
			return p
		}}
	}},
	{"refused-by-inspect", func(s *stage) *script {
		return &script{kind: "build", inspect: func(context.Context, operation.Situation) error { return taken("x") }}
	}},
	{"committed", func(s *stage) *script {
		telling := s.step("a")
		telling.Do = func(_ context.Context, act *operation.Act) error {
			act.Progress("layer", 5, 10)
			act.Note("half of it")
			s.world.put("a")
			return nil
		}
		return &script{kind: "build", plan: func() operation.Plan {
			p := s.plan(phase("first", telling), phase("empty"), phase("second", s.step("b")))
			p.Cleanup = []operation.Step{s.cleaning("old", nil)}
			return p
		}}
	}},
}

func taken(what string) *api.Error {
	return api.Errorf(api.CodeHostnameTaken, "%s is taken", what).About(what).WithHint("choose another")
}

func isCommit(b store.Batch) bool { return strings.HasSuffix(b.ID, "-commit") }

func onCommit(err error) memstore.Hooks {
	return memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if isCommit(b) {
			return err
		}
		return nil
	}}
}

func TestEndings(t *testing.T) {
	for _, e := range endings {
		t.Run(e.name, func(t *testing.T) {
			s := newStage(t)
			s.world.put("old")
			s.world.put("older")
			op := e.make(s)
			out, seen, dead := s.run(context.Background(), op)
			s.store.SetHooks(memstore.Hooks{})
			golden(t, e.name, s.transcript(out, seen, dead))
			s.expectLedger(seen)
		})
	}
}

// expectLedger wants the ledger to hold what the audience saw, but for progress and notes.
func (s *stage) expectLedger(seen []api.Event) {
	s.t.Helper()
	var want, got []string
	for _, e := range seen {
		if e.Type != api.EventProgress && e.Type != api.EventNote {
			want = append(want, line(e))
		}
	}
	events, err := operation.History(context.Background(), s.store.Log(), "op1")
	if len(seen) == 0 && api.CodeOf(err) == api.CodeOperationAbsent {
		return // a refusal leaves no trace
	}
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range events {
		got = append(got, line(e))
	}
	if strings.Join(want, "\n") != strings.Join(got, "\n") {
		s.t.Errorf("the ledger says\n%s\nthe audience saw\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
