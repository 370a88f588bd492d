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
	// Follow delivers the last fact of every key under prefix, then every later change, in order
	// of revision, until ctx ends. Between two reads it may skip a value that was already
	// overwritten, never the last one. An expiry is not a write and therefore not a change: Get
	// and List show it, a feed does not. Errors: store.unavailable.
	Follow(ctx context.Context, prefix Key) (Feed, error)
	// Freshness reports how far the mirror can be trusted to be current.
	Freshness(ctx context.Context) (Freshness, error)
}

// Feed is one consumer's ordered stream of changes.
type Feed interface {
	// Next waits for a change; when its ctx ends it returns that context's error and the feed
	// stays usable. It returns store.unavailable once the feed cannot continue without a gap, or
	// was closed; the consumer then opens a new one and rebuilds.
	Next(ctx context.Context) (Change, error)
	Close() error
}

// Change is one step of a feed.
type Change struct {
	Fact    Fact
	Removed bool
	// Current marks, once per feed, the change that completes the view as it was when the feed
	// was opened. Where no fact is left to carry the mark (an empty prefix, or the last one
	// expired meanwhile) a change without a key does. A removal from before the feed was opened
	// may show up as Removed before the mark.
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
