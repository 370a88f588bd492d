package memstore

import (
	"errors"

	"github.com/ployz/ployz/node/store"
)

// Hooks break the store on purpose. Each may be nil. A Before hook that returns an error ends
// the write with that error and nothing written; an After hook runs when the write has landed,
// and its error is returned in place of the acknowledgement. Hooks run without the store's lock,
// so they may read and write the store themselves: that is how a competing commit is put between
// another one's reading and its commit. A hook is also the place to panic or to cancel a context, which
// stands for a coordinator that was killed there.
//
//	ending                             hook
//	rejected, nothing written          BeforeCommit: return Rejected(key)
//	never sent                         BeforeCommit: return NeverSent()
//	sent, lost on the way              BeforeCommit: return ReplyLost()
//	landed with the reply lost         AfterCommit:  return ReplyLost()
type Hooks struct {
	// BeforeCommit sees every valid batch before its guards are judged.
	BeforeCommit func(store.Batch) error
	// AfterCommit sees every batch that was written, with the revision of its last put. It does
	// not run for a retry that was recognised.
	AfterCommit func(store.Batch, store.Revision) error
	// BeforeAppend sees every valid ledger record before it is written.
	BeforeAppend func(operation, id string, value []byte) error
	// AfterAppend sees every ledger record that was written.
	AfterAppend func(operation, id string, at store.Revision) error
	// BeforeRead sees every Get, List, History, Last and Follow on any face, with its key,
	// prefix or operation.
	BeforeRead func(what string) error
}

// SetHooks replaces all hooks; the zero value takes them away.
func (s *Store) SetHooks(h Hooks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = h
}

func (s *Store) currentHooks() Hooks {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hooks
}

func (s *Store) beforeRead(what string) error {
	if h := s.currentHooks().BeforeRead; h != nil {
		return h(what)
	}
	return nil
}

var errInjected = errors.New("memstore: broken on purpose")

// Rejected is the error of a guard that did not hold.
func Rejected(key store.Key) error { return store.Conflict(key) }

// NeverSent is the error of a write that did not reach the store.
func NeverSent() error { return store.Unavailable("the write", errInjected) }

// ReplyLost is the error of a write whose answer did not come.
func ReplyLost() error { return store.Uncertain("the write", errInjected) }
