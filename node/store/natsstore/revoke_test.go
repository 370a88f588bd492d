package natsstore_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// TestRevoke takes a machine's keys away on two voters: its client goes with the reload, its leaves
// do not, and only with the kick do they stay away. Others are not touched, and readmission works.
func TestRevoke(t *testing.T) {
	t.Parallel()
	c := natslab.StartCluster(t, 3, natslab.OnIPv6)
	c.Promote(c.Machines[1])
	m1, m2, m3 := c.Machines[0], c.Machines[1], c.Machines[2]
	s, theirs := c.Open(m1), c.Open(m3)
	ready(t, s)
	ready(t, theirs)
	revocation := natsstore.Revocation{Machine: m3.ID, Keys: m3.Keys.Shared()}

	stale(t, m3, false)
	admit(c, m1, m2)
	stale(t, m3, false)
	start := time.Now()
	client, err := nats.Connect(m1.CoreURL(), option(t, m3, natsconf.RoleCoordinator), nats.NoReconnect())
	if err == nil {
		client.Close()
		t.Error("the revoked key opens the core")
	}
	result, err := revoke(t, s, revocation)
	if err != nil || result.Kicked < 2 || len(result.Unreachable) != 1 { // m3 has no core
		t.Errorf("%+v, %v", result, err)
	}
	t.Logf("revoked in %s: %+v", time.Since(start).Round(time.Millisecond), result)
	stale(t, m3, true)
	fresh(t, s)

	m2.Core.Signal(pause)
	result, err = revoke(t, s, revocation)
	if err != nil || !slices.Contains(result.Unreachable, m2.CoreURL()) {
		t.Errorf("with a voter that does not answer: %+v, %v", result, err)
	}
	m2.Core.Signal(resume)

	admit(c, m1, m2, m3)
	fresh(t, theirs)
	// Now the cores honour the keys again, and a revocation must say so.
	if _, err := revoke(t, s, revocation); api.CodeOf(err) != api.CodeStoreStillHonoured {
		t.Errorf("without a reload: %v", err)
	}
	// A leaf under another name is found by its address, which here is everybody's.
	disguised := natsstore.Revocation{Machine: "somebody", Overlay: netip.IPv6Loopback()}
	if result, err := revoke(t, s, disguised); api.CodeOf(err) != api.CodeStoreStillHonoured || result.Kicked < 6 {
		t.Errorf("by address: %+v, %v", result, err)
	}
}

func revoke(t *testing.T, s *natsstore.Store, r natsstore.Revocation) (natsstore.Revoked, error) {
	t.Helper()
	return s.Revoke(within(t, natslab.Patience), r)
}

// admit renders the cores with the keys of these machines only, and reloads them.
func admit(c *natslab.Cluster, machines ...*natslab.Machine) {
	for _, v := range c.Machines {
		v.CoreConfig.Machines = nil
		for _, m := range machines {
			v.CoreConfig.Machines = append(v.CoreConfig.Machines, natsconf.Machine{ID: m.ID, Keys: m.Keys.Shared()})
		}
	}
	c.Render()
	for _, v := range c.Voters {
		v.ReloadCore()
	}
}

func option(t *testing.T, m *natslab.Machine, role natsconf.Role) nats.Option {
	t.Helper()
	o, err := nats.NkeyOptionFromSeed(m.Seed(role))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func fresh(t *testing.T, s *natsstore.Store) {
	t.Helper()
	if err := s.AwaitMirror(within(t, natslab.Patience), 0); err != nil {
		t.Fatal(err)
	}
}

// stale looks at the leaf from the edge's side: whether the machine's requests still reach the core.
func stale(t *testing.T, m *natslab.Machine, want bool) {
	t.Helper()
	nc := client(t, m.EdgeURL(), m.Seed(natsconf.RoleLocal), natsconf.Inbox(m.ID))
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := nc.RequestWithContext(ctx, "$JS."+natsconf.CoreDomain+".API.STREAM.INFO."+natsconf.FactsStream(1), nil)
	if cut := err != nil; cut != want {
		t.Errorf("%s is cut off: %v (%v), want %v", m.ID, cut, err, want)
	}
}
