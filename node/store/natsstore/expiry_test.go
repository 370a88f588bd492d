package natsstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// TestExpiryOutlivesKills kills both servers while facts run out. However little of it a server remembers, nobody may see
// a fact for long after its end: a lease that stayed would lock its scope for ever.
func TestExpiryOutlivesKills(t *testing.T) {
	m := natslab.Start(t)
	s := m.Open()
	ready(t, s)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for round := range 2 {
		for i := range 20 {
			hold(t, s, fmt.Sprintf("round-%d.%d", round, i), time.Duration(1+i%3)*time.Second)
		}
		for range 3 {
			time.Sleep(time.Duration(random.Int64N(int64(1500 * time.Millisecond)))) // any moment is a good one
			m.Edge.Kill()
			m.Core.Kill()
			m.Core.Start()
			m.Edge.Start()
		}
		ready(t, s)
	}
	eventually(t, "no lease to be left", func() error {
		for name, reader := range map[string]interface {
			List(ctx context.Context, prefix store.Key) ([]store.Fact, error)
		}{"leader": s.Facts(), "mirror": s.View()} {
			left, err := reader.List(within(t, natslab.Patience), store.Leases())
			if err != nil {
				return err
			}
			if len(left) > 0 {
				return fmt.Errorf("the %s still has %d, %v among them, written %s ago", name, len(left), left[0].Key, time.Since(left[0].Written))
			}
		}
		return nil
	})
}

// hold takes a lease that nobody renews.
func hold(t *testing.T, s *natsstore.Store, scope string, ttl time.Duration) {
	t.Helper()
	eventually(t, "a lease", func() error {
		_, err := s.Facts().Commit(within(t, natslab.Patience), store.Batch{
			ID: scope, Puts: []store.Put{{Key: store.Lease(scope), Value: []byte("held"), TTL: ttl}},
		})
		return err
	})
}
