package coordination

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// TTL is how long a lease outlives its last renewal; renewals come every third of it.
const TTL = 30 * time.Second

// Holder says who holds a lease, for the refusal that others read.
type Holder struct {
	Operation string    `json:"operation"`
	Kind      string    `json:"kind"`
	Machine   string    `json:"machine"`
	Caller    string    `json:"caller"`
	Since     time.Time `json:"since"`
	// Process tells apart the daemons that a machine had one after the other.
	Process string `json:"process,omitempty"`
}

// Leases takes leases in the store.
type Leases struct {
	Facts store.Facts
	// TTL of new leases; 0 means the constant TTL.
	TTL time.Duration
	// Dead reports that a holder has certainly ended without giving its lease back, so that the
	// scope may be taken over at once. Nil is never.
	Dead func(Holder) bool
}

// Acquire takes the scope or refuses with operation.scope-busy, naming the holder. It never
// waits. The lease renews itself until Release or Abandon, also when ctx has ended.
func (l *Leases) Acquire(ctx context.Context, scope string, holder Holder) (*Lease, error) {
	value, err := json.Marshal(holder)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "encoding the lease's holder: %w", err)
	}
	lease := &Lease{scope: scope, value: value, facts: l.Facts, ttl: l.ttl(), lost: make(chan struct{}), stop: make(chan struct{})}
	if err := l.take(ctx, lease, holder.Operation); err != nil {
		return nil, err
	}
	lease.done.Go(func() { lease.renew(context.WithoutCancel(ctx)) })
	return lease, nil
}

// acquireWithin bounds the taking of a scope, also where the store's leader is lost in the midst of it.
const acquireWithin = 6 * time.Second

// tries is how often a free scope is looked at: the removal that a release leaves behind expires,
// and doing so between our look and our write is nobody's taking it.
const tries = 3

func (l *Leases) take(ctx context.Context, lease *Lease, operation string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, acquireWithin)
	defer cancel()
	for try := range tries {
		var seen store.Fact
		seen, err = l.Facts.Get(ctx, store.Lease(lease.scope))
		switch {
		case err == nil && bytes.Equal(seen.Value, lease.value):
			lease.token = seen.Revision // our own write, whose answer was lost
			return nil
		case err == nil && !l.dead(seen.Value):
			return busy(lease.scope, seen.Value)
		case err == nil: // taken over below, if nobody else is faster
		case !store.IsNotFound(err):
			return err
		}
		err = lease.write(ctx, operation+"-lease-"+itoa(uint64(try)), seen.Revision)
		if !store.IsConflict(err) && !store.IsUncertain(err) {
			return err
		}
	}
	if store.IsUncertain(err) {
		return err
	}
	return busy(lease.scope, nil)
}

func (l *Leases) dead(value []byte) bool {
	var h Holder
	return l.Dead != nil && json.Unmarshal(value, &h) == nil && h.Operation != "" && l.Dead(h)
}

func (l *Leases) ttl() time.Duration {
	if l.TTL == 0 {
		return TTL
	}
	return l.TTL
}

func busy(scope string, value []byte) error {
	var h Holder
	if json.Unmarshal(value, &h) != nil || h.Operation == "" {
		return api.Errorf(api.CodeScopeBusy, "another operation holds the scope").About(scope).Again()
	}
	return api.Errorf(api.CodeScopeBusy, "%s %s by %s on %s holds it since %s",
		h.Kind, h.Operation, h.Caller, h.Machine, h.Since.Format(time.RFC3339)).About(scope).Again().
		WithHint("watch it: ployzctl operation watch %s", h.Operation)
}

// Lease is one held scope.
type Lease struct {
	scope string
	value []byte
	facts store.Facts
	ttl   time.Duration

	mu    sync.Mutex // guards token, count, over; held across a commit so that no renewal moves the token under it
	token store.Revision
	count int
	over  bool // given back, lost or abandoned: there is nothing left to release

	lost     chan struct{}
	stop     chan struct{}
	stopOnce sync.Once
	done     sync.WaitGroup
}

// Fence returns the present token. It only grows while the lease lives.
func (l *Lease) Fence() store.Revision {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token
}

// Lost is closed when a renewal was refused: somebody else may hold the scope.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Commit sends a batch that holds only while this lease does. Errors are Facts.Commit's, and
// operation.lease-lost when the lease was what did not hold.
func (l *Lease) Commit(ctx context.Context, batch store.Batch) (store.Revision, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := store.Lease(l.scope)
	batch.Checks = append([]store.Check{{Key: key, Expect: l.token}}, batch.Checks...) // first: it is what is named if it moved
	rev, err := l.facts.Commit(ctx, batch)
	if store.IsConflict(err) && api.AsError(err).Subject == string(key) {
		return 0, api.Errorf(api.CodeLeaseLost, "the lease ran out or was taken over before this was written: %w", err).About(l.scope).Again()
	}
	return rev, err
}

// Release gives the scope back and writes the given puts in the same batch. After an error but store.conflict it may be
// called again, with the same puts: it is the same batch, also where the first one landed. A lease that is not ours any
// more is left to whom it belongs, with store.conflict; one that was abandoned, or given back, is left alone.
func (l *Lease) Release(ctx context.Context, puts ...store.Put) error {
	l.stopRenewing()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return nil
	}
	err := l.remove(ctx, puts)
	if store.IsConflict(err) {
		err = l.removeRecognised(ctx, puts, err)
	}
	l.over = err == nil || store.IsConflict(err)
	return err
}

// removeRecognised is for a token that an own renewal moved whose answer was lost. It needs mu.
func (l *Lease) removeRecognised(ctx context.Context, puts []store.Put, conflict error) error {
	ours, err := l.recognise(ctx)
	switch {
	case err != nil:
		return err
	case !ours:
		return conflict
	}
	return l.remove(ctx, puts)
}

// remove takes the lease's fact away, as the token says that we wrote it. It needs mu.
func (l *Lease) remove(ctx context.Context, puts []store.Put) error {
	// It must not be forgotten before what it removes would be: a store that was killed forgets
	// expired removals, and would bring the lease back.
	removal := store.Put{Key: store.Lease(l.scope), Remove: true, Expect: store.Expect(l.token), TTL: l.ttl}
	id := "release-" + l.scope + "-" + itoa(uint64(l.token)) // the same one however often it is sent
	_, err := l.facts.Commit(ctx, store.Batch{ID: id, Puts: append([]store.Put{removal}, puts...)})
	return err
}

// Abandon stops renewing without giving the scope back: what a coordinator does that no longer
// knows whether it may speak for it.
func (l *Lease) Abandon() {
	l.stopRenewing()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}

func (l *Lease) stopRenewing() {
	l.stopOnce.Do(func() { close(l.stop) })
	l.done.Wait()
}

func (l *Lease) renew(ctx context.Context) {
	tick := time.NewTicker(l.ttl / 3)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			if !l.renewOnce(ctx) {
				close(l.lost)
				return
			}
		}
	}
}

// renewOnce reports whether the lease may still be ours. Only an explicit conflict says no: an
// unreachable store is silence, and the commit's own check decides in the end. Without an answer
// the renewal may have landed, and a commit with the token from before it would be refused.
func (l *Lease) renewOnce(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, l.ttl/3)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.write(ctx, l.id("renew"), l.token)
	if !store.IsConflict(err) && !store.IsUncertain(err) {
		return true
	}
	ours, err := l.recognise(ctx)
	return ours || err != nil
}

// recognise reports whether the lease's fact is our own, and adopts the token of a renewal whose answer was lost. It
// needs mu. Errors: store.unavailable.
func (l *Lease) recognise(ctx context.Context) (bool, error) {
	seen, err := l.facts.Get(ctx, store.Lease(l.scope))
	if store.IsNotFound(err) {
		return false, nil
	}
	if err != nil || !bytes.Equal(seen.Value, l.value) {
		return false, err
	}
	l.token = seen.Revision
	return true, nil
}

// write needs mu, or a lease that nobody else has yet.
func (l *Lease) write(ctx context.Context, id string, expect store.Revision) error {
	rev, err := l.facts.Commit(ctx, store.Batch{ID: id, Puts: []store.Put{{
		Key: store.Lease(l.scope), Value: l.value, Expect: &expect, TTL: l.ttl,
	}}})
	if err == nil {
		l.token = rev
	}
	return err
}

func (l *Lease) id(what string) string {
	l.count++
	return what + "-" + l.scope + "-" + itoa(uint64(l.token)) + "-" + itoa(uint64(l.count))
}
