package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// daemon is one run of ployzd on a machine: it coordinates what it is asked, and obeys others.
type daemon struct {
	w     *world
	m     *simMachine
	calls *coordination.Calls
	// local is the machine's participant, for its own coordinator.
	local deploy.Participant
	// receive takes one command off the bus.
	receive func(sealed []byte, reply func([]byte) error)
	facts   store.Facts
	fences  *coordination.Fences

	mu    sync.Mutex
	dead  bool      // guarded by mu
	until time.Time // guarded by mu; when a pause ends
}

// live ends the calling goroutine when the daemon is dead: a dead process does nothing more. It never waits,
// so it may be called with locks held.
func (d *daemon) live() {
	d.mu.Lock()
	dead := d.dead
	d.mu.Unlock()
	if dead {
		runtime.Goexit()
	}
}

// gate is passed on every way out of the daemon: it waits while the daemon is paused, and ends the goroutine
// when it is dead. It must not be called with a lock held, for virtual time would stand still.
func (d *daemon) gate() {
	for {
		d.live()
		d.mu.Lock()
		rest := time.Until(d.until)
		d.mu.Unlock()
		if rest <= 0 {
			return
		}
		time.Sleep(rest)
	}
}

func (d *daemon) paused() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Before(d.until)
}

func (d *daemon) pause(lasts time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Now().Add(lasts)
}

func (d *daemon) die() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
}

// newDaemon starts a daemon on a machine's disk, as systemd does after a death.
func newDaemon(w *world, m *simMachine) (*daemon, error) {
	d := &daemon{w: w, m: m}
	d.facts = storeFacts{d, w.store.Facts()}
	sign := func([]byte) ([]byte, error) { return []byte(m.name), nil }
	d.calls = &coordination.Calls{Machine: m.name, Sign: sign, Wire: wire{w.network, d}}
	fences, err := coordination.OpenFences(m.dir + "/fences.json")
	if err != nil {
		return nil, err
	}
	d.fences = fences
	replies, err := coordination.OpenReplies(m.dir + "/replies")
	if err != nil {
		return nil, err
	}
	local := &deploy.Local{
		Runtime: boundRuntime{m.runtime, d}, Images: m.images, Network: m.network, Console: m.runtime, Fences: fences, Subnet: m.subnet,
		Machine: observe, Serving: d.serving,
	}
	p := w.witness.watch(m, w.mutant.participant(m.dir, local))
	responder := &coordination.Responder{
		Machine: m.id(), Verbs: deploy.Serve(p), Fences: fences, Replies: replies, Log: slog.New(slog.DiscardHandler),
		Verify: func(context.Context, string, []byte, []byte) error { return nil },
	}
	d.local = gated{d, p}
	d.receive = func(sealed []byte, reply func([]byte) error) {
		w.mutant.responder(m.dir, responder).Receive(context.Background(), sealed, reply)
	}
	return d, nil
}

func observe(context.Context) (deploy.Observation, error) {
	return deploy.Observation{Controllers: []string{"pids"}, CPUs: 64, MemoryBytes: 64 << 30}, nil
}

// serving answers for the machine's gateway, which follows the mirror of the facts.
func (d *daemon) serving(ctx context.Context, ns string) ([]deploy.Consumer, error) {
	fact, err := d.facts.Get(ctx, store.Route(ns))
	if err != nil && !store.IsNotFound(err) {
		return nil, err
	}
	return []deploy.Consumer{{Name: "gateway", Revision: fact.Revision}}, nil
}

// coordinate runs one operation and returns how it ended; it does not return when the daemon dies.
func (d *daemon) coordinate(ctx context.Context, id string, op operation.Operation) api.Outcome {
	leases := &coordination.Leases{Facts: d.facts}
	runner := &operation.Runner{
		Facts: d.facts, Log: storeLedger{d, d.w.store.Log()}, Machine: d.m.name, Now: time.Now, NewID: func() string { return id },
		Acquire: func(ctx context.Context, scope string, h coordination.Holder) (operation.Lease, error) {
			d.gate()
			lease, err := leases.Acquire(ctx, scope, h)
			if err != nil {
				return nil, err
			}
			return d.w.mutant.lease(gatedLease{lease, d}, d.facts), nil
		},
	}
	op = d.w.mutant.operation(op)
	return runner.Run(ctx, operation.Request{Operation: op, Caller: "root", Body: json.RawMessage(`{}`)})
}

// gatedLease stops a paused daemon before it writes.
type gatedLease struct {
	operation.Lease
	d *daemon
}

func (l gatedLease) Commit(ctx context.Context, b store.Batch) (store.Revision, error) {
	l.d.gate()
	return l.Lease.Commit(ctx, b)
}

func (l gatedLease) Release(ctx context.Context, puts ...store.Put) error {
	l.d.gate()
	return l.Lease.Release(ctx, puts...)
}

// deployKit is what the operations of node/deploy get on this machine.
func (d *daemon) deployKit() deploy.Kit {
	return deploy.Kit{
		Facts: d.facts, Sealer: plainSealer{}, Now: time.Now,
		Participants: &deploy.Fleet{
			Self: d.m.name, Local: d.local, Caller: d.calls,
			Members: func(context.Context) ([]machine.Member, error) { return d.w.members() },
		},
	}
}

// plainSealer wraps instead of encrypting.
type plainSealer struct{}

func (plainSealer) Seal(value []byte, _ []string) ([]byte, error) {
	return append([]byte("sealed "), value...), nil
}

func (s plainSealer) Reseal(_ context.Context, sealed []byte, _ []string, ns, name string) ([]byte, string, error) {
	return sealed, s.Fingerprint(ns, name, bytes.TrimPrefix(sealed, []byte("sealed "))), nil
}

func (plainSealer) Fingerprint(_, _ string, value []byte) string { return fmt.Sprintf("%x", value) }
