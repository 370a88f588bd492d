package filestore

import (
	"context"
	"os"
	"slices"

	"github.com/ployz/ployz/node/store"
)

// record is a ledger record with the id it was appended under. The one of revision r is at r-1.
type record struct {
	store.Record
	id string
}

type ledger struct{ s *Store }

// Append implements store.Log.
func (l ledger) Append(ctx context.Context, operation, id string, value []byte) (store.Revision, error) {
	if err := store.ValidRecord(operation, id, value); err != nil {
		return 0, err
	}
	what := "the ledger entry of " + operation
	if err := l.s.lock(ctx, what); err != nil {
		return 0, err
	}
	defer l.s.mu.Unlock()
	now := l.s.nowLocked()
	if at, ok := l.s.answeredLocked(ackKey{operation, id}, now); ok {
		return at, nil
	}
	if err := l.s.writeLocked(what, entry{Time: now, ID: id, Operation: operation, Value: value}); err != nil {
		return 0, err
	}
	return store.Revision(len(l.s.records)), nil
}

func (s *Store) recordLocked(e entry) store.Revision {
	at := store.Revision(len(s.records) + 1)
	s.records = append(s.records, record{store.Record{Operation: e.Operation, Value: slices.Clone(e.Value), Revision: at, Written: e.Time}, e.ID})
	return at
}

// all returns every record in order; the caller may keep the values.
func (l ledger) all(ctx context.Context) ([]record, error) {
	if err := l.s.lock(ctx, "the ledger"); err != nil {
		return nil, err
	}
	defer l.s.mu.Unlock()
	out := slices.Clone(l.s.records)
	for i := range out {
		out[i].Value = slices.Clone(out[i].Value)
	}
	return out, nil
}

// History implements store.Log.
func (l ledger) History(ctx context.Context, operation string) ([]store.Record, error) {
	if err := store.ValidOperation(operation); err != nil {
		return nil, err
	}
	all, err := l.all(ctx)
	var out []store.Record
	for _, r := range all {
		if r.Operation == operation {
			out = append(out, r.Record)
		}
	}
	return out, err
}

// Last implements store.Log.
func (l ledger) Last(ctx context.Context, limit int) ([]store.Record, error) {
	all, err := l.all(ctx)
	var out []store.Record
	seen := map[string]bool{}
	for _, r := range slices.Backward(all) {
		if seen[r.Operation] || limit > 0 && len(out) == limit {
			continue
		}
		seen[r.Operation] = true
		out = append(out, r.Record)
	}
	return out, err
}

// Follow implements store.Log.
func (l ledger) Follow(ctx context.Context, after store.Revision) (store.LogFeed, error) {
	if err := l.s.lock(ctx, "the ledger"); err != nil {
		return nil, err
	}
	defer l.s.mu.Unlock()
	open, closeFeed := context.WithCancelCause(ctx)
	return &feed{s: l.s, open: open, close: closeFeed, at: after}, nil
}

// feed walks the ledger; at is the revision handed out last.
type feed struct {
	s     *Store
	open  context.Context
	close context.CancelCauseFunc
	at    store.Revision
}

// Next implements store.LogFeed.
func (f *feed) Next(ctx context.Context) (store.Record, error) {
	for {
		next, moved, err := f.take()
		if err != nil || moved == nil {
			return next, err
		}
		select {
		case <-moved:
		case <-f.open.Done():
		case <-ctx.Done():
			return store.Record{}, ctx.Err()
		}
	}
}

// take returns the next record, or what to wait on.
func (f *feed) take() (store.Record, <-chan struct{}, error) {
	if f.open.Err() != nil {
		return store.Record{}, nil, store.Unavailable("the feed", context.Cause(f.open))
	}
	if err := f.s.lock(f.open, "the feed"); err != nil {
		return store.Record{}, nil, err
	}
	defer f.s.mu.Unlock()
	if f.at >= store.Revision(len(f.s.records)) {
		return store.Record{}, f.s.moved, nil
	}
	next := f.s.records[f.at].Record
	next.Value = slices.Clone(next.Value)
	f.at++
	return next, nil, nil
}

// Close implements store.LogFeed.
func (f *feed) Close() error {
	f.close(os.ErrClosed)
	return nil
}
