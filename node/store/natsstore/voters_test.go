package natsstore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// three is a cluster whose three machines are all voters, that several tests share: each leaves it whole.
type three struct {
	c *natslab.Cluster
	s *natsstore.Store
}

// TestThreeVoters is the life of a whole group, but for its members' coming and going.
func TestThreeVoters(t *testing.T) {
	c := natslab.StartCluster(t, 3)
	c.Promote(c.Machines[1])
	c.Promote(c.Machines[2])
	f := three{c, c.Open(c.Machines[0])}
	ready(t, f.s)
	t.Run("the route secret changes", f.rotate)
	t.Run("a stale leader acknowledges nothing", f.staleLeader)
	t.Run("without a majority nothing hangs", f.leaderless)
	t.Run("mirrors follow the leader", f.mirrors)
	t.Run("a list is as new as the leader", f.lagging)
	t.Run("a dead voter is removed", f.deadVoter)
}

// rotate changes the voters' secret under a writer.
func (f three) rotate(t *testing.T) {
	w := startWriter(t, f.s)
	w.step(t, "the secret is changed", func() {
		f.c.RotateRouteSecret()
		settled(t, f.s, 3)
	})
	w.finish(t, f.s)
}

// staleLeader pauses the leader until another leads and has written, and asks it then: it may answer a
// read with what it knew, but its compare-and-set is never acknowledged.
func (f three) staleLeader(t *testing.T) {
	leader := leaderOf(t, f.c, f.s)
	old := leader.Open() // knows no other core
	ready(t, old)
	seen := mustPut(t, f.s, "k", "1")
	mustPut(t, old, "other", "1") // vouches for a quorum
	leader.Core.Signal(pause)
	eventuallyPut(t, f.s, "k", "2")
	leader.Core.Signal(resume)
	b := batch("stale", put("k", "stale"))
	b.Puts[0].Expect = &seen
	for range 10 {
		if r, err := old.Facts().Commit(within(t, 2*time.Second), b); err == nil {
			t.Fatalf("the stale leader acknowledged revision %d", r)
		}
	}
	eventually(t, "the new value", func() error {
		fact, err := f.s.Facts().Get(within(t, natslab.Patience), "k")
		if err == nil && string(fact.Value) != "2" {
			err = fmt.Errorf("%s", fact.Value)
		}
		return err
	})
	settled(t, f.s, 3)
}

// leaderless pauses two of three, also while a write vouches for a quorum, and wants reads and writes to end soon.
func (f three) leaderless(t *testing.T) {
	last := f.c.Machines[2]
	s := last.Open()
	ready(t, s)
	mustPut(t, s, "vouches", "1")
	for _, m := range f.c.Machines[:2] {
		m.Core.Signal(pause)
	}
	for what, c := range map[string]struct {
		within time.Duration
		do     func() error
	}{
		"a list": {9 * time.Second, func() error { _, err := s.Facts().List(t.Context(), "k"); return err }},
		"a read": {4 * time.Second, func() error { _, err := s.Facts().Get(t.Context(), "k"); return err }},
		"a write": {6 * time.Second, func() error {
			_, err := s.Facts().Commit(t.Context(), batch("leaderless", put("k", "lost")))
			return err
		}},
	} {
		begin := time.Now()
		err := c.do()
		if took := time.Since(begin); took > c.within {
			t.Errorf("%s took %s: %v", what, took, err)
		}
		if err != nil && !store.IsUnavailable(err) && !store.IsUncertain(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, m := range f.c.Machines[:2] {
		m.Core.Signal(resume)
	}
	settled(t, f.s, 3)
}

// viewWithin bounds how long a view may be stale once another voter leads and has written. By itself
// nats-server takes up to twenty seconds.
const viewWithin = 8 * time.Second

// mirrors stops the voter that leads, kills the next, and wants every view to follow.
func (f three) mirrors(t *testing.T) {
	for what, end := range map[string]func(*natslab.Server){"stopped": (*natslab.Server).Stop, "killed": (*natslab.Server).Kill} {
		leader := leaderOf(t, f.c, f.s)
		end(leader.Core)
		leader.Core.Start()
		eventuallyPut(t, f.s, "k", what)
		start := time.Now()
		var fact store.Fact
		eventually(t, "the last revision", func() (err error) {
			fact, err = f.s.Facts().Get(within(t, natslab.Patience), "k")
			return err
		})
		for _, m := range f.c.Machines {
			if err := f.c.Open(m).AwaitMirror(within(t, natslab.Patience), fact.Revision); err != nil {
				t.Fatal(err)
			}
		}
		took := time.Since(start)
		t.Logf("the leader was %s: every view is fresh %s after the first write", what, took.Round(time.Millisecond))
		if took > viewWithin {
			t.Errorf("it may take %s", viewWithin)
		}
		settled(t, f.s, 3)
	}
}

// lagging lists while a voter that was off catches up. The list is made on any voter, and may not lack what was told as
// committed before it.
func (f three) lagging(t *testing.T) {
	leader := leaderOf(t, f.c, f.s)
	late := f.c.Machines[slices.IndexFunc(f.c.Machines, func(m *natslab.Machine) bool { return m != leader })]
	late.Core.Kill()
	anotherLeads(t, f.s)
	const before, lists = 300, 60
	for n := range before {
		mustPut(t, f.s, store.Key(fmt.Sprintf("lagging.%d", n)), strings.Repeat("x", 8<<10))
	}
	late.Core.Start()
	for n := range lists {
		want := before + n + 1
		mustPut(t, f.s, store.Key(fmt.Sprintf("lagging.%d", before+n)), "1")
		list, err := f.s.Facts().List(within(t, natslab.Patience), "lagging")
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != want {
			t.Fatalf("list %d has %d facts of %d", n, len(list), want)
		}
		if err := f.s.Verify(within(t, natslab.Patience)); err != nil {
			t.Fatal(err)
		}
	}
	settled(t, f.s, 3)
}

// deadVoter kills the voter that leads. While it is off, no other may be removed; it itself may, though it
// does not answer, and its machine comes back under a new incarnation.
func (f three) deadVoter(t *testing.T) {
	dead := leaderOf(t, f.c, f.s)
	w := startWriter(t, f.s)
	w.step(t, "the leader is killed", func() {
		dead.Core.Kill()
		anotherLeads(t, f.s)
	})
	for _, v := range f.c.Voters {
		if v == dead {
			continue
		}
		err := f.s.RemoveVoter(within(t, natslab.Patience), natsstore.PeerID(v.CoreConfig.Name))
		if api.CodeOf(err) != api.CodeStoreWouldLoseQuorum {
			t.Errorf("removing one that is needed: %v", err)
		}
	}
	w.step(t, "the dead one is removed", func() {
		if err := f.s.RemoveVoter(within(t, natslab.Patience), natsstore.PeerID(dead.CoreConfig.Name)); err != nil {
			t.Fatal(err)
		}
		f.c.Forget(dead)
	})
	wantVoters(t, f.s, 2)
	w.step(t, "its machine joined again", func() { f.c.Promote(dead) })
	wantVoters(t, f.s, 3)
	w.finish(t, f.s)
}

// anotherLeads waits until the group has a leader that answers.
func anotherLeads(t *testing.T, s *natsstore.Store) {
	t.Helper()
	eventually(t, "another leader", func() error {
		topology, err := s.Topology(within(t, natslab.Patience))
		if err == nil && !topology.HasQuorum() {
			err = fmt.Errorf("%q", topology.Statement())
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
		settled(t, s, len(c.Voters))
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
