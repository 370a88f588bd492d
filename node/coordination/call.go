package coordination

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ployz/ployz/node/api"
)

// Calls sends this machine's commands over a wire.
type Calls struct {
	// Machine is this machine's id, Sign its key.
	Machine string
	Sign    Sign
	Wire    Wire
	// Beat is the interval of the machines' signs of life; 0 means 2 s.
	Beat time.Duration
	// Now is the clock; nil is the real one.
	Now func() time.Time
}

var _ Caller = (*Calls)(nil)

// unbounded is what a command gets whose caller set no limit.
const unbounded = time.Hour

// Call implements Caller.
func (c *Calls) Call(ctx context.Context, machine string, cmd Command, progress func(json.RawMessage)) (json.RawMessage, error) {
	if err := ctx.Err(); err != nil {
		return nil, absentParticipant(machine, err)
	}
	e := c.envelope(ctx, machine, cmd)
	conversation, err := c.send(ctx, e)
	if err != nil {
		return nil, err
	}
	defer conversation.Close()
	if progress == nil {
		progress = func(json.RawMessage) {}
	}
	l := listener{calls: c, call: e, from: conversation, progress: progress}
	return l.listen(ctx)
}

func (c *Calls) envelope(ctx context.Context, machine string, cmd Command) envelope {
	now := c.now()
	deadline := cmd.Deadline
	if end, bounded := ctx.Deadline(); bounded && (deadline.IsZero() || end.Before(deadline)) {
		deadline = end
	}
	allowed := unbounded
	if !deadline.IsZero() {
		allowed = time.Until(deadline)
	}
	return envelope{
		Version: envelopeVersion, Call: rand.Text(), Audience: machine, Sender: c.Machine,
		Issued: now.UTC(), Expires: now.Add(lifetime).UTC(), Allowed: allowed, Command: cmd,
	}
}

func (c *Calls) send(ctx context.Context, e envelope) (Conversation, error) {
	sealed, err := seal(e, c.Sign)
	if err != nil {
		return nil, err
	}
	conversation, err := c.Wire.Send(ctx, e.Audience, e.Command.Verb, sealed)
	var typed *api.Error
	if err != nil && !errors.As(err, &typed) {
		err = absentParticipant(e.Audience, err)
	}
	return conversation, err
}

func (c *Calls) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func (c *Calls) beat() time.Duration {
	if c.Beat == 0 {
		return beat
	}
	return c.Beat
}

// listener hears one call's frames.
type listener struct {
	calls    *Calls
	call     envelope
	from     Conversation
	progress func(json.RawMessage)

	number int
	parts  []byte
	// leaving is when to stop waiting, once the caller's context has ended.
	leaving time.Time
}

func (l *listener) listen(ctx context.Context) (json.RawMessage, error) {
	for {
		text, err := l.next(ctx)
		if err == nil {
			if body, done, err := l.hear(text); done {
				return body, err
			}
			continue
		}
		switch {
		case errors.Is(err, ErrNobody):
			return nil, absentParticipant(l.call.Audience, err)
		case errors.Is(err, ErrDropped):
			return nil, l.silent("the connection to the bus dropped", err)
		case ctx.Err() == nil:
			return nil, l.silent(fmt.Sprintf("it was silent for %s", l.patience()), nil)
		case !l.leaving.IsZero():
			return nil, l.silent("it had not ended when the time was up", ctx.Err())
		}
		l.leave(ctx)
	}
}

// next waits for a frame: until the caller leaves, or, once it does, as long as its leaving may take.
func (l *listener) next(ctx context.Context) ([]byte, error) {
	if !l.leaving.IsZero() {
		bounded, stop := context.WithDeadline(context.WithoutCancel(ctx), l.leaving)
		defer stop()
		return l.from.Next(bounded)
	}
	bounded, stop := context.WithTimeout(ctx, l.patience())
	defer stop()
	return l.from.Next(bounded)
}

func (l *listener) patience() time.Duration { return patience * l.calls.beat() }

func (l *listener) silent(why string, cause error) error {
	return silentParticipant(l.call.Audience, why, cause)
}

// leave tells the machine to stop, and gives it a moment to say how far it came: an undo that
// overtook its own step would find nothing to undo. A deadline it knows by itself.
func (l *listener) leave(ctx context.Context) {
	l.leaving = time.Now().Add(l.grace())
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return
	}
	body, err := json.Marshal(l.call.Call)
	if err != nil {
		return
	}
	detached, stop := context.WithTimeout(context.WithoutCancel(ctx), l.calls.beat())
	defer stop()
	if c, err := l.calls.send(detached, l.calls.envelope(detached, l.call.Audience, Command{Verb: cancel, Body: body})); err == nil {
		c.Close() // its effect is the answer that we wait for
	}
}

// grace is how long a leaving caller waits for the end. Who was never heard of is probably not there, and
// a ping has no end to wait for.
func (l *listener) grace() time.Duration {
	switch {
	case l.call.Command.Verb == Ping:
		return 0
	case l.number == 0:
		return l.calls.beat()
	}
	return l.patience()
}

// hear takes one frame; done is true at the last one.
func (l *listener) hear(text []byte) (body json.RawMessage, done bool, err error) {
	var f frame
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, true, l.silent("its answer cannot be read", err)
	}
	if l.number++; f.Number != l.number {
		return nil, true, l.silent("a part of its answer was lost", nil)
	}
	switch f.Kind {
	case frameProgress:
		l.progress(f.Body)
	case framePart:
		l.parts = append(l.parts, f.Part...)
	case frameAnswer:
		if f.Error != nil {
			return nil, true, f.Error
		}
		if l.parts != nil {
			return l.parts, true, nil
		}
		return f.Body, true, nil
	}
	return nil, false, nil
}
