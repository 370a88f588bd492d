package natsstore_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// halfDeaf loses the answers to its commits while it is deaf: they land all the same.
type halfDeaf struct {
	store.Facts
	lost store.Facts
	deaf atomic.Bool
}

func (h *halfDeaf) Commit(ctx context.Context, b store.Batch) (store.Revision, error) {
	if h.deaf.Load() {
		return h.lost.Commit(ctx, b)
	}
	return h.Facts.Commit(ctx, b)
}

// TestReleaseAnswerLost: a release whose answer was lost is known again by the servers when it is sent once more, by itself
// and with what is written with it, also after another has taken the scope: that one keeps it.
func TestReleaseAnswerLost(t *testing.T) {
	t.Parallel()
	m := natslab.Start(t)
	s := m.Open()
	ready(t, s)
	lost := m.Open(func(c *natsstore.Config) {
		c.Timeout = 500 * time.Millisecond
		c.CoreURLs = []string{"nats://" + ackEater(t, c.CoreURLs[0])}
	})
	if err := lost.AwaitCore(within(t, natslab.Patience)); err != nil {
		t.Fatal(err)
	}
	facts := &halfDeaf{Facts: s.Facts(), lost: lost.Facts()}
	leases := &coordination.Leases{Facts: facts}
	for name, puts := range map[string][]store.Put{"alone": nil, "with-a-put": {put("ns.release.a", "it")}} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t, natslab.Patience)
			take := func(operation string) *coordination.Lease {
				lease, err := leases.Acquire(ctx, name, coordination.Holder{Operation: name + operation})
				if err != nil {
					t.Fatal(err)
				}
				return lease
			}
			lease := take("1")
			facts.deaf.Store(true)
			if err := lease.Release(ctx, puts...); !store.IsUncertain(err) {
				t.Fatalf("without an answer: %v", err)
			}
			facts.deaf.Store(false)
			other := take("2")
			if err := lease.Release(ctx, puts...); err != nil {
				t.Errorf("once more: %v", err)
			}
			if _, err := other.Commit(ctx, batch(name, put("ns.release.b", "it"))); err != nil {
				t.Errorf("the other's commit: %v", err)
			}
			if err := other.Release(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}
