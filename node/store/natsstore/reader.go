package natsstore

import (
	"github.com/ployz/ployz/node/store"
)

// Reading is a Store's view that is closed with its connections: for a process that only reads, and opens another one
// when the cluster begins a new generation.
type Reading struct {
	store.View
	s *Store
}

// Reading returns such a view. The Store must not be used for anything else.
func (s *Store) Reading() Reading { return Reading{s.View(), s} }

// Close ends the connections; feeds end with store.unavailable.
func (r Reading) Close() error {
	r.s.Close()
	return nil
}
