package natsstore_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// TestVoterReplaced gives the seat of the voter that leads to a fourth machine, alive and dead, under a writer: the
// copies move, and there are never more than three. PLOYZ_TEST_LONG does it twenty times.
func TestVoterReplaced(t *testing.T) {
	rounds := 1
	if testenv.Long.Missing() == "" {
		rounds = 20
	}
	c := natslab.StartCluster(t, 4)
	c.Promote(c.Machines[1])
	c.Promote(c.Machines[2])
	s := c.Open(c.Machines[0])
	ready(t, s)
	for round := range rounds {
		leader, free := leaderOf(t, c, s), without(c.Machines, c.Voters)
		w := startWriter(t, s)
		w.step(t, fmt.Sprint(round, ": ", leader.ID, ", that leads, makes room for ", free.ID), func() {
			c.Seat(free, 3)
			c.Demote(leader)
		})
		wantVoters(t, s, 3)
		dead := leaderOf(t, c, s)
		w.step(t, fmt.Sprint(round, ": ", dead.ID, ", that leads, dies, and makes room for ", leader.ID), func() {
			dead.Core.Kill()
			anotherLeads(t, s)
			c.Seat(leader, 3)
			if err := s.RemoveVoter(within(t, natslab.Patience), natsstore.PeerID(dead.CoreConfig.Name)); err != nil {
				t.Fatal(err)
			}
			c.Forget(dead)
		})
		wantVoters(t, s, 3)
		w.finish(t, s)
	}
}

// without returns the one machine that has no vote.
func without(all, voters []*natslab.Machine) *natslab.Machine {
	for _, m := range all {
		if !slices.Contains(voters, m) {
			return m
		}
	}
	return nil
}
