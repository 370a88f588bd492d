package operation

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/store"
)

// Lease is a held scope, as coordination.Lease gives it.
type Lease interface {
	Fence() store.Revision
	Lost() <-chan struct{}
	Commit(ctx context.Context, batch store.Batch) (store.Revision, error)
	Release(ctx context.Context, puts ...store.Put) error
	Abandon()
}

// Runner runs operations in the one form. Its fields are set by the composition root; the
// zero durations mean the defaults beside them.
type Runner struct {
	Facts store.Facts
	Log   store.Log
	// Acquire takes a scope's lease, or refuses with operation.scope-busy.
	Acquire func(ctx context.Context, scope string, holder coordination.Holder) (Lease, error)
	// Machine is the name of the coordinating machine, for the ledger.
	Machine string
	Now     func() time.Time
	NewID   func() string
	// StepTimeout (2 min), UndoTimeout (1 min) and CommitTimeout (10 s) bound each single call.
	StepTimeout   time.Duration
	UndoTimeout   time.Duration
	CommitTimeout time.Duration
}

// Request is one call of an operation.
type Request struct {
	Operation Operation
	// Caller is who asked, from peer credentials.
	Caller string
	// Body is the request as the ledger keeps it: without secrets.
	Body json.RawMessage
	// PlanDigest binds the run to a plan that was shown; "" takes whatever the plan is.
	PlanDigest string
	// Opened, when set, learns the operation's id as soon as there is one.
	Opened func(operation string)
	// Audience sees every event; nil is nobody.
	Audience func(api.Event)
}

// Preview inspects and plans without taking the scope or writing anything.
func (r *Runner) Preview(ctx context.Context, op Operation, caller string) (api.Plan, error) {
	if err := findScope(ctx, op); err != nil {
		return api.Plan{}, err
	}
	left, _, err := r.unfinished(ctx, op.Scope())
	if err != nil {
		return api.Plan{}, err
	}
	if err := op.Inspect(ctx, Situation{Caller: caller, Unfinished: newest(left), Earlier: earlier(left)}); err != nil {
		return api.Plan{}, err
	}
	return Show(op, withUnfinished(op.Plan(), op.Scope(), left))
}

// Run runs an operation to its outcome, which is never nil-like: every way to end has a result.
func (r *Runner) Run(ctx context.Context, req Request) api.Outcome {
	started := r.Now()
	out := r.run(ctx, req)
	out.Kind, out.Scope = req.Operation.Kind(), req.Operation.Scope()
	out.Took = api.Duration(r.Now().Sub(started).Round(time.Millisecond))
	return out
}

func (r *Runner) run(ctx context.Context, req Request) api.Outcome {
	if req.Audience == nil {
		req.Audience = func(api.Event) {}
	}
	op, id := req.Operation, r.NewID()
	if err := findScope(ctx, op); err != nil {
		return refused(err)
	}
	holder := coordination.Holder{Operation: id, Kind: op.Kind(), Machine: r.Machine, Caller: req.Caller, Since: r.Now().UTC()}
	lease, err := r.Acquire(ctx, op.Scope(), holder)
	if err != nil {
		return refused(err)
	}
	run := &run{runner: r, req: req, id: id, lease: lease, detached: context.WithoutCancel(ctx)}
	if err := run.prepare(ctx); err != nil {
		run.giveBack(run.reopen()...)
		return run.refused(err)
	}
	return run.execute(ctx)
}

func findScope(ctx context.Context, op Operation) error {
	if finder, ok := op.(ScopeFinder); ok {
		return finder.FindScope(ctx)
	}
	return nil
}

// withUnfinished refuses a plan that would act on top of what another operation left.
func withUnfinished(plan Plan, scope string, chain []Unfinished) Plan {
	left := newest(chain)
	if left == nil || plan.Resolves {
		return plan
	}
	plan.Requirements = append(plan.Requirements, Met("nothing unfinished on the scope",
		api.Errorf(api.CodeInterrupted, "%s %s did not come to a clean end", left.Kind, left.Operation).About(scope).
			WithHint("see what it did: ployzctl operation show %s; then: ployzctl operation resolve %s", left.Operation, left.Operation)))
	return plan
}

func refused(err error) api.Outcome {
	return api.Outcome{Outcome: api.Refused, Error: api.AsError(err)}
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}
