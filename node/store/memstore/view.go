package memstore

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/ployz/ployz/node/store"
)

var errClosed = errors.New("the feed was closed")

type view struct{ s *Store }

func (v view) Get(ctx context.Context, key store.Key) (store.Fact, error) { return v.s.get(ctx, key) }

func (v view) List(ctx context.Context, prefix store.Key) ([]store.Fact, error) {
	return v.s.list(ctx, prefix)
}

func (v view) Freshness(context.Context) (store.Freshness, error) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	return store.Freshness{
		Generation: v.s.generation, Last: v.s.revision, Active: 1,
		Fresh: v.s.stale == "", Why: v.s.stale,
	}, nil
}

func (v view) Follow(ctx context.Context, prefix store.Key) (store.Feed, error) {
	if err := prefix.ValidPrefix(); err != nil {
		return nil, err
	}
	if err := v.s.beforeRead(string(prefix)); err != nil {
		return nil, err
	}
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	v.s.expireLocked()
	return &feed{waiter: newWaiter(ctx, v.s), prefix: prefix, ready: v.s.snapshotLocked(prefix), at: len(v.s.changes)}, nil
}

// snapshotLocked is the last value of every key in order of revision, the last one marked.
func (s *Store) snapshotLocked(prefix store.Key) []store.Change {
	var out []store.Change
	for k, e := range s.facts {
		if !e.removed && k.Under(prefix) {
			out = append(out, store.Change{Fact: clone(e.fact)})
		}
	}
	slices.SortFunc(out, func(a, b store.Change) int { return cmp.Compare(a.Fact.Revision, b.Fact.Revision) })
	if len(out) == 0 {
		return []store.Change{{Current: true}}
	}
	out[len(out)-1].Current = true
	return out
}

// feed hands out its snapshot, then what was appended to the store's changes.
type feed struct {
	waiter
	prefix store.Key
	ready  []store.Change
	at     int
}

func (f *feed) Next(ctx context.Context) (store.Change, error) {
	var out store.Change
	err := f.wait(ctx, func() bool {
		var ok bool
		out, ok = f.takeLocked()
		return ok
	})
	return out, err
}

func (f *feed) takeLocked() (store.Change, bool) {
	if len(f.ready) > 0 {
		c := f.ready[0]
		f.ready = f.ready[1:]
		return c, true
	}
	for ; f.at < len(f.s.changes); f.at++ {
		if c := f.s.changes[f.at]; c.Fact.Key.Under(f.prefix) {
			f.at++
			c.Fact = clone(c.Fact)
			return c, true
		}
	}
	return store.Change{}, false
}

// waiter is what the two kinds of feed share: waiting for the store to move, and being closed.
type waiter struct {
	s      *Store
	parent context.Context
	once   *sync.Once
	closed chan struct{}
}

func newWaiter(ctx context.Context, s *Store) waiter {
	return waiter{s: s, parent: ctx, once: &sync.Once{}, closed: make(chan struct{})}
}

// Close ends the feed; a waiting Next returns store.unavailable.
func (w waiter) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

// wait calls takeLocked under the lock until it says true.
func (w waiter) wait(ctx context.Context, takeLocked func() bool) error {
	for {
		select {
		case <-w.closed:
			return store.Unavailable("the feed", errClosed)
		default:
		}
		moved, ok := w.tryLocked(takeLocked)
		if ok {
			return nil
		}
		if err := w.sleep(ctx, moved); err != nil {
			return err
		}
	}
}

func (w waiter) tryLocked(take func() bool) (<-chan struct{}, bool) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.moved, take()
}

func (w waiter) sleep(ctx context.Context, moved <-chan struct{}) error {
	select {
	case <-moved:
	case <-w.closed:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.parent.Done():
		return store.Unavailable("the feed", w.parent.Err())
	}
	return nil
}
