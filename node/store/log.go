package store

import (
	"context"
	"time"
)

// Record is one entry of the ledger.
type Record struct {
	Operation string
	Value     []byte
	Revision  Revision
	Written   time.Time
}

// Log is the durable, append-only ledger: many records per operation, in order. It is a stream of its own,
// so its revisions are not those of Facts.
type Log interface {
	// Append writes one record, durable on return. id, unique within the operation, makes a retry
	// recognisable for ten minutes: it is acknowledged with the first one's revision. Errors:
	// store.unavailable, store.uncertain, store.full, store.too-large, request.malformed (the
	// operation is not one token of a key, or id is empty or too long).
	Append(ctx context.Context, operation, id string, value []byte) (Revision, error)
	// History returns the records of one operation in order; none is not an error.
	History(ctx context.Context, operation string) ([]Record, error)
	// Last returns the last record of every operation, newest first, at most limit (0: all).
	Last(ctx context.Context, limit int) ([]Record, error)
	// Follow delivers every record after the given revision, in order, until ctx ends.
	Follow(ctx context.Context, after Revision) (LogFeed, error)
}

// LogFeed is one consumer's stream of ledger records.
type LogFeed interface {
	// Next waits for a record; store.unavailable when the feed cannot continue without a gap.
	Next(ctx context.Context) (Record, error)
	Close() error
}
