package sim

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

var (
	_ store.Facts = storeFacts{}
	_ store.Log   = storeLedger{}
)

// storeFacts is the store as one daemon reaches it: by name of the batch, some are refused, some not sent, of some
// the answer is lost, and some land long after they were given up. Calls take no time: see the package's
// comment.
type storeFacts struct {
	d     *daemon
	inner store.Facts
}

var errAway = errors.New("sim: the store cannot be reached")

// reach is nil when the daemon reaches the store now.
func (d *daemon) reach(what string) error {
	d.live()
	if d.w.storeAway(d.m.name) {
		return store.Unavailable(what, errAway)
	}
	return nil
}

func (f storeFacts) Get(ctx context.Context, key store.Key) (store.Fact, error) {
	if err := f.d.reach(string(key)); err != nil {
		return store.Fact{}, err
	}
	return f.inner.Get(ctx, key)
}

func (f storeFacts) List(ctx context.Context, prefix store.Key) ([]store.Fact, error) {
	if err := f.d.reach(string(prefix)); err != nil {
		return nil, err
	}
	return f.inner.List(ctx, prefix)
}

func (f storeFacts) Commit(ctx context.Context, b store.Batch) (store.Revision, error) {
	if err := f.d.reach(b.ID); err != nil {
		return 0, err
	}
	if f.d.paused() && strings.HasPrefix(b.ID, "renew-") {
		return 0, memstore.NeverSent()
	}
	w, d := f.d.w.weather(), f.d.w.dice
	switch {
	case d.chance(w.unsent, "unsent "+b.ID):
		return 0, memstore.NeverSent()
	case d.chance(w.rejected, "rejected "+b.ID) && strings.HasSuffix(b.ID, "-commit"):
		return 0, memstore.Rejected(b.Puts[0].Key)
	case d.chance(w.postponed, "postponed "+b.ID):
		f.postpone(b)
		return 0, memstore.ReplyLost()
	}
	rev, err := f.inner.Commit(ctx, b)
	if err == nil && d.chance(w.unheard, "unheard "+b.ID) {
		return 0, memstore.ReplyLost()
	}
	return rev, err
}

// postpone lets a batch land later, whoever sent it.
func (f storeFacts) postpone(b store.Batch) {
	after := f.d.w.dice.between(time.Millisecond, 40*time.Second, "postponed by "+b.ID)
	time.AfterFunc(after, func() {
		_, err := f.inner.Commit(context.Background(), b)
		f.d.w.note("postponed %s lands: %v", b.ID, err)
	})
}

// storeLedger is the ledger as one daemon reaches it.
type storeLedger struct {
	d *daemon
	store.Log
}

func (l storeLedger) Append(ctx context.Context, operation, id string, value []byte) (store.Revision, error) {
	if err := l.d.reach(operation); err != nil {
		return 0, err
	}
	at, err := l.Log.Append(ctx, operation, id, value)
	if err == nil && l.d.w.dice.chance(l.d.w.weather().unheard/4, "unheard "+operation+id) {
		return 0, memstore.ReplyLost()
	}
	return at, err
}

func (l storeLedger) History(ctx context.Context, operation string) ([]store.Record, error) {
	if err := l.d.reach(operation); err != nil {
		return nil, err
	}
	return l.Log.History(ctx, operation)
}
