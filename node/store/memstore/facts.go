package memstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/ployz/ployz/node/store"
)

type facts struct{ s *Store }

func (f facts) Get(ctx context.Context, key store.Key) (store.Fact, error) { return f.s.get(ctx, key) }

func (f facts) List(ctx context.Context, prefix store.Key) ([]store.Fact, error) {
	return f.s.list(ctx, prefix)
}

func (f facts) Commit(ctx context.Context, b store.Batch) (store.Revision, error) {
	if err := b.Valid(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, store.Unavailable("batch "+b.ID, err)
	}
	hooks := f.s.currentHooks()
	if hooks.BeforeCommit != nil {
		if err := hooks.BeforeCommit(b); err != nil {
			return 0, err
		}
	}
	revision, fresh, err := f.s.commit(b)
	if err == nil && fresh && hooks.AfterCommit != nil {
		if err := hooks.AfterCommit(b, revision); err != nil {
			return 0, err
		}
	}
	return revision, err
}

func (s *Store) get(ctx context.Context, key store.Key) (store.Fact, error) {
	if err := key.Valid(); err != nil {
		return store.Fact{}, err
	}
	if err := s.beforeRead(string(key)); err != nil {
		return store.Fact{}, err
	}
	if err := ctx.Err(); err != nil {
		return store.Fact{}, store.Unavailable(string(key), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked()
	e, ok := s.facts[key]
	if !ok || e.removed {
		return store.Fact{Key: key, Revision: e.fact.Revision, Written: e.fact.Written}, store.NotFound(key)
	}
	return clone(e.fact), nil
}

func (s *Store) list(ctx context.Context, prefix store.Key) ([]store.Fact, error) {
	if err := prefix.ValidPrefix(); err != nil {
		return nil, err
	}
	if err := s.beforeRead(string(prefix)); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, store.Unavailable(string(prefix), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked()
	var out []store.Fact
	for k, e := range s.facts {
		if !e.removed && k.Under(prefix) {
			out = append(out, clone(e.fact))
		}
	}
	slices.SortFunc(out, func(a, b store.Fact) int { return cmp.Compare(a.Key, b.Key) })
	return out, nil
}

// commit reports fresh when the batch was written now, and not recognised as a retry.
func (s *Store) commit(b store.Batch) (_ store.Revision, fresh bool, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked()
	now := s.clock()
	if revision, ok := s.batches.find(b.ID, now); ok {
		return revision, false, nil
	}
	if err := s.guardLocked(b); err != nil {
		return 0, false, err
	}
	if err := s.roomLocked("batch "+b.ID, s.growthLocked(b)); err != nil {
		return 0, false, err
	}
	for _, p := range b.Puts {
		s.putLocked(p, now)
	}
	s.batches[b.ID] = ack{s.revision, now}
	s.wakeLocked()
	return s.revision, true, nil
}

func (s *Store) guardLocked(b store.Batch) error {
	for _, p := range b.Puts {
		if p.Expect != nil && s.facts[p.Key].fact.Revision != *p.Expect {
			return store.Conflict(p.Key)
		}
	}
	for _, c := range b.Checks {
		if s.facts[c.Key].fact.Revision != c.Expect {
			return store.Conflict(c.Key)
		}
	}
	return nil
}

// growthLocked counts what a batch adds; what it overwrites makes room.
func (s *Store) growthLocked(b store.Batch) int {
	n := 0
	for _, p := range b.Puts {
		n += len(p.Key) + len(p.Value)
		if old, ok := s.facts[p.Key]; ok {
			n -= len(p.Key) + len(old.fact.Value)
		}
	}
	return n
}

func (s *Store) putLocked(p store.Put, now time.Time) {
	s.revision++
	e := entry{fact: store.Fact{Key: p.Key, Revision: s.revision, Written: now}, removed: p.Remove}
	if !p.Remove {
		e.fact.Value = slices.Clone(p.Value)
	}
	if p.TTL > 0 {
		e.expires = now.Add(store.WholeSeconds(p.TTL))
	}
	s.facts[p.Key] = e
	s.changes = append(s.changes, store.Change{Fact: e.fact, Removed: p.Remove})
}

// expireLocked forgets every write whose time is over, without a trace.
func (s *Store) expireLocked() {
	now := s.clock()
	for k, e := range s.facts {
		if !e.expires.IsZero() && !now.Before(e.expires) {
			delete(s.facts, k)
		}
	}
}

func clone(f store.Fact) store.Fact {
	f.Value = slices.Clone(f.Value)
	return f
}
