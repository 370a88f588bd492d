// Package memstore is the store contract in memory, for tests of what stands on it.
//
// It obeys node/store as strictly as the real one does: storetest runs over both. It needs
// nothing, starts at once, takes its time from a function, and breaks on request (see Hooks), so
// that an operation can be tried against every way in which a commit can end. Nothing survives it.
package memstore

import (
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Config makes a Store; its zero value is a working one.
type Config struct {
	// Clock is the time by which facts expire and IDs are forgotten; nil is the real one.
	Clock func() time.Time
	// MaxBytes bounds keys and values together; 0 is no bound.
	MaxBytes int
	// Generation is what Freshness reports; 0 means 1.
	Generation uint64
}

// Store holds facts and a ledger. Its three faces are Facts, View and Log; all share one state.
type Store struct {
	clock      func() time.Time
	maxBytes   int
	generation uint64

	mu sync.Mutex
	// All below is guarded by mu.
	hooks    Hooks
	stale    string
	revision store.Revision
	facts    map[store.Key]entry
	changes  []store.Change // every change since the start, in order
	batches  acks
	ledger   []store.Record
	records  acks
	moved    chan struct{} // closed and replaced whenever changes or ledger grow
}

// entry is the last write under a key; a removal stays as one until it expires.
type entry struct {
	fact    store.Fact
	removed bool
	expires time.Time // zero: never
}

// New returns an empty store.
func New(c Config) *Store {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Generation == 0 {
		c.Generation = 1
	}
	return &Store{
		clock: c.Clock, maxBytes: c.MaxBytes, generation: c.Generation,
		facts: map[store.Key]entry{}, batches: acks{}, records: acks{}, moved: make(chan struct{}),
	}
}

// Facts returns the leader's face.
func (s *Store) Facts() store.Facts { return facts{s} }

// View returns the mirror's face. This mirror never lags.
func (s *Store) View() store.View { return view{s} }

// Log returns the ledger's face. Its revisions are its own.
func (s *Store) Log() store.Log { return ledger{s} }

// SetStale makes Freshness say why the view is not fresh; "" makes it fresh again.
func (s *Store) SetStale(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = why
}

func (s *Store) wakeLocked() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// acks remembers which IDs were acknowledged with which revision, for store.DedupeWindow.
type acks map[string]ack

type ack struct {
	revision store.Revision
	at       time.Time
}

func (a acks) find(id string, now time.Time) (store.Revision, bool) {
	found, ok := a[id]
	if !ok || now.Sub(found.at) >= store.DedupeWindow {
		return 0, false
	}
	return found.revision, true
}

func (s *Store) sizeLocked() int {
	n := 0
	for k, e := range s.facts {
		n += len(k) + len(e.fact.Value)
	}
	for _, r := range s.ledger {
		n += len(r.Operation) + len(r.Value)
	}
	return n
}

func (s *Store) roomLocked(what string, more int) error {
	if s.maxBytes == 0 || s.sizeLocked()+more <= s.maxBytes {
		return nil
	}
	return store.Full(what, api.Errorf(api.CodeStoreFull, "%d bytes are the most", s.maxBytes))
}
