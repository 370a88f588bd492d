// Package membus is a bus in memory, for tests of what goes over a bus: the envelopes, the frames and
// the rules are the real ones, only the wire is a map.
package membus

import (
	"context"
	"sync"

	"github.com/ployz/ployz/node/coordination"
)

// Bus implements coordination.Wire. The zero value has no machines on it.
type Bus struct {
	mu       sync.Mutex
	machines map[string]coordination.Receive // guarded by mu
	mute     map[string]bool                 // guarded by mu
}

var _ coordination.Wire = (*Bus)(nil)

// Listen puts a machine on the bus until stop is called.
func (b *Bus) Listen(machine string, receive coordination.Receive) (stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.machines == nil {
		b.machines, b.mute = map[string]coordination.Receive{}, map[string]bool{}
	}
	b.machines[machine] = receive
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.machines, machine)
	}
}

// Mute lets nothing come back from a machine any more, or again: a cut cable.
func (b *Bus) Mute(machine string, on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mute[machine] = on
}

// Send implements coordination.Wire.
func (b *Bus) Send(_ context.Context, machine, _ string, sealed []byte) (coordination.Conversation, error) {
	b.mu.Lock()
	receive, listens := b.machines[machine]
	b.mu.Unlock()
	if !listens {
		return nil, coordination.ErrNobody
	}
	c := &conversation{wake: make(chan struct{}, 1)}
	go receive(context.Background(), sealed, func(frame []byte) error {
		b.mu.Lock()
		mute := b.mute[machine]
		b.mu.Unlock()
		if !mute {
			c.put(frame)
		}
		return nil
	})
	return c, nil
}

// conversation is a queue without a bound.
type conversation struct {
	wake chan struct{}

	mu     sync.Mutex
	frames [][]byte // guarded by mu
}

func (c *conversation) put(frame []byte) {
	c.mu.Lock()
	c.frames = append(c.frames, frame)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Next implements coordination.Conversation.
func (c *conversation) Next(ctx context.Context) ([]byte, error) {
	for {
		if frame := c.take(); frame != nil {
			return frame, nil
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *conversation) take() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frames) == 0 {
		return nil
	}
	first := c.frames[0]
	c.frames = c.frames[1:]
	return first
}

// Close implements coordination.Conversation.
func (c *conversation) Close() {}
