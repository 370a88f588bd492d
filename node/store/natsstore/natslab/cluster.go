package natslab

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"testing"

	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Cluster is several machines on one loopback. Its methods take the steps, in the order, that the
// operations on machines take.
type Cluster struct {
	t testing.TB
	// Machines are all of them: m1, m2, …; each runs an edge.
	Machines []*Machine
	// Voters are those with a core, in the order in which they became voters.
	Voters []*Machine
}

// StartCluster founds a store on m1 and starts n machines, with m1 the only voter and every mirror
// fresh.
func StartCluster(t testing.TB, n int, options ...Option) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	var known []natsconf.Machine
	for i := range n {
		m := newMachine(t, fmt.Sprint("m", i+1), options...)
		c.Machines = append(c.Machines, m)
		known = append(known, natsconf.Machine{ID: m.ID, Keys: m.Keys.Shared()})
	}
	for _, m := range c.Machines {
		m.CoreConfig.Machines = slices.Clone(known)
	}
	c.Voters = c.Machines[:1:1]
	c.Render()
	first := c.Machines[0]
	first.Found()
	first.Core.Start()
	for _, m := range c.Machines {
		m.Edge.Start()
	}
	s := c.Open(first)
	ctx, cancel := c.patience()
	defer cancel()
	c.must(s.CreateStreams(ctx, 1, natsstore.StreamSize{}))
	for _, m := range c.Machines {
		c.Mirror(ctx, m)
	}
	return c
}

// Mirror makes a machine's mirrors and waits until they are fresh.
func (c *Cluster) Mirror(ctx context.Context, m *Machine) {
	c.t.Helper()
	s := c.Open(m)
	defer s.Close()
	c.must(s.EnsureMirrors(ctx))
	c.must(s.AwaitMirror(ctx, 0))
}

// Render writes the configurations of all machines: the voters' with routes to each other, the
// edges' with all voters as remotes.
func (c *Cluster) Render() {
	c.t.Helper()
	var routes, leaves []netip.AddrPort
	for _, v := range c.Voters {
		routes = append(routes, netip.AddrPortFrom(v.CoreConfig.Address, v.CoreConfig.RoutePort))
		leaves = append(leaves, netip.AddrPortFrom(v.CoreConfig.Address, v.CoreConfig.LeafPort))
	}
	for _, m := range c.Machines {
		m.CoreConfig.Name = fmt.Sprintf("%s-%d", m.ID, m.incarnation)
		m.CoreConfig.Voters, m.EdgeConfig.Voters = slices.Clone(routes), slices.Clone(leaves)
		m.Render()
	}
}

// Open opens the store as a machine's ployzd that knows every machine's core, present or to come.
func (c *Cluster) Open(m *Machine, changes ...func(*natsstore.Config)) *natsstore.Store {
	c.t.Helper()
	return m.Open(append([]func(*natsstore.Config){c.Everywhere}, changes...)...)
}

// Everywhere names every machine's core as one to ask.
func (c *Cluster) Everywhere(config *natsstore.Config) {
	config.CoreURLs = nil
	for _, m := range c.Machines {
		config.CoreURLs = append(config.CoreURLs, m.CoreURL())
	}
}

// CoreURL is where clients reach the machine's core.
func (m *Machine) CoreURL() string {
	return "nats://" + m.CoreConfig.HostPort(m.CoreConfig.ClientPort)
}

// Promote makes a machine a voter with a copy of everything.
func (c *Cluster) Promote(m *Machine) {
	c.t.Helper()
	c.Seat(m, len(c.Voters)+1)
}

// Seat makes a machine a voter: the secret, the folder, the others' routes, the start, the group,
// the copies, and at last the edges' remotes.
func (c *Cluster) Seat(m *Machine, copies int) {
	c.t.Helper()
	ctx, cancel := c.patience()
	defer cancel()
	s := c.Open(c.Machines[0])
	defer s.Close()
	secret, err := natsstore.ReadRouteSecret(c.Voters[0].path("route.secret"))
	c.must(err)
	c.must(natsstore.InstallRouteSecret(m.path("route.secret"), secret))
	before := c.Voters
	c.Voters = append(slices.Clone(c.Voters), m)
	c.Render()
	c.must(natsstore.PrepareJoin(ctx, m.CoreFiles()))
	c.reload(before, (*Machine).ReloadCore)
	m.Core.Start()
	c.must(s.AwaitVoter(ctx, m.CoreConfig.Name))
	c.must(s.Scale(ctx, copies))
	c.reload(c.Machines, (*Machine).ReloadEdge)
}

// Demote takes a voter's seat away: out of the group first, then from everybody's configuration, and
// its core and folder last.
func (c *Cluster) Demote(m *Machine) {
	c.t.Helper()
	ctx, cancel := c.patience()
	defer cancel()
	s := c.Open(m)
	defer s.Close()
	c.must(s.RemoveVoter(ctx, natsstore.PeerID(m.CoreConfig.Name)))
	c.Forget(m)
}

// Forget drops a voter that the group has removed, alive or dead.
func (c *Cluster) Forget(m *Machine) {
	c.t.Helper()
	c.Voters = slices.DeleteFunc(slices.Clone(c.Voters), func(v *Machine) bool { return v == m })
	c.Render()
	c.reload(c.Voters, (*Machine).ReloadCore)
	c.reload(c.Machines, (*Machine).ReloadEdge)
	if !m.Core.Ended() {
		m.Core.Stop()
	}
	c.must(natsstore.RetireCore(m.CoreConfig.StoreDir))
	m.incarnation++
}

// reload has those of the machines that run take their configuration.
func (c *Cluster) reload(machines []*Machine, one func(*Machine)) {
	c.t.Helper()
	for _, m := range machines {
		one(m)
	}
}

// ReloadCore has a running core take its configuration.
func (m *Machine) ReloadCore() { m.t.Helper(); m.reload(m.Core) }

// ReloadEdge has a running edge take its configuration.
func (m *Machine) ReloadEdge() { m.t.Helper(); m.reload(m.Edge) }

func (m *Machine) reload(s *Server) {
	m.t.Helper()
	if s.Ended() {
		return
	}
	out, err := exec.Command(Program(m.t), "reload", "--config", m.path(s.role+".conf"), "--status", s.status).CombinedOutput()
	if err != nil {
		m.t.Fatalf("natslab: %s: reloading the %s: %v: %s", m.ID, s.role, err, out)
	}
}

func (c *Cluster) patience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), Patience)
}

func (c *Cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("natslab: %v", err)
	}
}

// Refound founds a new generation's core on one machine, the only voter from then on, and has every
// edge that runs follow it. The old cores must be down, and are retired.
func (c *Cluster) Refound(m *Machine) {
	c.t.Helper()
	c.Voters = []*Machine{m}
	for _, one := range c.Machines {
		c.must(natsstore.RetireCore(one.CoreConfig.StoreDir))
		one.incarnation++
		one.CoreConfig.Generation++
		one.EdgeConfig.Generation++
	}
	c.Render()
	m.Found()
	m.Core.Start()
	c.reload(c.Machines, (*Machine).ReloadEdge)
}

// RotateRouteSecret gives every voter a new secret, and reloads one after the other.
func (c *Cluster) RotateRouteSecret() {
	c.t.Helper()
	secret, err := natsstore.NewRouteSecret()
	c.must(err)
	for _, v := range c.Voters {
		c.must(natsstore.InstallRouteSecret(v.path("route.secret"), secret))
	}
	c.reload(c.Voters, (*Machine).ReloadCore)
}
