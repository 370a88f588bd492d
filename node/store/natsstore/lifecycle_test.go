package natsstore_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// running is a writer at work beside a test, with the longest time between two acknowledgements.
type running struct {
	*writer
	stop func()
}

func startWriter(t *testing.T, s *natsstore.Store) *running {
	t.Helper()
	w := &writer{s: s}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { w.run(ctx) })
	r := &running{w, func() { cancel(); done.Wait() }}
	t.Cleanup(r.stop)
	w.await(t, 5)
	return r
}

// step does something under the writer and says how long it took, and the worst gap meanwhile.
func (r *running) step(t *testing.T, what string, do func()) {
	t.Helper()
	start := time.Now()
	r.mu.Lock()
	r.worst, r.last = 0, time.Now()
	r.mu.Unlock()
	do()
	r.await(t, 3)
	r.mu.Lock()
	defer r.mu.Unlock()
	t.Logf("%-34s %7s, worst gap %s", what, time.Since(start).Round(time.Millisecond), r.worst.Round(time.Millisecond))
}

func (r *running) finish(t *testing.T, s *natsstore.Store) {
	t.Helper()
	r.stop()
	var facts []store.Fact
	eventually(t, "reading all facts", func() (err error) {
		facts, err = s.Facts().List(within(t, natslab.Patience), "")
		return err
	})
	r.judge(t, facts)
}

func eventually(t *testing.T, what string, do func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(natslab.Patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = do(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// TestVotersComeAndGo goes from 1 voter to 5 and back to 1 under a writer, always removing the one that leads, while every
// edge keeps its process and its mirror.
func TestVotersComeAndGo(t *testing.T) {
	t.Parallel()
	c := natslab.StartCluster(t, 5)
	s := c.Open(c.Machines[0])
	ready(t, s)
	core, edges := c.Machines[0].Core.PID(), pids(c)
	w := startWriter(t, s)
	for _, m := range c.Machines[1:] {
		w.step(t, fmt.Sprintf("%d voters, %s joined", len(c.Voters)+1, m.ID), func() { c.Promote(m) })
		wantVoters(t, s, len(c.Voters))
		if leader := leaderOf(t, c, s); leader != c.Machines[0] {
			t.Errorf("the leadership went to %s: a newcomer disturbed the group", leader.ID)
		}
	}
	if c.Machines[0].Core.PID() != core {
		t.Error("the first core was restarted")
	}
	for len(c.Voters) > 1 {
		leader := leaderOf(t, c, s)
		w.step(t, fmt.Sprintf("%d voters, %s, that led, left", len(c.Voters)-1, leader.ID), func() { c.Demote(leader) })
		wantVoters(t, s, len(c.Voters))
	}
	w.finish(t, s)
	if got := pids(c); got != edges {
		t.Errorf("edges were restarted: %s, before %s", got, edges)
	}
	for _, m := range c.Machines {
		eventuallyVerified(t, c.Open(m))
	}
}

func pids(c *natslab.Cluster) string {
	out := ""
	for _, m := range c.Machines {
		out += fmt.Sprint(m.Edge.PID(), " ")
	}
	return out
}

func leaderOf(t *testing.T, c *natslab.Cluster, s *natsstore.Store) *natslab.Machine {
	t.Helper()
	var found *natslab.Machine
	eventually(t, "a leader", func() error {
		topology, err := s.Topology(within(t, natslab.Patience))
		for _, m := range c.Voters {
			if m.CoreConfig.Name == topology.Leader {
				found = m
				return err
			}
		}
		return fmt.Errorf("%+v, %v", topology, err)
	})
	return found
}

// wantVoters wants a whole group of that size, and a statement about it.
func wantVoters(t *testing.T, s *natsstore.Store, n int) {
	t.Helper()
	topology, err := s.Settled(within(t, natslab.Patience))
	if err != nil {
		t.Fatal(err)
	}
	if len(topology.Voters) != n || topology.Quorum != n/2+1 || !topology.HasQuorum() || len(topology.Statement()) != 1 {
		t.Errorf("want %d voters: %+v\n%q", n, topology, topology.Statement())
	}
	for _, v := range topology.Voters {
		if !v.Online || !v.Current || !v.Answers || natsstore.PeerID(v.Name) != v.Peer {
			t.Errorf("voter %+v", v)
		}
	}
	for _, copies := range topology.Streams {
		if copies.Want != n || len(copies.Replicas) != n {
			t.Errorf("with %d voters: %+v", n, copies)
		}
	}
}

const (
	pause  = syscall.SIGSTOP
	resume = syscall.SIGCONT
)
