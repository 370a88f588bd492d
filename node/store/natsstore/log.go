package natsstore

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// ledger reads at one of the two servers; it appends at the core always.
type ledger struct {
	s    *Store
	read *link
}

// Log returns the ledger as the core has it: for decisions.
func (s *Store) Log() store.Log { return ledger{s, s.core} }

// MirrorLog returns the ledger as the machine's own mirror has it: for showing, also when cut off.
// Append goes to the core all the same.
func (s *Store) MirrorLog() store.Log { return ledger{s, s.edge} }

func (l ledger) stream() string  { return natsconf.LedgerStream(l.s.cfg.Generation) }
func (l ledger) subject() string { return natsconf.LedgerSubject(l.s.cfg.Generation) }

// Append implements store.Log.
func (l ledger) Append(ctx context.Context, operation, id string, value []byte) (store.Revision, error) {
	if err := store.ValidRecord(operation, id, value); err != nil {
		return 0, err
	}
	what := "the ledger entry of " + operation
	if err := l.s.writable(ctx, what); err != nil {
		return 0, err
	}
	m := nats.NewMsg(l.subject() + operation)
	m.Data = value
	m.Header.Set(headerMsgID, operation+"/"+id)
	ack, err := l.s.ack(ctx, m)
	if err != nil {
		return 0, writeError(what, err)
	}
	l.s.wrote.Store(time.Now().UnixNano())
	return store.Revision(ack.Sequence), nil
}

// History implements store.Log.
func (l ledger) History(ctx context.Context, operation string) ([]store.Record, error) {
	if err := store.ValidOperation(operation); err != nil {
		return nil, err
	}
	out, err := l.collect(ctx, l.subject()+operation, "all")
	if err != nil {
		return nil, unavailable("the ledger of "+operation, err)
	}
	return out, nil
}

// Last implements store.Log.
func (l ledger) Last(ctx context.Context, limit int) ([]store.Record, error) {
	out, err := l.collect(ctx, l.subject()+">", "last_per_subject")
	if err != nil {
		return nil, unavailable("the ledger", err)
	}
	last := map[string]store.Record{}
	for _, r := range out { // an operation that went on meanwhile shows up twice
		last[r.Operation] = r
	}
	out = out[:0]
	for _, r := range last {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b store.Record) int { return cmp.Compare(b.Revision, a.Revision) })
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out, nil
}

func (l ledger) collect(ctx context.Context, subject, policy string) (out []store.Record, err error) {
	err = upToDate(ctx,
		func(ctx context.Context) (uint64, error) { return l.read.newest(ctx, l.stream(), subject) },
		func(ctx context.Context, upTo uint64) error {
			out = nil
			return l.read.snapshot(ctx, l.stream(), []string{subject}, policy, upTo, func(m *nats.Msg, meta *nats.MsgMetadata) {
				out = append(out, l.record(m, meta))
			})
		})
	return out, err
}

func (l ledger) record(m *nats.Msg, meta *nats.MsgMetadata) store.Record {
	return store.Record{
		Operation: strings.TrimPrefix(m.Subject, l.subject()), Value: m.Data,
		Revision: store.Revision(meta.Sequence.Stream), Written: meta.Timestamp,
	}
}

// Follow implements store.Log.
func (l ledger) Follow(ctx context.Context, after store.Revision) (store.LogFeed, error) {
	t, err := openTail(ctx, l.read, l.stream(), []string{l.subject() + ">"}, uint64(after))
	if err != nil {
		return nil, unavailable("the ledger", err)
	}
	return logFeed{l, t}, nil
}

type logFeed struct {
	l ledger
	t *tail
}

// Next implements store.LogFeed.
func (f logFeed) Next(ctx context.Context) (store.Record, error) {
	m, meta, err := f.t.next(ctx)
	if err != nil {
		return store.Record{}, err
	}
	return f.l.record(m, meta), nil
}

// Close implements store.LogFeed.
func (f logFeed) Close() error {
	f.t.close()
	return nil
}
