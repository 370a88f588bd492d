package operation

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// run is one execution of an operation that holds its scope. It releases the scope by hand at each
// of its ends and never by defer: a coordinator that dies in the middle must leave what a dead
// process would leave.
type run struct {
	runner *Runner
	req    Request
	id     string
	lease  Lease
	// detached outlives the caller: undo, commit and cleaning up are not cut short by it.
	detached context.Context

	plan   Plan
	ledger *entries
	// before is the open fact as it was, which unfinished operations left; restored unless this run clears it.
	before     store.Fact
	unfinished []Unfinished
	// marked says that the open fact may name this run.
	marked bool

	acting atomic.Int32 // how many steps have an intent and have not ended

	mu sync.Mutex // held while an intent is written, so that begun has the ledger's order
	// begun are the steps whose intent is in the ledger, in that order: what undo walks back.
	begun []begunStep
}

type begunStep struct {
	phase string
	step  Step
}

// prepare inspects, plans, refuses, and opens. Until the ledger entry at its end nothing is touched.
func (x *run) prepare(ctx context.Context) error {
	r, op := x.runner, x.req.Operation
	var err error
	if x.unfinished, x.before, err = r.unfinished(ctx, op.Scope()); err != nil {
		return err
	}
	if err := op.Inspect(ctx, Situation{
		Operation: x.id, Caller: x.req.Caller, Fence: x.lease.Fence(), Unfinished: newest(x.unfinished), Earlier: earlier(x.unfinished),
	}); err != nil {
		return err
	}
	x.plan = withUnfinished(op.Plan(), op.Scope(), x.unfinished)
	shown, err := Show(op, x.plan)
	if err != nil {
		return err
	}
	if err := refusal(shown, x.req.PlanDigest); err != nil {
		return err
	}
	return x.open(ctx, shown.Digest)
}

// refusal is every unmet requirement together, or a stale plan.
func refusal(shown api.Plan, wanted string) error {
	switch {
	case len(shown.Unmet) == 1:
		return shown.Unmet[0]
	case len(shown.Unmet) > 1:
		e := api.Errorf(api.CodeUnmet, "%d requirements are unmet", len(shown.Unmet)).About(shown.Scope)
		e.Details = shown.Unmet
		return e
	case wanted != "" && wanted != shown.Digest:
		return api.Errorf(api.CodePlanStale, "the plan is now %s, not %s: the world moved since it was shown", shown.Digest, wanted).
			About(shown.Scope).WithHint("look at the new plan and apply that: --plan %s", shown.Digest)
	}
	return nil
}

// open makes the beginning durable: first the ledger, then the fact that marks the scope.
func (x *run) open(ctx context.Context, digest string) error {
	r, op := x.runner, x.req.Operation
	x.ledger = &entries{
		log: r.Log, base: api.Event{Operation: x.id, Kind: op.Kind(), Scope: op.Scope()},
		opened: r.Now(), now: r.Now, audience: x.req.Audience,
	}
	err := x.ledger.write(ctx, api.Event{
		Type: api.EventOpened, Caller: x.req.Caller, Machine: r.Machine, Request: x.req.Body, Digest: digest,
	})
	if err != nil {
		return err
	}
	if x.req.Opened != nil {
		x.req.Opened(x.id)
	}
	return x.mark(ctx)
}

// refused is the outcome of a run that ended in prepare, and closes its ledger entry if there is one. The
// ledger being away does not matter: an entry that was only opened says the same.
func (x *run) refused(err error) api.Outcome {
	out := refused(err)
	if x.ledger != nil {
		out.Operation = x.id
		if e := x.ledger.write(x.detached, api.Event{Type: api.EventOutcome, Outcome: &out}); e != nil {
			out.Error.Details = append(out.Error.Details, api.AsError(e))
		}
	}
	return out
}

// execute walks the phases, commits and cleans up. It returns on the first thing that decides.
func (x *run) execute(ctx context.Context) api.Outcome {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go x.watchLease(ctx, cancel)

	for i, phase := range x.phases() {
		if err := x.runPhase(ctx, i+1, phase); err != nil {
			return x.rollBack(err)
		}
	}
	if err := context.Cause(ctx); err != nil {
		return x.rollBack(cancelled(err))
	}
	rev, err := x.commit()
	switch {
	case store.IsUncertain(err):
		return x.uncertain(err)
	case err != nil:
		return x.rollBack(err)
	}
	return x.cleanUp(rev)
}

func (x *run) phases() []Phase {
	withoutCleanup := x.plan
	withoutCleanup.Cleanup = nil
	return allPhases(withoutCleanup)
}

// watchLease cancels the run the moment its scope is no longer surely its own.
func (x *run) watchLease(ctx context.Context, cancel context.CancelCauseFunc) {
	select {
	case <-ctx.Done():
	case <-x.lease.Lost():
		cancel(api.Errorf(api.CodeLeaseLost, "the lease was taken over while the operation ran").About(x.req.Operation.Scope()).Again())
	}
}

// commit sends the one batch that decides, with its intent in the ledger first.
func (x *run) commit() (store.Revision, error) {
	c := x.plan.Commit
	puts, err := c.Batch(x.id)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(x.detached, orDefault(x.runner.CommitTimeout, 10*time.Second))
	defer cancel()
	sent := api.Event{Type: api.EventCommitSent, Witness: string(c.Witness), Expect: uint64(c.Expect)}
	if err := x.ledger.write(ctx, sent); err != nil {
		return 0, err
	}
	batch := store.Batch{ID: x.id + "-commit", Puts: puts, Checks: c.Checks}
	rev, err := x.lease.Commit(telling(ctx, x.ledger.show), batch)
	if store.IsUncertain(err) {
		return x.settle(err)
	}
	if store.IsConflict(err) {
		if e := c.moved(err); e != nil {
			return 0, e
		}
		return 0, api.Errorf(api.CodeConflict, "another operation committed first: %w", err).
			About(x.req.Operation.Scope()).Again().WithHint("look at the new plan and repeat")
	}
	return rev, err
}

// moved is what a conflict means that is about a checked fact, or nil.
func (c Commit) moved(err error) *api.Error {
	key := store.Key(api.AsError(err).Subject)
	if c.Moved == nil || !slices.ContainsFunc(c.Checks, func(check store.Check) bool { return check.Key == key }) {
		return nil
	}
	return c.Moved(key)
}

// settle looks once whether an unanswered commit is there. Not finding it decides nothing, since it may
// still land.
func (x *run) settle(uncertain error) (store.Revision, error) {
	ctx, cancel := context.WithTimeout(x.detached, 5*time.Second)
	defer cancel()
	fact, err := x.runner.Facts.Get(ctx, x.plan.Commit.Witness)
	if err == nil && witnessOf(fact.Value) == x.id {
		return fact.Revision, nil
	}
	return 0, uncertain
}

// uncertain leaves everything as it is, the scope marked and the lease to run out: whoever comes
// next finds out what happened.
func (x *run) uncertain(err error) api.Outcome {
	x.lease.Abandon()
	e := api.Errorf(api.CodeUncertain, "the commit was sent and no answer came: %w", err).About(x.req.Operation.Scope()).
		WithHint("once the store answers again: ployzctl operation show %s", x.id)
	out, _ := x.close(api.Outcome{Outcome: api.Uncertain, Error: e}) // uncertain either way
	return out
}

// cleanUp runs every cleaning step, also after one failed, and closes the run.
func (x *run) cleanUp(rev store.Revision) api.Outcome {
	out := api.Outcome{Outcome: api.Committed, Revision: uint64(rev)}
	if x.plan.Commit.ID != nil {
		out.Commit = x.plan.Commit.ID(x.id)
	}
	x.ledger.later(api.Event{Type: api.EventCommitted, Witness: string(x.plan.Commit.Witness), Expect: uint64(rev)})
	out.Leftovers = append(out.Leftovers, x.cleanSteps()...)
	if len(out.Leftovers) > 0 {
		out.Outcome = api.CommittedLeftovers
	}
	x.addResult(&out)
	out, written := x.close(out)
	if !written {
		x.giveBack() // the open fact stays, so that the next operation closes the ledger
		return out
	}
	x.resolve()
	x.giveBack(x.unmark())
	return out
}

// cleanSteps runs the plan's cleaning steps and returns what they could not clean.
func (x *run) cleanSteps() []api.Leftover {
	if len(x.plan.Cleanup) == 0 {
		return nil
	}
	of := len(allPhases(x.plan))
	x.ledger.later(api.Event{Type: api.EventPhase, Phase: cleanUpPhase, Index: of, Of: of})
	var left []api.Leftover
	for steps := x.plan.Cleanup; len(steps) > 0; {
		n := 1
		for n < len(steps) && steps[n].Beside {
			n++
		}
		left = append(left, x.clean(steps[:n])...)
		steps = steps[n:]
	}
	return left
}

// clean runs cleaning steps side by side.
func (x *run) clean(steps []Step) (left []api.Leftover) {
	errs := make([]error, len(steps))
	if err := x.intend(x.detached, cleanUpPhase, steps...); err != nil {
		for i := range errs {
			errs[i] = err
		}
	} else {
		var wg sync.WaitGroup
		for i, step := range steps[1:] {
			wg.Go(func() { errs[i+1] = x.act(x.detached, cleanUpPhase, step) })
		}
		errs[0] = x.act(x.detached, cleanUpPhase, steps[0])
		wg.Wait()
	}
	for i, err := range errs {
		if err != nil {
			left = append(left, leftover(steps[i], err))
		}
	}
	return left
}

// addResult encodes the operation's own result into the outcome.
func (x *run) addResult(out *api.Outcome) {
	with, ok := x.req.Operation.(Resulter)
	if !ok {
		return
	}
	value, err := json.Marshal(with.Result())
	if err != nil {
		out.Error = api.Errorf(api.CodeInternal, "encoding the result: %w", err)
		return
	}
	out.Value = value
}

// close writes the outcome as the last entry and reports whether it could. An entry that cannot be written
// is a leftover in itself: the ledger will call the operation interrupted.
func (x *run) close(out api.Outcome) (api.Outcome, bool) {
	out.Operation = x.id
	err := x.ledger.write(x.detached, api.Event{Type: api.EventOutcome, Outcome: &out})
	if err == nil {
		return out, true
	}
	out.Leftovers = append(out.Leftovers, x.ledgerLeftover(err))
	switch out.Outcome {
	case api.Committed:
		out.Outcome = api.CommittedLeftovers
	case api.RolledBack:
		out.Outcome = api.Stranded
	}
	return out, false
}

func (x *run) ledgerLeftover(err error) api.Leftover {
	return api.Leftover{Subject: "ledger", Problem: err.Error(), Clear: "ployzctl operation resolve " + x.id}
}

func leftover(step Step, err error) api.Leftover {
	return api.Leftover{Subject: step.Name, Problem: err.Error(), Clear: step.Clear}
}
