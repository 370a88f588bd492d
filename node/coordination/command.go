package coordination

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Command is one thing that a coordinator asks of a machine.
type Command struct {
	// Verb says what, as "domain.thing". Those of one word are the bus's own: Ping.
	Verb string `json:"verb"`
	// Operation and Step say on whose behalf; a repeated command is recognised by them.
	Operation string `json:"operation,omitempty"`
	Step      string `json:"step,omitempty"`
	// Scope and Fence let the machine refuse a coordinator that lost its lease.
	Scope string         `json:"scope,omitempty"`
	Fence store.Revision `json:"fence,omitempty"`
	// Deadline is when the command must have ended; zero means that of the call's context. What
	// travels is the time that is left, since two machines' clocks differ.
	Deadline time.Time       `json:"-"`
	Body     json.RawMessage `json:"body,omitempty"`
}

// Ping is the verb that every listening machine answers, and that does nothing.
const Ping = "ping"

// cancel is the verb that ends one of the sender's own commands; its body is the call's id.
const cancel = "cancel"

// Caller sends commands to machines.
type Caller interface {
	// Call sends a command to the machine with that id and waits for its answer; progress (nil is
	// nobody) gets what the machine reports meanwhile, in order. When ctx ends, the command is
	// cancelled on the machine and its end awaited for a moment.
	//
	// Errors: participant.absent (nothing was delivered), participant.silent (it may have acted),
	// participant.refused, operation.lease-lost, and the verb's own, as they are.
	Call(ctx context.Context, machine string, cmd Command, progress func(json.RawMessage)) (json.RawMessage, error)
}

// Wire carries sealed commands to machines and their frames back. It is what a backend implements.
type Wire interface {
	// Send hands a sealed command to whoever listens for the machine. An error means that
	// certainly nothing was delivered.
	Send(ctx context.Context, machine, verb string, sealed []byte) (Conversation, error)
}

// Conversation is the way back of one command.
type Conversation interface {
	// Next waits for a frame; frames come in the order in which they were sent. Errors:
	// ErrNobody, ErrDropped, the context's.
	Next(ctx context.Context) ([]byte, error)
	Close()
}

// Receive takes one sealed command and answers it by frames; Responder.Receive does. It returns when the
// command is answered.
type Receive func(ctx context.Context, sealed []byte, reply func([]byte) error)

// How a conversation ends without an answer.
var (
	// ErrNobody says that nobody listens for the machine: the command was not delivered.
	ErrNobody = errors.New("nobody listens")
	// ErrDropped says that the way back broke: frames may be missing.
	ErrDropped = errors.New("the connection dropped")
)

func absentParticipant(machine string, why error) error {
	return api.Errorf(api.CodeParticipantAbsent, "the command reached nobody: %w", why).About(machine).Again().
		WithHint("on that machine: systemctl status ployzd ployz-nats")
}

func silentParticipant(machine, why string, cause error) error {
	e := api.Errorf(api.CodeParticipantSilent, "%s, so whether it acted is not known", why).About(machine).Again()
	if cause != nil {
		e = api.Errorf(api.CodeParticipantSilent, "%s, so whether it acted is not known: %w", why, cause).About(machine).Again()
	}
	return e.WithHint("is the machine up and reachable? ployzctl status")
}

func refused(format string, args ...any) *api.Error {
	return api.Errorf(api.CodeParticipantRefused, format, args...)
}
