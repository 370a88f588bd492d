package operation

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
)

// runPhase runs a phase's steps, Width at a time, and returns the first error once all that had
// begun have ended.
func (x *run) runPhase(ctx context.Context, index int, phase Phase) error {
	x.ledger.later(api.Event{Type: api.EventPhase, Phase: phase.Name, Index: index, Of: len(allPhases(x.plan))})
	if phase.Width <= 1 {
		return x.inTurn(ctx, phase)
	}
	return x.together(ctx, phase)
}

func (x *run) inTurn(ctx context.Context, phase Phase) error {
	for _, step := range phase.Steps {
		if err := x.begin(ctx, phase.Name, step); err != nil {
			return err
		}
	}
	return nil
}

func (x *run) together(ctx context.Context, phase Phase) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg    sync.WaitGroup
		slots = make(chan struct{}, phase.Width)
		errs  = make([]error, len(phase.Steps))
	)
	for i, step := range phase.Steps {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if errs[i] = x.begin(ctx, phase.Name, step); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return firstCause(errs)
}

// firstCause prefers the error that started the trouble over the cancellations it caused.
func firstCause(errs []error) error {
	for _, err := range errs {
		if err != nil && api.CodeOf(err) != api.CodeCancelled {
			return err
		}
	}
	return errors.Join(errs...)
}

// begin runs a step; from its intent on, its undo is owed.
func (x *run) begin(ctx context.Context, phase string, step Step) error {
	if err := context.Cause(ctx); err != nil {
		return cancelled(err)
	}
	if err := x.intend(ctx, phase, step); err != nil {
		return err
	}
	return x.act(ctx, phase, step)
}

// intend makes it durable that steps are about to act.
func (x *run) intend(ctx context.Context, phase string, steps ...Step) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var intents []api.Event
	for _, step := range steps {
		intents = append(intents, stepEvent(api.EventStepIntended, phase, step))
	}
	if err := x.ledger.write(ctx, intents...); err != nil {
		return err
	}
	for _, step := range steps {
		x.begun = append(x.begun, begunStep{phase, step})
	}
	x.acting.Add(int32(len(steps)))
	return nil
}

func stepEvent(kind, phase string, step Step) api.Event {
	return api.Event{Type: kind, Phase: phase, Step: step.Name, Participant: step.Participant}
}

// act lets a step act whose intent is in the ledger, and writes how it went.
func (x *run) act(ctx context.Context, phase string, step Step) error {
	event := stepEvent(api.EventStepDone, phase, step)
	started := x.runner.Now()
	err := x.call(ctx, step, step.Do, orDefault(step.Timeout, orDefault(x.runner.StepTimeout, 2*time.Minute)))
	event.Took = api.Duration(x.runner.Now().Sub(started).Round(time.Millisecond))
	others := x.acting.Add(-1)
	if err != nil {
		e := x.stepError(ctx, step, err)
		event.Type, event.Error = api.EventStepFailed, e
		return errors.Join(e, x.ledger.write(x.detached, event))
	}
	if others > 0 { // the next entry may be long in coming
		return x.ledger.write(ctx, event)
	}
	x.ledger.later(event)
	return nil
}

// call bounds one call of a step.
func (x *run) call(ctx context.Context, step Step, f func(context.Context, *Act) error, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	err := f(ctx, &Act{
		Operation: x.id, Scope: x.req.Operation.Scope(), Fence: x.lease.Fence(), Step: step.Name,
		emit: x.ledger.show, commit: x.lease.Commit,
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		var typed *api.Error
		if !errors.As(err, &typed) {
			return api.Errorf(api.CodeStepFailed, "it did not end within %s: %w", bound, err)
		}
	}
	return err
}

// stepError gives a step's failure its place, keeping the code that the step decided on.
func (x *run) stepError(ctx context.Context, step Step, err error) *api.Error {
	if cause := context.Cause(ctx); cause != nil {
		err = cancelled(cause)
	}
	var typed *api.Error
	if !errors.As(err, &typed) {
		typed = api.Errorf(api.CodeStepFailed, "%w", err)
	}
	placed := *typed
	placed.Operation, placed.Step = x.id, step.Name
	return &placed
}

func cancelled(cause error) error {
	var typed *api.Error
	if errors.As(cause, &typed) {
		return typed
	}
	return api.Errorf(api.CodeCancelled, "the operation was cancelled: %w", cause)
}

// rollBack undoes everything that had begun, newest first, and closes the run.
func (x *run) rollBack(err error) api.Outcome {
	out := api.Outcome{Outcome: api.RolledBack, Error: api.AsError(err)}
	if e := x.ledger.write(x.detached, api.Event{Type: api.EventNotCommitted, Error: out.Error}); e != nil {
		x.ledger.show(api.Event{Type: api.EventNote, Message: "not committed, but not written down", Error: api.AsError(e)})
	}
	for _, b := range slices.Backward(x.begun) {
		if e := x.undo(b); e != nil {
			out.Leftovers = append(out.Leftovers, leftover(b.step, e))
		}
	}
	if len(out.Leftovers) > 0 {
		out.Outcome = api.Stranded
	}
	out, written := x.close(out)
	if out.Outcome == api.Stranded || !written {
		x.giveBack() // the open fact stays: the next operation must deal with what is left
		return out
	}
	x.giveBack(x.reopen()...)
	return out
}

// undo takes one step back. The ledger being away does not stop it: leaving things half done
// would be worse than not having written down that they were undone.
func (x *run) undo(b begunStep) error {
	if b.step.Undo == nil {
		return nil
	}
	event := stepEvent(api.EventUndoIntended, b.phase, b.step)
	unwritten := x.ledger.write(x.detached, event)
	err := x.call(x.detached, b.step, b.step.Undo, orDefault(b.step.Timeout, orDefault(x.runner.UndoTimeout, time.Minute)))
	event.Type = api.EventUndone
	if err != nil {
		event.Type = api.EventUndoFailed
		event.Error = x.stepError(x.detached, b.step, api.Errorf(api.CodeUndoFailed, "%w", err))
	}
	if e := x.ledger.write(x.detached, event); e != nil && unwritten == nil {
		unwritten = e
	}
	if unwritten != nil {
		x.ledger.show(api.Event{Type: api.EventNote, Step: b.step.Name, Message: "undone, but not written down", Error: api.AsError(unwritten)})
	}
	return err
}
