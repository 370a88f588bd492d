package natsstore_test

import (
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
	"github.com/ployz/ployz/node/store/storetest"
)

// TestConformance runs the contract's suite over real servers: facts and ledger at the core, the
// view at the edge's mirror.
func TestConformance(t *testing.T) {
	m := natslab.Start(t)
	s := m.Open()
	ready(t, s)
	world := storetest.World{
		Facts: s.Facts(), View: s.View(), Log: s.Log(), Pass: time.Sleep,
		Small:  func(t *testing.T) storetest.World { return small(t, m) },
		Broken: func(t *testing.T, code api.Code) storetest.World { return broken(t, m, code) },
	}
	storetest.Run(t, func(*testing.T) storetest.World { return world })
}

// TestConformanceOfThreeVoters runs the suite where every write is replicated: guards, retries and
// refusals are judged by other code of the server there.
func TestConformanceOfThreeVoters(t *testing.T) {
	t.Parallel()
	c := natslab.StartCluster(t, 3)
	c.Promote(c.Machines[1])
	c.Promote(c.Machines[2])
	m := c.Machines[1]
	s := m.Open()
	ready(t, s)
	world := storetest.World{
		Facts: s.Facts(), View: s.View(), Log: s.Log(), Pass: time.Sleep,
		Small:  func(t *testing.T) storetest.World { return small(t, m) },
		Broken: func(t *testing.T, code api.Code) storetest.World { return broken(t, m, code) },
	}
	storetest.Run(t, func(*testing.T) storetest.World { return world })
	mustPut(t, s, "after", "all of it") // a replicated stream can be stopped by what it is sent
}

// TestMirrorLog runs no suite: the ledger's mirror lags by design. It must show what the core has.
func TestMirrorLog(t *testing.T) {
	m := natslab.Start(t)
	s := m.Open()
	ready(t, s)
	ctx := within(t, natslab.Patience)
	if _, err := s.MirrorLog().Append(ctx, "op-1", "1", []byte("opened")); err != nil {
		t.Fatal(err)
	}
	feed, err := s.MirrorLog().Follow(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	if r, err := feed.Next(ctx); err != nil || r.Operation != "op-1" || string(r.Value) != "opened" {
		t.Fatalf("%+v, %v", r, err)
	}
	m.Core.Kill()
	if all, err := s.MirrorLog().History(ctx, "op-1"); err != nil || len(all) != 1 {
		t.Fatalf("without the core: %v, %v", all, err)
	}
	if all, err := s.MirrorLog().Last(ctx, 5); err != nil || len(all) != 1 {
		t.Fatalf("without the core: %v, %v", all, err)
	}
}

func ready(t testing.TB, s *natsstore.Store) {
	t.Helper()
	ctx := within(t, natslab.Patience)
	if err := s.AwaitCore(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitEdge(ctx); err != nil {
		t.Fatal(err)
	}
}

func worldOf(s *natsstore.Store) storetest.World {
	return storetest.World{Facts: s.Facts(), View: s.View(), Log: s.Log()}
}

// small is another generation on the same core, with little room.
func small(t *testing.T, m *natslab.Machine) storetest.World {
	s := m.Open(func(c *natsstore.Config) { c.Generation = 2 })
	ctx := within(t, natslab.Patience)
	if err := s.AwaitCore(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateStreams(ctx, 1, natsstore.StreamSize{FactsBytes: 64 << 10, LedgerBytes: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	return worldOf(s)
}

// broken reaches its core through a proxy that eats acknowledgements, or not at all.
func broken(t *testing.T, m *natslab.Machine, code api.Code) storetest.World {
	s := m.Open(func(c *natsstore.Config) {
		c.Timeout = 500 * time.Millisecond
		if code == api.CodeStoreUncertain {
			c.CoreURLs = []string{"nats://" + ackEater(t, c.CoreURLs[0])}
			return
		}
		c.CoreURLs = []string{"nats://127.0.0.1:1"}
		c.EdgeURL = c.CoreURLs[0]
	})
	if code == api.CodeStoreUncertain {
		if err := s.AwaitCore(within(t, natslab.Patience)); err != nil {
			t.Fatal(err)
		}
	}
	return worldOf(s)
}
