package store

import (
	"context"
	"time"
)

// Revision is the position of a write in the store's one order of facts. It only grows, also
// across all keys, and 0 means "never written".
type Revision uint64

// Fact is the last value written under a key.
type Fact struct {
	Key      Key
	Value    []byte
	Revision Revision
	Written  time.Time
}

// Put is one write of a batch.
type Put struct {
	Key   Key
	Value []byte
	// Expect, when set, guards the write: the batch is refused unless the key's last write,
	// a removal included, has exactly this revision (0: never written, or expired). Take it
	// from Get, which returns the revision also with store.not-found.
	Expect *Revision
	// TTL lets the fact vanish by itself without a trace; 0 keeps it. Whole seconds, rounded up.
	// Used by leases and tokens. A removal with a TTL is forgotten by machines that were cut off for longer than
	// that, unless the removed value had a shorter one: removals of facts meant to last keep 0.
	TTL time.Duration
	// Remove writes a removal instead of a value: readers see the key as absent.
	Remove bool
}

// Check guards a batch by a key that the batch does not write: a lease, mostly.
type Check struct {
	Key    Key
	Expect Revision
}

// Batch is all-or-nothing: every Put is written and every guard held, or nothing happened.
type Batch struct {
	// ID makes a retry recognisable: the same batch sent again within ten minutes is
	// acknowledged as the first one was and not written twice. A refused batch leaves no trace,
	// so its ID may be used again. Required, at most MaxIDBytes.
	ID     string
	Puts   []Put
	Checks []Check
}

// Facts reads from and writes to the store's leader.
type Facts interface {
	// Get returns the last fact of a key. Errors: store.not-found (the returned Fact then
	// still carries the revision of a removal, for use as Put.Expect), store.unavailable.
	Get(ctx context.Context, key Key) (Fact, error)
	// List returns the live facts under a prefix, ordered by key. Errors: store.unavailable.
	List(ctx context.Context, prefix Key) ([]Fact, error)
	// Commit writes a batch and returns the revision of its last put. Errors: store.conflict (a
	// guard did not hold: nothing written), store.full and store.too-large (nothing written),
	// store.unavailable (not sent, nothing written), store.uncertain (sent, no answer: it may yet
	// land, also later; send the same batch again or look for its ID in what it wrote),
	// request.malformed (see Batch.Valid).
	Commit(ctx context.Context, batch Batch) (Revision, error)
}

// Expect is shorthand for a guard in a literal.
func Expect(r Revision) *Revision { return &r }
