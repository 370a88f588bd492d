package store

import (
	"context"
	"time"
)

// View reads the machine's own mirror of the facts. It works when the machine is cut off, and
// says how fresh it is rather than failing.
type View interface {
	// Get is Facts.Get on the mirror. Errors: store.not-found, store.unavailable (the edge is down).
	Get(ctx context.Context, key Key) (Fact, error)
	// List is Facts.List on the mirror.
	List(ctx context.Context, prefix Key) ([]Fact, error)
	// Follow delivers the last fact of every key under prefix, then every later change, in
	// order, until ctx ends. Errors: store.unavailable.
	Follow(ctx context.Context, prefix Key) (Feed, error)
	// Freshness reports how far the mirror can be trusted to be current.
	Freshness(ctx context.Context) (Freshness, error)
}

// Feed is one consumer's ordered stream of changes.
type Feed interface {
	// Next waits for a change. It returns store.unavailable once the feed cannot continue
	// without a gap; the consumer then opens a new one and rebuilds.
	Next(ctx context.Context) (Change, error)
	Close() error
}

// Change is one step of a feed.
type Change struct {
	Fact    Fact
	Removed bool
	// Current marks the change that completes the view as it was when the feed was opened.
	// A feed over an empty prefix starts with a Current change that has no key.
	Current bool
}

// Freshness is an observation of the mirror; never stored.
type Freshness struct {
	Generation uint64
	// Last is the revision the mirror holds.
	Last Revision
	// Active is the time since the mirror last heard from its origin, by data or heartbeat.
	Active time.Duration
	// Fresh is the verdict; Why is empty exactly when it is true.
	Fresh bool
	Why   string
}
