package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/datapath/bridge"
	"github.com/ployz/ployz/datapath/firewall"
	"github.com/ployz/ployz/datapath/link"
	"github.com/ployz/ployz/datapath/link/linktest"
	"github.com/ployz/ployz/datapath/overlay"
	"github.com/ployz/ployz/datapath/overlay/overlaytest"
	"github.com/ployz/ployz/node/mesh"
	"github.com/ployz/ployz/node/mesh/wireguard"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

func TestMain(m *testing.M) {
	status := m.Run()
	overlaytest.Clean()
	os.Exit(status)
}

// site is a machine of a cluster: on the wire, with a bridge, one workload, and a place in the mesh.
//
//	workload 10.101.N.5 ── ployz0 10.101.N.1 ── WireGuard ── up0 198.51.100.1N ── wire
type site struct {
	program  Program
	machine  linktest.Netns
	bridge   bridge.Config
	workload bridge.Workload
	inside   linktest.Netns
	state    mesh.State
	key      mesh.PrivateKey
	device   *overlaytest.Running
}

const meshPort = 51820

// newCluster makes n sites that know each other; nothing of the mesh runs yet.
func newCluster(t testing.TB, n int) []*site {
	t.Helper()
	var sites []*site
	for i, machine := range linktest.Wire(t, n) {
		sites = append(sites, newSite(t, i, machine))
	}
	for i, s := range sites {
		for j, other := range sites {
			if i != j {
				s.state.Peers = append(s.state.Peers, other.peer(j))
			}
		}
		s.save(t)
	}
	return sites
}

func newSite(t testing.TB, i int, machine linktest.Netns) *site {
	t.Helper()
	s := &site{program: Program{State: t.TempDir(), MeshPatience: 5 * time.Second}, machine: machine}
	v4, v6 := netip.AddrFrom4([4]byte{10, 101, byte(i), 1}), netip.MustParseAddr(fmt.Sprintf("fd12:3456:789a:%x::1", i+1))
	s.bridge = bridge.Config{Name: "ployz0", MTU: 1500, V4: netip.PrefixFrom(v4, 24), V6: netip.PrefixFrom(v6, 64)}
	s.workload = bridge.Workload{
		ID: "web-0", NetnsPath: filepath.Join(t.TempDir(), fmt.Sprintf("web-%d", i)),
		V4: netip.AddrFrom4([4]byte{10, 101, byte(i), 5}), V6: netip.MustParseAddr(fmt.Sprintf("fd12:3456:789a:%x::5", i+1)),
	}
	s.inside = linktest.Netns(s.workload.NetnsPath)
	s.state = mesh.State{
		Interface: overlaytest.Name(), MTU: 1420, ListenPort: meshPort, KeyFile: s.program.path("keys", "wireguard.key"),
		Source4: v4, Source6: v6,
		Cluster: []netip.Prefix{netip.MustParsePrefix("10.101.0.0/16"), netip.MustParsePrefix("fd12:3456:789a::/48")},
	}
	var err error
	if s.key, err = mesh.EnsureKey(s.state.KeyFile); err != nil {
		t.Fatal(err)
	}
	err = errors.Join(s.bridge.Save(s.program.path("net", "bridge.json")), s.workload.Save(s.program.path("workloads", "web-0", "link.json")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.wipe(t) })
	return s
}

// peer is the site, the i-th, as others know it. Odd ones are called by IPv6.
func (s *site) peer(i int) mesh.Peer {
	v4, v6 := linktest.Underlay(i)
	at := netip.AddrPortFrom(v4.Addr(), meshPort)
	if i%2 == 1 {
		at = netip.AddrPortFrom(v6.Addr(), meshPort)
	}
	return mesh.Peer{
		Machine: fmt.Sprintf("m%d", i), PublicKey: s.key.Public(), Endpoints: []netip.AddrPort{at},
		AllowedIPs: []netip.Prefix{s.bridge.V4.Masked(), s.bridge.V6.Masked()},
	}
}

func (s *site) save(t testing.TB) {
	t.Helper()
	if err := s.state.Save(mesh.StateFile(s.program.State)); err != nil {
		t.Fatal(err)
	}
}

func (s *site) boot(t testing.TB) {
	t.Helper()
	s.device = overlaytest.Start(t, s.machine, s.state.Interface)
	s.run(t, "up")
}

func (s *site) run(t testing.TB, args ...string) {
	t.Helper()
	s.machine.Run(t, func() error { return s.program.Run(args) })
}

func (s *site) wipe(t testing.TB) {
	t.Helper()
	s.machine.Run(t, func() error {
		_, detached := bridge.Detach(s.bridge, s.workload)
		_, removed := bridge.Remove(s.bridge)
		return errors.Join(detached, removed, firewall.Remove())
	})
}

// ensure returns what putting the mesh right changed.
func (s *site) ensure(t testing.TB) (changes []string) {
	t.Helper()
	s.machine.Run(t, func() (err error) {
		changes, err = s.program.ensureMesh(s.state)
		return err
	})
	return changes
}

func (s *site) seen(t testing.TB) (seen mesh.Seen) {
	t.Helper()
	s.machine.Run(t, func() error {
		d, err := wireguard.Open(s.state.Interface)
		if err != nil {
			return err
		}
		seen, err = d.Read(t.Context())
		return errors.Join(err, d.Close())
	})
	return seen
}

func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

func both[T any](a, b T) []T { return []T{a, b} }

// Machines and workloads reach each other by both families, and each sees who really called.
func TestMeshCarries(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.TUN)
	sites := newCluster(t, 3)
	for _, s := range sites {
		s.boot(t)
		s.machine.Serve(t, "tcp", ":7000", "machine")
		s.machine.Serve(t, "tcp", ":443", "machine")
		s.inside.Serve(t, "tcp", ":80", "workload")
		for _, a := range both(s.workload.V4, s.workload.V6) {
			s.inside.Serve(t, "udp", at(a, 80), "workload")
		}
	}
	for i, from := range sites {
		to := sites[(i+1)%len(sites)]
		gateways := both([2]netip.Addr{from.bridge.V4.Addr(), to.bridge.V4.Addr()}, [2]netip.Addr{from.bridge.V6.Addr(), to.bridge.V6.Addr()})
		for n, workload := range both([2]netip.Addr{from.workload.V4, to.workload.V4}, [2]netip.Addr{from.workload.V6, to.workload.V6}) {
			gateway := gateways[n]
			from.machine.Reach(t, "tcp", at(gateway[1], 7000), "machine saw "+gateway[0].String())
			from.machine.Reach(t, "tcp", at(workload[1], 80), "workload saw "+gateway[0].String())
			from.inside.Reach(t, "tcp", at(gateway[1], 443), "machine saw "+workload[0].String())
			from.inside.Blocked(t, "tcp", at(gateway[1], 7000)) // as for the machine's own workloads
			from.inside.Reach(t, "tcp", at(workload[1], 80), "workload saw "+workload[0].String())
			from.inside.Reach(t, "udp", at(workload[1], 80), "workload saw "+workload[0].String())
		}
	}
}

// A workload that takes its machine's address is not taken for the machine elsewhere.
func TestWorkloadsAreNotTakenForMachines(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.TUN)
	sites := newCluster(t, 2)
	for _, s := range sites {
		s.boot(t)
	}
	a, b := sites[0], sites[1]
	b.machine.Serve(t, "udp", at(b.bridge.V6.Addr(), 7000), "machine")
	a.machine.Reach(t, "udp", at(b.bridge.V6.Addr(), 7000), "machine saw "+a.bridge.V6.Addr().String())
	before := b.seen(t).Peers[0].Rx
	a.inside.Run(t, func() error { return sendAs(a.bridge.V6.Addr(), netip.AddrPortFrom(b.bridge.V6.Addr(), 7000)) })
	a.inside.Run(t, func() error { return sendAs(a.workload.V6, netip.AddrPortFrom(b.bridge.V6.Addr(), 7000)) })
	// The honest one was sent after the other, so once it is there the other is not on its way any more.
	deadline := time.Now().Add(5 * time.Second)
	for b.seen(t).Peers[0].Rx == before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if got := b.seen(t).Peers[0].Rx - before; got < padded || got >= 2*padded {
		t.Errorf("b received %d bytes, one packet has %d", got, padded)
	}
}

// padded is what a packet of one byte over UDP and IPv6 takes on the underlay: 49 bytes padded to 64, and WireGuard's 32.
const padded = 96

// sendAs sends one byte from an address, which the namespace need not have.
func sendAs(from netip.Addr, to netip.AddrPort) error {
	transparent := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlled := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1) })
		return errors.Join(controlled, err)
	}}
	conn, err := transparent.ListenPacket(context.Background(), "udp6", at(from, 0))
	if err != nil {
		return err
	}
	_, err = conn.WriteTo([]byte{1}, net.UDPAddrFromAddrPort(to))
	return errors.Join(err, conn.Close())
}

// A flow over the overlay leaves no entry in either machine's connection table; one on the machine does.
func TestMeshIsNotTracked(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.TUN)
	sites := newCluster(t, 2)
	for _, s := range sites {
		s.boot(t)
		s.inside.Serve(t, "tcp", ":80", "workload")
		s.machine.Serve(t, "tcp", ":7000", "machine")
	}
	a, b := sites[0], sites[1]
	a.inside.Reach(t, "tcp", at(b.workload.V4, 80), "workload saw") // the underlay's own flow is tracked by now
	before := both(tracked(t, a.machine), tracked(t, b.machine))
	for range 5 {
		for _, to := range both(b.workload.V4, b.workload.V6) {
			a.inside.Reach(t, "tcp", at(to, 80), "workload saw")
			a.machine.Reach(t, "tcp", at(to, 80), "workload saw")
		}
		a.machine.Reach(t, "tcp", at(b.bridge.V4.Addr(), 7000), "machine saw")
	}
	if after := both(tracked(t, a.machine), tracked(t, b.machine)); after[0] > before[0] || after[1] > before[1] {
		t.Errorf("connections tracked: %v before, %v after", before, after)
	}
	a.machine.Reach(t, "tcp", at(a.workload.V4, 80), "workload saw")
	if after := tracked(t, a.machine); after <= before[0] {
		t.Errorf("a flow on the machine itself is not tracked: %d before, %d after", before[0], after)
	}
}

func tracked(t *testing.T, n linktest.Netns) (count int) {
	t.Helper()
	n.Run(t, func() error {
		text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
		if err != nil {
			return err
		}
		count, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err
	})
	return count
}

// A published port still leads to its workload, also for another workload of the machine.
func TestPublishedPortsBesideTheMesh(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.TUN)
	sites := newCluster(t, 2)
	a, b := sites[0], sites[1]
	ports := firewall.Published{Ports: []firewall.Port{{
		Protocol: "tcp", Port: 8080, Workload: "web-0", V4: a.workload.V4, V6: a.workload.V6, Target: 80,
	}}}
	if err := ports.Save(a.program.path("net", "ports.json")); err != nil {
		t.Fatal(err)
	}
	a.boot(t)
	a.inside.Serve(t, "tcp", ":80", "workload")
	v4, v6 := linktest.Underlay(0)
	for _, to := range both(v4.Addr(), v6.Addr()) {
		b.machine.Reach(t, "tcp", at(to, 8080), "workload saw")
	}
	for _, to := range both(a.bridge.V4.Addr(), a.bridge.V6.Addr()) {
		a.inside.Reach(t, "tcp", at(to, 8080), "workload saw "+to.String()) // hairpin: as the bridge
	}
}

// What is as wanted is not written again, however many peers there are.
func TestAdoptWritesNothing(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.TUN)
	s := crowded(t, 200)
	took, writes := adoption(t, s)
	t.Logf("adopting %d peers: %s", len(s.state.Peers), took)
	if len(writes) > 0 {
		t.Errorf("%d writes, the first %q", len(writes), writes[0])
	}
	if found := len(s.seen(t).Peers); found != 200 {
		t.Errorf("%d peers", found)
	}
}

// crowded is one booted site with n peers that are not there.
func crowded(t testing.TB, n int) *site {
	t.Helper()
	s := newCluster(t, 1)[0]
	for i := range n {
		v4, v6 := netip.AddrFrom4([4]byte{10, 101, byte(i + 10), 0}), netip.MustParseAddr(fmt.Sprintf("fd12:3456:789a:%x::", i+10))
		s.state.Peers = append(s.state.Peers, mesh.Peer{
			Machine: fmt.Sprintf("m%d", i), PublicKey: mesh.GenerateKey().Public(),
			Endpoints:  []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 20)}), meshPort)},
			AllowedIPs: []netip.Prefix{netip.PrefixFrom(v4, 24), netip.PrefixFrom(v6, 64)},
		})
	}
	s.save(t)
	s.boot(t)
	return s
}

func adoption(t testing.TB, s *site) (took time.Duration, writes []string) {
	t.Helper()
	s.machine.Run(t, func() (err error) {
		begin := time.Now()
		writes, err = s.program.ensureMesh(s.state)
		took = time.Since(begin)
		return err
	})
	return took, writes
}

// A device whose process died has nothing; what ployz-wireguard.service runs after each start brings all of it back.
func TestMeshComesBackAfterTheDevice(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.TUN)
	sites := newCluster(t, 2)
	for _, s := range sites {
		s.boot(t)
		s.inside.Serve(t, "tcp", ":80", "workload")
	}
	a, b := sites[0], sites[1]
	b.inside.Reach(t, "tcp", at(a.workload.V4, 80), "workload saw "+b.workload.V4.String())
	for _, end := range []func(){a.device.Crash, func() { a.device.Stop() }} {
		end()
		b.inside.Blocked(t, "tcp", at(a.workload.V4, 80))
		a.device = overlaytest.Start(t, a.machine, a.state.Interface)
		a.run(t, "mesh")
		a.inside.Reach(t, "tcp", at(b.workload.V6, 80), "workload saw "+a.workload.V6.String())
		b.inside.Reach(t, "tcp", at(a.workload.V4, 80), "workload saw "+b.workload.V4.String())
		if changes := a.ensure(t); len(changes) > 0 {
			t.Errorf("a second time: %q", changes)
		}
	}
}

// A machine that moved is followed, and the old endpoint on disk does not undo that.
func TestRoamingIsFollowed(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.TUN)
	sites := newCluster(t, 2)
	for _, s := range sites {
		s.boot(t)
		s.machine.Serve(t, "tcp", ":7000", "machine")
	}
	a, b := sites[0], sites[1]
	a.machine.Reach(t, "tcp", at(b.bridge.V4.Addr(), 7000), "machine saw")
	v4, v6 := linktest.Underlay(77)
	a.machine.Kernel(t, moveTo(v4, v6))
	a.machine.Reach(t, "tcp", at(b.bridge.V4.Addr(), 7000), "machine saw")
	b.machine.Reach(t, "tcp", at(a.bridge.V6.Addr(), 7000), "machine saw")
	peer := b.seen(t).Peers[0]
	if got := peer.Endpoint.Addr(); got != v4.Addr() && got != v6.Addr() {
		t.Errorf("b sends to %s", peer.Endpoint)
	}
	if changes := b.ensure(t); len(changes) > 0 {
		t.Errorf("b was changed: %q", changes)
	}
	if observed := b.seen(t).Observed(time.Now()); observed[a.key.Public()] != peer.Endpoint {
		t.Errorf("b observes %v", observed)
	}
}

// A peer that goes takes its routes and its right to send along.
func TestPeerGoes(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.TUN)
	sites := newCluster(t, 3)
	for _, s := range sites {
		s.boot(t)
		s.machine.Serve(t, "tcp", ":7000", "machine")
	}
	a, b, c := sites[0], sites[1], sites[2]
	b.machine.Reach(t, "tcp", at(a.bridge.V4.Addr(), 7000), "machine saw")
	a.state.Peers = a.state.Peers[1:]
	if changes := a.ensure(t); len(changes) != 3 {
		t.Errorf("changed %q", changes)
	}
	b.machine.Blocked(t, "tcp", at(a.bridge.V4.Addr(), 7000))
	a.machine.Blocked(t, "tcp", at(b.bridge.V6.Addr(), 7000))
	c.machine.Reach(t, "tcp", at(a.bridge.V4.Addr(), 7000), "machine saw "+c.bridge.V4.Addr().String())
}

// The device may come after ployz-net. Where it does not come at all, everything else is up and the error says what is missing.
func TestUpWaitsForTheDevice(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.TUN)
	s := newCluster(t, 2)[0]
	if has := testenv.WireGuard.Missing() == ""; !has {
		s.program.MeshPatience = 50 * time.Millisecond
		s.machine.Run(t, func() error {
			if err := s.program.Run([]string{"up"}); !errors.Is(err, overlay.ErrNeedsUserspace) || strings.Contains(err.Error(), "\n") {
				t.Errorf("without a device: %v", err)
			}
			return nil
		})
		s.machine.Serve(t, "tcp", ":53", "machine")
		s.inside.Reach(t, "tcp", at(s.bridge.V4.Addr(), 53), "machine saw")
	}
	s.program.MeshPatience = 10 * time.Second
	done := make(chan error, 1)
	go func() { done <- s.inMachine("up") }()
	overlaytest.Start(t, s.machine, s.state.Interface)
	s.run(t, "mesh") // as the device's unit does, at the same time
	if err := <-done; err != nil {
		t.Error(err)
	}
	if changes := s.ensure(t); len(changes) > 0 {
		t.Errorf("left to do: %q", changes)
	}
}

// inMachine is run for goroutines that are not the test's.
func (s *site) inMachine(args ...string) error {
	return link.InNetns(string(s.machine), func() error { return s.program.Run(args) })
}

func moveTo(addresses ...netip.Prefix) func(*link.Kernel) error {
	return func(k *link.Kernel) error { return k.EnsureAddresses("up0", addresses...) }
}
