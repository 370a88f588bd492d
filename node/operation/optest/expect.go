package optest

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

const leaseTTL = coordination.TTL

func expect(t *testing.T, out api.Outcome, want api.Result) {
	t.Helper()
	if out.Outcome != want {
		t.Errorf("the outcome is %s, want %s (error: %v, leftovers: %v)", out.Outcome, want, out.Error, out.Leftovers)
	}
	if want != api.Committed && want != api.CommittedLeftovers && (out.Error == nil || out.Error.Code == api.CodeInternal) {
		t.Errorf("%s has no typed error: %v", out.Outcome, out.Error)
	}
}

// expectLeftover wants the broken step among the leftovers, with a command that clears it.
func expectLeftover(t *testing.T, out api.Outcome, step string) {
	t.Helper()
	at := slices.IndexFunc(out.Leftovers, func(l api.Leftover) bool { return l.Subject == step })
	if at < 0 {
		t.Errorf("%q is not among the leftovers %v", step, out.Leftovers)
	} else if out.Leftovers[at].Clear == "" {
		t.Errorf("the leftover %q names no command that clears it", step)
	}
}

// expectUndone wants an undo, in the ledger, for every step that had begun and has one.
func expectUndone(t *testing.T, events []api.Event) {
	t.Helper()
	var last []string
	for _, e := range events {
		if e.Type == api.EventUndone {
			last = append(last, e.Step)
		}
		if e.Type == api.EventUndoFailed {
			t.Errorf("the undo of %q failed: %v", e.Step, e.Error)
		}
	}
	var intended []string
	for _, e := range events {
		if e.Type == api.EventStepIntended && slices.Contains(last, e.Step) {
			intended = append(intended, e.Step)
		}
	}
	slices.Reverse(intended)
	if !slices.Equal(intended, last) {
		t.Errorf("undone in the order %v, want %v", last, intended)
	}
}

// expectDead wants a killed coordinator's operation to be visible as what it is, and its scope to
// stay closed until its lease has run out.
func expectDead(t *testing.T, w *World, dead bool) {
	t.Helper()
	if !dead {
		t.Fatal("the coordinator was not killed: the broken call was never made")
	}
	out, _, _ := w.run(w.Operation())
	expect(t, out, api.Refused)
	if out.Error != nil && out.Error.Code != api.CodeScopeBusy {
		t.Errorf("while the dead coordinator's lease lives the refusal is %s, want %s", out.Error.Code, api.CodeScopeBusy)
	}
	if open := unended(t, w); len(open) != 1 {
		t.Errorf("the interrupted operation should be the one open fact, found %v", open)
	}
}

// unended are the operations that hold a scope open. A mark whose operation came to a clean end by its
// ledger holds nothing: only the giving back is missing.
func unended(t *testing.T, w *World) []string {
	t.Helper()
	ctx := context.Background()
	var ids []string
	for _, fact := range marks(t, w) {
		var mark struct{ Operation string }
		if err := json.Unmarshal(fact.Value, &mark); err != nil {
			t.Fatal(err)
		}
		events, err := operation.History(ctx, w.Store.Log(), mark.Operation)
		if err != nil {
			t.Fatal(err)
		}
		clean := []api.Result{api.Committed, api.CommittedLeftovers, api.RolledBack, api.Refused}
		if !slices.Contains(clean, api.Result(operation.Summarise(events, false).State)) {
			ids = append(ids, mark.Operation)
		}
	}
	return ids
}

// marks are the open facts, whether or not their operations have ended.
func marks(t *testing.T, w *World) []store.Fact {
	t.Helper()
	opens, err := w.Store.Facts().List(context.Background(), store.Opens())
	if err != nil {
		t.Fatal(err)
	}
	return opens
}

// retry runs the operation unbroken and wants the world of a run that was never broken, with
// nothing left open and every earlier operation closed in the ledger.
func retry(t *testing.T, w *World, want string) {
	t.Helper()
	w.outlive()
	done := w.Snapshot() == want
	out, _, _ := w.run(w.Operation())
	if !done || out.Outcome != api.Refused { // what is already so may be refused, such as removing what is gone
		expect(t, out, api.Committed)
	}
	expectSame(t, "after the retry", want, w.Snapshot())
	w.bury()
	if open := unended(t, w); len(open) != 0 || out.Outcome == api.Committed && len(marks(t, w)) != 0 {
		t.Errorf("after the retry these operations are still open: %v", open)
	}
	expectNoneInterrupted(t, w)
}

func expectNoneInterrupted(t *testing.T, w *World) {
	t.Helper()
	ctx := context.Background()
	records, err := w.Store.Log().Last(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		events, err := operation.History(ctx, w.Store.Log(), r.Operation)
		if err != nil {
			t.Fatal(err)
		}
		sum := operation.Summarise(events, false)
		if sum.State == string(api.Interrupted) && sum.ResolvedBy == "" {
			t.Errorf("operation %s is still interrupted after the retry", r.Operation)
		}
	}
}
