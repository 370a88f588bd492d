package optest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store/memstore"
)

// Case is one operation on one starting world.
type Case struct {
	// New makes a fresh world; every breakage gets its own.
	New func(t *testing.T) *World
}

// World is everything an operation can touch, in memory.
type World struct {
	Store *memstore.Store
	// Clock drives the store's expiry; Advance moves it.
	Clock *Clock
	// Operation returns a new value of the operation under test.
	Operation func() operation.Operation
	// Snapshot is a text of the world that two equal worlds share: without operation ids,
	// revisions, leases, open facts and the ledger.
	Snapshot func() string

	mu     sync.Mutex
	leases []*coordination.Lease
}

// Clock is a settable time.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock starts at a fixed moment.
func NewClock() *Clock { return &Clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

// Now returns the present.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the present.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Runner returns a coordinator on this world, as a daemon just started would be.
func (w *World) Runner() *operation.Runner {
	leases := &coordination.Leases{Facts: w.Store.Facts()}
	return &operation.Runner{
		Facts: w.Store.Facts(), Log: w.Store.Log(), Machine: "m1",
		Now: w.Clock.Now, NewID: operation.NewID,
		Acquire: func(ctx context.Context, scope string, h coordination.Holder) (operation.Lease, error) {
			lease, err := leases.Acquire(ctx, scope, h)
			if err != nil {
				return nil, err
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.leases = append(w.leases, lease)
			return lease, nil
		},
	}
}

// run runs an operation and returns its outcome and events, or killed when a breakage ended it.
func (w *World) run(op operation.Operation) (out api.Outcome, events []api.Event, dead bool) {
	defer func() {
		if r := recover(); r != nil {
			if r != killed {
				panic(r)
			}
			w.bury()
			dead = true
		}
	}()
	out = w.Runner().Run(context.Background(), operation.Request{
		Operation: op, Caller: "root", Audience: func(e api.Event) { events = append(events, e) },
	})
	return out, events, false
}

// bury stops the renewals of a coordinator that was killed: a dead process renews nothing.
func (w *World) bury() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, lease := range w.leases {
		lease.Abandon()
	}
	w.leases = nil
}

// outlive moves past the lease of a dead coordinator.
func (w *World) outlive() {
	w.bury()
	w.Clock.Advance(coordination.TTL + time.Second)
}

// killed is what a breakage panics with to play the coordinator's death.
var killed = new(struct{ death int })
