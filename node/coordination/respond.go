package coordination

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
)

// Verb is one thing that a machine can be asked to do.
type Verb struct {
	// Acts says that it changes something: it then needs a fence, and a repeated command gets
	// the first answer.
	Acts bool
	// Do does it. ctx ends at the command's deadline, when the caller leaves, and when a newer
	// coordinator of the scope takes over. progress may be called from one goroutine at a time.
	Do func(ctx context.Context, cmd Command, progress func(json.RawMessage)) (json.RawMessage, error)
}

// Responder answers the commands that reach this machine.
type Responder struct {
	// Machine is this machine's id.
	Machine string
	Verify  Verify
	Fences  *Fences
	Replies *Replies
	Verbs   map[string]Verb
	Log     *slog.Logger
	// Beat is the interval of signs of life; 0 means 2 s.
	Beat time.Duration
	// Now is the clock; nil is the real one.
	Now func() time.Time

	mu      sync.Mutex
	flights map[*flight]bool // guarded by mu
	// newest is when the latest command of each step was sealed, for as long as an earlier one
	// could still arrive. Guarded by mu.
	newest map[string]time.Time
}

// flight is a command that is being worked on.
type flight struct {
	call, sender string
	cmd          Command
	name         string // of its reply; "" when it does not act
	cancel       context.CancelCauseFunc
	// after are those that must have landed before it begins.
	after []*flight
	done  chan struct{}
	// answer is set before done is closed.
	answer reply
}

// Receive answers one sealed command by frames through reply, and returns when it is answered. ctx is the
// machine's own: when it ends, so does the command.
func (r *Responder) Receive(ctx context.Context, sealed []byte, reply func([]byte) error) {
	out := &speaker{reply: reply}
	e, err := unseal(ctx, sealed, r.Machine, r.Verify, r.now())
	if err != nil {
		r.Log.Warn("a command was refused", "sender", e.Sender, "verb", e.Command.Verb, "why", err.Error())
		out.answer(nil, err)
		return
	}
	switch e.Command.Verb {
	case Ping:
		out.answer(json.RawMessage(`{}`), nil)
	case passVerb:
		out.answer(nil, refused("a pass is no command"))
	case cancel:
		out.answer(nil, r.cancel(e))
	default:
		stop := out.beats(r.beat())
		body, err := r.answer(ctx, e, out.progress)
		stop()
		out.answer(body, err)
	}
}

func (r *Responder) answer(ctx context.Context, e envelope, progress func(json.RawMessage)) (json.RawMessage, error) {
	verb, known := r.Verbs[e.Command.Verb]
	if !known {
		return nil, api.Errorf(api.CodeUnknownOperation, "this machine knows no command %q", e.Command.Verb).About(r.Machine).
			WithHint("the machines may run different versions: ployzctl version")
	}
	if verb.Acts && e.Command.Scope == "" {
		return nil, api.Errorf(api.CodeBadRequest, "%s acts, and the command names no scope", e.Command.Verb).About(r.Machine)
	}
	ctx, stop := context.WithTimeout(ctx, e.Allowed)
	defer stop()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	f, first, err := r.board(e, verb.Acts, end)
	if err != nil {
		return nil, err
	}
	if first {
		r.fly(ctx, f, verb, progress)
	} else if err := r.await(ctx, f); err != nil {
		return nil, err
	}
	if f.answer.Error != nil {
		return nil, f.answer.Error
	}
	return f.answer.Body, nil
}

// board admits a command by its fence and returns its flight: a new one (first), one that is already
// under way for the same command, or one that landed long ago.
func (r *Responder) board(e envelope, acts bool, end context.CancelCauseFunc) (f *flight, first bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f = &flight{call: e.Call, sender: e.Sender, cmd: e.Command, done: make(chan struct{}), cancel: end}
	if acts {
		// Under the lock, so that whoever is admitted is also seen by who comes after.
		if err := r.Fences.Admit(e.Command.Scope, e.Command.Fence); err != nil {
			return nil, false, err
		}
		if err := r.inOrderLocked(e); err != nil {
			return nil, false, err
		}
		f.name = replyName(e.Command)
		if under := r.sameLocked(f.name); under != nil {
			return under, false, nil
		}
		if known, ok := r.Replies.get(f.name); ok {
			f.answer = known
			close(f.done)
			return f, false, nil
		}
		f.after = r.displaceLocked(f)
	}
	if r.flights == nil {
		r.flights = map[*flight]bool{}
	}
	r.flights[f] = true
	return f, true, nil
}

// inOrderLocked refuses a command of a step, of which a later one came first: what an undo has undone must not be
// done by a straggler, or by somebody who kept a copy.
func (r *Responder) inOrderLocked(e envelope) error {
	step := e.Command.Operation + "\n" + e.Command.Step + "\n" + e.Command.Scope
	if e.Issued.Before(r.newest[step]) {
		return refused("a later command of the same step came first")
	}
	if r.newest == nil {
		r.newest = map[string]time.Time{}
	}
	if len(r.newest) > mostReplies {
		over := r.now().Add(-lifetime - 2*skew)
		maps.DeleteFunc(r.newest, func(_ string, issued time.Time) bool { return issued.Before(over) })
	}
	r.newest[step] = e.Issued
	return nil
}

func (r *Responder) sameLocked(name string) *flight {
	for f := range r.flights {
		if f.name == name {
			return f
		}
	}
	return nil
}

// fly does the command, once those are down that it must not overlap with.
func (r *Responder) fly(ctx context.Context, f *flight, verb Verb, progress func(json.RawMessage)) {
	defer r.land(f)
	for _, other := range f.after {
		if err := r.await(ctx, other); err != nil {
			f.answer.Error = api.AsError(err)
			return
		}
	}
	body, err := verb.Do(ctx, f.cmd, progress)
	if err != nil {
		err = r.ended(ctx, err)
	}
	f.answer = reply{Body: body, Error: api.AsError(err)}
	if f.name != "" && memorable(err) {
		if err := r.Replies.keep(f.name, f.answer); err != nil {
			r.Log.Warn("a reply is not remembered; a repeated command will act again", "verb", f.cmd.Verb, "why", err.Error())
		}
	}
}

// ended types an untyped error that comes from the command's own end.
func (r *Responder) ended(ctx context.Context, err error) error {
	var typed *api.Error
	if errors.As(err, &typed) || ctx.Err() == nil {
		return err
	}
	var cause *api.Error
	if errors.As(context.Cause(ctx), &cause) {
		return cause
	}
	return silentParticipant(r.Machine, "it had not ended at its deadline", err)
}

// displaceLocked cancels, for the flight to wait for, what it must not overlap with: the same step's earlier
// command (its undo must not overtake it), and what another coordinator of the scope still has under way here.
func (r *Responder) displaceLocked(f *flight) []*flight {
	var found []*flight
	for other := range r.flights {
		if other.name == "" || other.cmd.Scope != f.cmd.Scope {
			continue
		}
		switch {
		case other.cmd.Operation == f.cmd.Operation && other.cmd.Step == f.cmd.Step:
			other.cancel(api.Errorf(api.CodeCancelled, "a later command of the same step came"))
		case other.cmd.Operation != f.cmd.Operation:
			other.cancel(api.Errorf(api.CodeLeaseLost, "another coordinator took over").About(f.cmd.Scope))
		default:
			continue // another step of the same operation may go on beside it
		}
		found = append(found, other)
	}
	return found
}

func (r *Responder) await(ctx context.Context, f *flight) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return silentParticipant(r.Machine, "an earlier command of the operation had not ended at the deadline", context.Cause(ctx))
	}
}

func (r *Responder) land(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.flights, f)
	close(f.done)
}

// cancel ends one of the sender's own commands. That it has ended already is fine.
func (r *Responder) cancel(e envelope) error {
	var call string
	if err := json.Unmarshal(e.Command.Body, &call); err != nil {
		return api.Errorf(api.CodeBadRequest, "which call to cancel cannot be read: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for f := range r.flights {
		if f.call == call && f.sender == e.Sender {
			f.cancel(api.Errorf(api.CodeCancelled, "its caller cancelled it"))
		}
	}
	return nil
}

func (r *Responder) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

func (r *Responder) beat() time.Duration {
	if r.Beat == 0 {
		return beat
	}
	return r.Beat
}
