package natsstore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// TestDeadVoter kills the voter of three that leads. While it is off, no other may be removed; it
// itself may, though it does not answer, and its machine comes back under a new incarnation.
func TestDeadVoter(t *testing.T) {
	c := natslab.StartCluster(t, 3)
	c.Promote(c.Machines[1])
	c.Promote(c.Machines[2])
	dead := c.Machines[0]
	s := c.Open(c.Machines[1])
	ready(t, s)
	w := startWriter(t, s)
	w.step(t, "the leader is killed", dead.Core.Kill)
	other := natsstore.PeerID(c.Machines[1].CoreConfig.Name)
	if err := s.RemoveVoter(within(t, natslab.Patience), other); api.CodeOf(err) != api.CodeStoreWouldLoseQuorum {
		t.Errorf("removing one that is needed: %v", err)
	}
	w.step(t, "the dead one is removed", func() {
		if err := s.RemoveVoter(within(t, natslab.Patience), natsstore.PeerID(dead.CoreConfig.Name)); err != nil {
			t.Fatal(err)
		}
		c.Forget(dead)
	})
	wantVoters(t, s, 2)
	w.step(t, "its machine joined again", func() { c.Promote(dead) })
	wantVoters(t, s, 3)
	w.finish(t, s)
}

// TestRouteSecretRotates changes the voters' secret under a writer.
func TestRouteSecretRotates(t *testing.T) {
	c := natslab.StartCluster(t, 3)
	c.Promote(c.Machines[1])
	c.Promote(c.Machines[2])
	s := c.Open(c.Machines[0])
	ready(t, s)
	w := startWriter(t, s)
	w.step(t, "the secret is changed", func() {
		c.RotateRouteSecret()
		wantVoters(t, s, 3)
	})
	w.finish(t, s)
}

// TestStaleLeader pauses the leader of three until another leads and has written, and asks it then: it
// may answer a read with what it knew, but its compare-and-set is never acknowledged.
func TestStaleLeader(t *testing.T) {
	c := natslab.StartCluster(t, 3)
	c.Promote(c.Machines[1])
	c.Promote(c.Machines[2])
	leader := leaderOf(t, c, c.Open(c.Machines[0]))
	s := c.Open(leader)
	old := leader.Open() // knows no other core
	ready(t, s)
	ready(t, old)
	seen := mustPut(t, s, "k", "1")
	mustPut(t, old, "other", "1") // vouches for a quorum
	leader.Core.Signal(pause)
	eventuallyPut(t, s, "k", "2")
	leader.Core.Signal(resume)
	b := batch("stale", put("k", "stale"))
	b.Puts[0].Expect = &seen
	for range 10 {
		if r, err := old.Facts().Commit(within(t, 2*time.Second), b); err == nil {
			t.Fatalf("the stale leader acknowledged revision %d", r)
		}
	}
	eventually(t, "the new value", func() error {
		f, err := s.Facts().Get(within(t, natslab.Patience), "k")
		if err == nil && string(f.Value) != "2" {
			err = fmt.Errorf("%s", f.Value)
		}
		return err
	})
}

// TestChaosOfVoters lets voters come, go, die and stall at random under a writer, for as long as
// PLOYZ_TEST_LONG has patience.
func TestChaosOfVoters(t *testing.T) {
	testenv.Require(t, testenv.Long)
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("PLOYZ_TEST_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("PLOYZ_TEST_SEED=%d", seed)
	chance := rand.New(rand.NewPCG(seed, 1))
	c := natslab.StartCluster(t, 5)
	s := c.Open(c.Machines[0])
	ready(t, s)
	w := startWriter(t, s)
	for _, m := range c.Machines[1:] {
		w.step(t, m.ID+" joined", func() { c.Promote(m) })
	}
	wantVoters(t, s, 5)
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
		victim := c.Voters[chance.IntN(len(c.Voters))]
		switch chance.IntN(4) {
		case 0:
			w.step(t, victim.ID+" killed", func() { victim.Core.Kill(); w.await(t, 3); victim.Core.Start() })
		case 1:
			w.step(t, victim.ID+" paused", func() {
				victim.Core.Signal(pause)
				w.await(t, 3)
				victim.Core.Signal(resume)
			})
		default:
			w.step(t, victim.ID+" left and joined", func() { c.Demote(victim); c.Promote(victim) })
		}
		settled(t, s, len(c.Voters))
	}
	for len(c.Voters) > 1 {
		leader := leaderOf(t, c, s)
		w.step(t, leader.ID+", that led, left", func() { c.Demote(leader) })
	}
	wantVoters(t, s, 1)
	w.finish(t, s)
}

// settled waits until every voter is there and current.
func settled(t *testing.T, s *natsstore.Store, n int) {
	t.Helper()
	eventually(t, "all voters current", func() error {
		topology, err := s.Settled(within(t, natslab.Patience))
		if err == nil && (len(topology.Voters) != n || len(topology.Statement()) != 1 || !topology.HasQuorum()) {
			err = fmt.Errorf("%q", topology.Statement())
		}
		return err
	})
}
