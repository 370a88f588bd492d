package natsstore_test

import (
	"testing"
	"time"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// viewWithin bounds how long a machine's view may be stale after the voter that led is gone: an election
// takes up to nine seconds, and the mirror must find its new leader soon after. By itself it takes twenty.
const viewWithin = 7 * time.Second

// TestMirrorsFollowTheLeader takes away the voter that leads, twice in peace and once by killing it, and
// wants every mirror to follow the next soon after the first write.
func TestMirrorsFollowTheLeader(t *testing.T) {
	c := natslab.StartCluster(t, 3)
	c.Promote(c.Machines[1])
	c.Promote(c.Machines[2])
	s := c.Open(c.Machines[0])
	ready(t, s)
	for _, away := range []func(*natslab.Machine){
		c.Demote,
		func(m *natslab.Machine) { m.Core.Stop(); m.Core.Start() },
		func(m *natslab.Machine) { m.Core.Kill(); m.Core.Start() },
	} {
		away(leaderOf(t, c, s))
		eventuallyPut(t, s, "k", time.Now().String())
		start := time.Now()
		last := lastRevision(t, s)
		for _, m := range c.Machines {
			if err := c.Open(m).AwaitMirror(within(t, natslab.Patience), last); err != nil {
				t.Fatal(err)
			}
		}
		took := time.Since(start)
		t.Logf("every mirror is fresh after %s", took.Round(time.Millisecond))
		if took > viewWithin {
			t.Errorf("the mirrors took %s, at most %s", took, viewWithin)
		}
	}
}

func lastRevision(t *testing.T, s *natsstore.Store) (last store.Revision) {
	t.Helper()
	eventually(t, "the last revision", func() error {
		f, err := s.Facts().Get(within(t, natslab.Patience), "k")
		last = f.Revision
		return err
	})
	return last
}
