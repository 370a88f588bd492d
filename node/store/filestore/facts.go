package filestore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/ployz/ployz/node/store"
)

// fact is the last write under a key; a removal stays as one until it expires.
type fact struct {
	store.Fact
	removed bool
	expires time.Time // zero: never
}

type facts struct{ s *Store }

// Get implements store.Facts.
func (f facts) Get(ctx context.Context, key store.Key) (store.Fact, error) {
	if err := key.Valid(); err != nil {
		return store.Fact{}, err
	}
	if err := f.s.lock(ctx, string(key)); err != nil {
		return store.Fact{}, err
	}
	defer f.s.mu.Unlock()
	found, ok := f.s.lastLocked(key, f.s.nowLocked())
	if !ok || found.removed {
		return store.Fact{Key: key, Revision: found.Revision, Written: found.Written}, store.NotFound(key)
	}
	return clone(found.Fact), nil
}

// List implements store.Facts.
func (f facts) List(ctx context.Context, prefix store.Key) ([]store.Fact, error) {
	if err := prefix.ValidPrefix(); err != nil {
		return nil, err
	}
	if err := f.s.lock(ctx, "the facts"); err != nil {
		return nil, err
	}
	defer f.s.mu.Unlock()
	var out []store.Fact
	now := f.s.nowLocked()
	for key := range f.s.facts {
		if found, ok := f.s.lastLocked(key, now); ok && !found.removed && key.Under(prefix) {
			out = append(out, clone(found.Fact))
		}
	}
	slices.SortFunc(out, func(a, b store.Fact) int { return cmp.Compare(a.Key, b.Key) })
	return out, nil
}

// Commit implements store.Facts.
func (f facts) Commit(ctx context.Context, b store.Batch) (store.Revision, error) {
	if err := b.Valid(); err != nil {
		return 0, err
	}
	what := "batch " + b.ID
	if err := f.s.lock(ctx, what); err != nil {
		return 0, err
	}
	defer f.s.mu.Unlock()
	now := f.s.nowLocked()
	if at, ok := f.s.answeredLocked(ackKey{id: b.ID}, now); ok {
		return at, nil
	}
	if err := f.s.guardLocked(b, now); err != nil {
		return 0, err
	}
	if err := f.s.writeLocked(what, entry{Time: now, ID: b.ID, Puts: puts(b.Puts)}); err != nil {
		return 0, err
	}
	return f.s.revision, nil
}

func puts(from []store.Put) []put {
	var out []put
	for _, p := range from {
		out = append(out, put{p.Key, p.Value, int64(store.WholeSeconds(p.TTL) / time.Second), p.Remove})
	}
	return out
}

func (s *Store) guardLocked(b store.Batch, now time.Time) error {
	checks := slices.Clone(b.Checks)
	for _, p := range b.Puts {
		if p.Expect != nil {
			checks = append(checks, store.Check{Key: p.Key, Expect: *p.Expect})
		}
	}
	for _, c := range checks {
		if last, _ := s.lastLocked(c.Key, now); last.Revision != c.Expect {
			return store.Conflict(c.Key)
		}
	}
	return nil
}

func (s *Store) putLocked(p put, now time.Time) {
	s.revision++
	written := fact{Fact: store.Fact{Key: p.Key, Revision: s.revision, Written: now}, removed: p.Remove}
	if !p.Remove {
		written.Value = slices.Clone(p.Value)
	}
	if p.TTLSeconds > 0 {
		written.expires = now.Add(time.Duration(p.TTLSeconds) * time.Second)
	}
	s.facts[p.Key] = written
}

// lastLocked is the last write of a key that has not expired; an expired one leaves no trace.
func (s *Store) lastLocked(key store.Key, now time.Time) (fact, bool) {
	found, ok := s.facts[key]
	if !ok || !found.expires.IsZero() && !now.Before(found.expires) {
		return fact{}, false
	}
	return found, true
}

func clone(f store.Fact) store.Fact {
	f.Value = slices.Clone(f.Value)
	return f
}
