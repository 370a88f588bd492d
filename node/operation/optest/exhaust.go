package optest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// Exhaust breaks the case's operation everywhere; see the package comment. It runs in a subtest named after the
// operation's kind, so that a missing one is seen: "deploy" or "deploy/a situation".
func Exhaust(t *testing.T, c Case) {
	c.named(t)
	clean := c.clean(t)
	for _, step := range clean.steps {
		t.Run(strings.TrimSuffix("step "+step.Name+" on "+step.Participant, " on "), func(t *testing.T) { c.breakStep(t, clean, step) })
	}
	t.Run("commit", func(t *testing.T) { c.breakCommit(t, clean) })
	t.Run("ledger", func(t *testing.T) {
		c.breakLedger(t, clean)
		c.killAtLedger(t, clean)
		c.loseLedgerAnswers(t, clean)
	})
	t.Run("fence", func(t *testing.T) { c.loseLease(t) })
}

func (c Case) named(t *testing.T) {
	t.Helper()
	w := c.New(t)
	defer w.bury()
	if kind := w.Operation().Kind(); !strings.Contains(t.Name()+"/", "/"+kind+"/") {
		t.Errorf("%s breaks the operation %q: run it in a subtest of that name", t.Name(), kind)
	}
}

// run is what an unbroken run looked like.
type run struct {
	after   string
	steps   []operation.Step
	cleanup map[stepKey]bool
	entries int
}

func (c Case) clean(t *testing.T) run {
	t.Helper()
	w := c.New(t)
	defer w.bury()
	probe, entries := &recorder{Operation: w.Operation()}, 0
	w.Store.SetHooks(memstore.Hooks{BeforeAppend: func(string, string, []byte) error { entries++; return nil }})
	out, _, _ := w.run(breaking{Operation: probe})
	w.Store.SetHooks(memstore.Hooks{})
	if out.Outcome != api.Committed {
		t.Fatalf("the unbroken run ended %s: %v %v", out.Outcome, out.Error, out.Leftovers)
	}
	if left := marks(t, w); len(left) != 0 {
		t.Errorf("the unbroken run left %d open facts behind", len(left))
	}
	r := run{after: w.Snapshot(), cleanup: map[stepKey]bool{}, entries: entries}
	for _, phase := range probe.plan.Phases {
		r.steps = append(r.steps, phase.Steps...)
	}
	for _, step := range probe.plan.Cleanup {
		r.steps = append(r.steps, step)
		r.cleanup[keyOf(step)] = true
	}
	unique(t, r.steps)
	return r
}

// recorder remembers the plan that an operation made.
type recorder struct {
	operation.Operation
	plan operation.Plan
}

// Plan implements operation.Operation.
func (r *recorder) Plan() operation.Plan {
	r.plan = r.Operation.Plan()
	return r.plan
}

func unique(t *testing.T, steps []operation.Step) {
	t.Helper()
	seen := map[stepKey]bool{}
	for _, s := range steps {
		if seen[keyOf(s)] {
			t.Errorf("two steps of %q are called %q", s.Participant, s.Name)
		}
		seen[keyOf(s)] = true
	}
}

func (c Case) breakStep(t *testing.T, clean run, step operation.Step) {
	for _, h := range []how{before, after, killBefore, killAfter} {
		t.Run(h.String(), func(t *testing.T) {
			w := c.New(t)
			was := w.Snapshot()
			out, events, dead := w.run(breaking{Operation: w.Operation(), step: keyOf(step), how: h})
			switch {
			case h.kills():
				expectDead(t, w, dead)
			case clean.cleanup[keyOf(step)]:
				expect(t, out, api.CommittedLeftovers)
				expectLeftover(t, out, step.Name)
			default:
				expect(t, out, api.RolledBack)
				expectSame(t, "rolled back", was, w.Snapshot())
				expectUndone(t, events)
			}
			retry(t, w, clean.after)
		})
	}
	t.Run("twice", func(t *testing.T) {
		w := c.New(t)
		out, _, _ := w.run(breaking{Operation: w.Operation(), step: keyOf(step), twice: true})
		expect(t, out, api.Committed)
		expectSame(t, "after doing the step twice", clean.after, w.Snapshot())
	})
	if step.Undo == nil || clean.cleanup[keyOf(step)] {
		return
	}
	t.Run("undo fails", func(t *testing.T) {
		w := c.New(t)
		out, _, _ := w.run(breaking{Operation: w.Operation(), step: keyOf(step), how: after, undo: true})
		expect(t, out, api.Stranded)
		expectLeftover(t, out, step.Name)
		retry(t, w, clean.after)
	})
}

func (c Case) breakCommit(t *testing.T, clean run) {
	isCommit := func(b store.Batch) bool { return strings.HasSuffix(b.ID, "-commit") }
	// failing returns hooks that end the commit with err before or after it was written.
	failing := func(when how, err error) memstore.Hooks {
		act := func(b store.Batch) error {
			if !isCommit(b) {
				return nil
			}
			if when.kills() {
				panic(killed)
			}
			return err
		}
		if when == before || when == killBefore {
			return memstore.Hooks{BeforeCommit: act}
		}
		return memstore.Hooks{AfterCommit: func(b store.Batch, _ store.Revision) error { return act(b) }}
	}
	for _, try := range []struct {
		name  string
		when  how
		err   error
		blind bool // nothing can be read after the commit either
		want  api.Result
	}{
		{"rejected", before, memstore.Rejected("x"), false, api.RolledBack},
		{"never sent", before, memstore.NeverSent(), false, api.RolledBack},
		{"lost on the way", before, memstore.ReplyLost(), false, api.Uncertain},
		{"landed, reply lost, found", after, memstore.ReplyLost(), false, api.Committed},
		{"landed, reply lost, store away", after, memstore.ReplyLost(), true, api.Uncertain},
		{"killed before", killBefore, nil, false, ""},
		{"killed after", killAfter, nil, false, ""},
	} {
		t.Run(try.name, func(t *testing.T) {
			w := c.New(t)
			was := w.Snapshot()
			hooks := failing(try.when, try.err)
			if try.blind {
				hooks = blinded(hooks)
			}
			w.Store.SetHooks(hooks)
			out, _, dead := w.run(breaking{Operation: w.Operation()})
			w.Store.SetHooks(memstore.Hooks{})
			if try.when.kills() {
				expectDead(t, w, dead)
			} else {
				expect(t, out, try.want)
			}
			if try.want == api.RolledBack {
				expectSame(t, "rolled back", was, w.Snapshot())
			}
			retry(t, w, clean.after)
		})
	}
}

// blinded makes every read fail once the commit's reply was lost.
func blinded(h memstore.Hooks) memstore.Hooks {
	lost := false
	inner := h.AfterCommit
	h.AfterCommit = func(b store.Batch, r store.Revision) error {
		err := inner(b, r)
		lost = lost || err != nil
		return err
	}
	h.BeforeRead = func(string) error {
		if lost {
			return memstore.NeverSent()
		}
		return nil
	}
	return h
}

// breakLedger lets each ledger entry in turn, and all after it, fail.
func (c Case) breakLedger(t *testing.T, clean run) {
	for k := range clean.entries {
		t.Run(fmt.Sprintf("entry %d", k+1), func(t *testing.T) {
			w := c.New(t)
			was, seen := w.Snapshot(), 0
			w.Store.SetHooks(memstore.Hooks{BeforeAppend: func(string, string, []byte) error {
				if seen++; seen > k {
					return memstore.NeverSent()
				}
				return nil
			}})
			out, _, _ := w.run(breaking{Operation: w.Operation()})
			w.Store.SetHooks(memstore.Hooks{})
			switch out.Outcome {
			case api.Refused:
				expectSame(t, "refused", was, w.Snapshot())
			case api.Stranded: // undone, but the ledger does not know
				expectSame(t, "undone", was, w.Snapshot())
			case api.CommittedLeftovers:
			default:
				t.Errorf("with the ledger gone at entry %d the outcome is %s", k+1, out.Outcome)
			}
			retry(t, w, clean.after)
		})
	}
}

// killAtLedger lets the coordinator die right after each entry in turn became durable.
func (c Case) killAtLedger(t *testing.T, clean run) {
	for k := range clean.entries {
		t.Run(fmt.Sprintf("killed at entry %d", k+1), func(t *testing.T) {
			w, seen := c.New(t), 0
			w.Store.SetHooks(memstore.Hooks{AfterAppend: func(string, string, store.Revision) error {
				if seen++; seen == k+1 {
					panic(killed)
				}
				return nil
			}})
			_, _, dead := w.run(breaking{Operation: w.Operation()})
			w.Store.SetHooks(memstore.Hooks{})
			if !dead {
				t.Fatal("the coordinator was not killed")
			}
			retry(t, w, clean.after)
		})
	}
}

// loseLedgerAnswers lets every entry land without an answer at first: asking again must do.
func (c Case) loseLedgerAnswers(t *testing.T, clean run) {
	w, lost := c.New(t), map[string]bool{}
	w.Store.SetHooks(memstore.Hooks{AfterAppend: func(_, id string, _ store.Revision) error {
		if lost[id] {
			return nil
		}
		lost[id] = true
		return memstore.ReplyLost()
	}})
	out, _, _ := w.run(breaking{Operation: w.Operation()})
	w.Store.SetHooks(memstore.Hooks{})
	expect(t, out, api.Committed)
	expectSame(t, "with every entry's answer lost", clean.after, w.Snapshot())
}

// loseLease lets the scope be taken over before the commit: nothing may be committed then.
func (c Case) loseLease(t *testing.T) {
	w := c.New(t)
	was := w.Snapshot()
	w.Store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if strings.HasSuffix(b.ID, "-commit") {
			w.Clock.Advance(2 * leaseTTL)
		}
		return nil
	}})
	out, _, _ := w.run(breaking{Operation: w.Operation()})
	w.Store.SetHooks(memstore.Hooks{})
	expect(t, out, api.RolledBack)
	expectSame(t, "after losing the lease", was, w.Snapshot())
}

func expectSame(t *testing.T, when, want, got string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s the world differs (-want +got):\n%s", when, diff)
	}
}
