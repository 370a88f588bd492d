package optest

import (
	"context"
	"errors"

	"github.com/ployz/ployz/node/operation"
)

var errBroken = errors.New("optest: broken on purpose")

// how a call is broken.
type how int

const (
	before how = iota // fails without having acted
	after             // acts, and the answer is lost
	killBefore
	killAfter
)

func (h how) String() string {
	return [...]string{"before", "after", "killed before", "killed after"}[h]
}

func (h how) kills() bool { return h >= killBefore }

// call is a step's function.
type call = func(context.Context, *operation.Act) error

// broken wraps one call.
func (h how) broken(f call) call {
	return func(ctx context.Context, act *operation.Act) error {
		if h == killBefore {
			panic(killed)
		}
		if h == before {
			return errBroken
		}
		if err := f(ctx, act); err != nil {
			return err
		}
		if h == killAfter {
			panic(killed)
		}
		return errBroken
	}
}

// stepKey is what a plan's steps are told apart by.
type stepKey struct{ name, participant string }

func keyOf(s operation.Step) stepKey { return stepKey{s.Name, s.Participant} }

// breaking is an operation with one of its steps broken.
type breaking struct {
	operation.Operation
	step  stepKey
	how   how
	undo  bool // break the step's undo as well
	twice bool // instead of breaking, do the step twice
}

// Plan implements operation.Operation.
func (b breaking) Plan() operation.Plan {
	plan := b.Operation.Plan()
	for i := range plan.Phases {
		plan.Phases[i].Width = 1 // a death must unwind one stack, and the order must be the same each time
		b.apply(plan.Phases[i].Steps)
	}
	b.apply(plan.Cleanup)
	return plan
}

func (b breaking) apply(steps []operation.Step) {
	for i := range steps {
		steps[i].Beside = false // as with the width
		if keyOf(steps[i]) != b.step {
			continue
		}
		if b.twice {
			steps[i].Do = twice(steps[i].Do)
			continue
		}
		steps[i].Do = b.how.broken(steps[i].Do)
		if b.undo && steps[i].Undo != nil {
			steps[i].Undo = before.broken(steps[i].Undo)
		}
	}
}

func twice(f call) call {
	return func(ctx context.Context, act *operation.Act) error {
		if err := f(ctx, act); err != nil {
			return err
		}
		return f(ctx, act)
	}
}
