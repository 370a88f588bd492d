package memstore

import (
	"context"
	"slices"

	"github.com/ployz/ployz/node/store"
)

type ledger struct{ s *Store }

func (l ledger) Append(ctx context.Context, operation, id string, value []byte) (store.Revision, error) {
	if err := store.ValidRecord(operation, id, value); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, store.Unavailable("the ledger", err)
	}
	hooks := l.s.currentHooks()
	if hooks.BeforeAppend != nil {
		if err := hooks.BeforeAppend(operation, id, value); err != nil {
			return 0, err
		}
	}
	at, fresh, err := l.s.append(operation, id, value)
	if err == nil && fresh && hooks.AfterAppend != nil {
		if err := hooks.AfterAppend(operation, id, at); err != nil {
			return 0, err
		}
	}
	return at, err
}

func (s *Store) append(operation, id string, value []byte) (_ store.Revision, fresh bool, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	if at, ok := s.records.find(operation+"/"+id, now); ok {
		return at, false, nil
	}
	if err := s.roomLocked("the ledger", len(operation)+len(value)); err != nil {
		return 0, false, err
	}
	at := store.Revision(len(s.ledger) + 1)
	s.ledger = append(s.ledger, store.Record{Operation: operation, Value: slices.Clone(value), Revision: at, Written: now})
	s.records[operation+"/"+id] = ack{at, now}
	s.wakeLocked()
	return at, true, nil
}

func (l ledger) History(ctx context.Context, operation string) ([]store.Record, error) {
	if err := store.ValidOperation(operation); err != nil {
		return nil, err
	}
	return l.read(ctx, operation, func(all []store.Record) (out []store.Record) {
		for _, r := range all {
			if r.Operation == operation {
				out = append(out, r)
			}
		}
		return out
	})
}

func (l ledger) Last(ctx context.Context, limit int) ([]store.Record, error) {
	return l.read(ctx, "", func(all []store.Record) (out []store.Record) {
		seen := map[string]bool{}
		for _, r := range slices.Backward(all) {
			if seen[r.Operation] || limit > 0 && len(out) == limit {
				continue
			}
			seen[r.Operation] = true
			out = append(out, r)
		}
		return out
	})
}

func (l ledger) read(ctx context.Context, what string, pick func([]store.Record) []store.Record) ([]store.Record, error) {
	if err := l.s.beforeRead(what); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, store.Unavailable("the ledger", err)
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	out := pick(l.s.ledger)
	for i := range out {
		out[i].Value = slices.Clone(out[i].Value)
	}
	return out, nil
}

func (l ledger) Follow(ctx context.Context, after store.Revision) (store.LogFeed, error) {
	if err := l.s.beforeRead(""); err != nil {
		return nil, err
	}
	return &logFeed{waiter: newWaiter(ctx, l.s), at: int(after)}, nil
}

// logFeed walks the ledger; at is the revision handed out last.
type logFeed struct {
	waiter
	at int
}

func (f *logFeed) Next(ctx context.Context) (store.Record, error) {
	var out store.Record
	err := f.wait(ctx, func() bool {
		if f.at >= len(f.s.ledger) {
			return false
		}
		out = f.s.ledger[f.at]
		out.Value = slices.Clone(out.Value)
		f.at++
		return true
	})
	return out, err
}
