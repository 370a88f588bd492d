package firewall_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/ployz/ployz/datapath/bridge"
	"github.com/ployz/ployz/datapath/firewall"
	"github.com/ployz/ployz/datapath/link/linktest"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

var network = bridge.Config{Name: "ployz0", MTU: 1500, V4: netip.MustParsePrefix("10.101.7.1/24"), V6: netip.MustParsePrefix("fd12:3456:789a:7::1/64")}

func config(ports ...firewall.Port) firewall.Config {
	return firewall.Config{
		Bridge: "ployz0", V4: network.V4.Masked(), V6: network.V6.Masked(),
		Published: firewall.Published{GatewayPorts: []uint16{8443}, Ports: ports},
	}
}

var (
	a4, a6 = netip.MustParseAddr("10.101.7.5"), netip.MustParseAddr("fd12:3456:789a:7:0:9:0:5")
	b4, b6 = netip.MustParseAddr("10.101.7.6"), netip.MustParseAddr("fd12:3456:789a:7:0:9:0:6")
)

// rig is a lab with two workloads, a and b; each listens on 80, TCP and UDP.
type rig struct{ machine, outside, a, b linktest.Netns }

func newRig(t *testing.T, brNetfilter bool, c firewall.Config) rig {
	t.Helper()
	r := rig{}
	r.machine, r.outside = linktest.Lab(t, brNetfilter)
	r.machine.Run(t, func() error {
		if _, err := bridge.Ensure(network); err != nil {
			return err
		}
		_, err := firewall.Ensure(c)
		return err
	})
	r.a, r.b = r.attach(t, "a", a4, a6), r.attach(t, "b", b4, b6)
	return r
}

func (r rig) attach(t *testing.T, id string, v4, v6 netip.Addr) linktest.Netns {
	t.Helper()
	w := bridge.Workload{ID: id, NetnsPath: filepath.Join(t.TempDir(), id), V4: v4, V6: v6}
	t.Cleanup(func() {
		r.machine.Run(t, func() error { _, err := bridge.Detach(network, w); return err })
	})
	r.machine.Run(t, func() error { _, err := bridge.Attach(network, w); return err })
	inside := linktest.Netns(w.NetnsPath)
	inside.Serve(t, "tcp", ":80", id)
	inside.Serve(t, "udp", at(v4, 80), id)
	inside.Serve(t, "udp", at(v6, 80), id)
	return inside
}

func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

func both(t *testing.T, test func(t *testing.T, brNetfilter bool)) {
	testenv.Require(t, testenv.Root)
	for _, on := range []bool{false, true} {
		t.Run(fmt.Sprintf("br_netfilter=%t", on), func(t *testing.T) { test(t, on) })
	}
}

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.MustParseAddr("::1")
)

func everywhere(protocol string) firewall.Port {
	return firewall.Port{Protocol: protocol, Port: 8080, Workload: "a", V4: a4, V6: a6, Target: 80}
}

func TestPublishedPorts(t *testing.T) {
	both(t, func(t *testing.T, brNetfilter bool) {
		r := newRig(t, brNetfilter, config(everywhere("tcp"), everywhere("udp")))
		for _, protocol := range []string{"tcp", "udp"} {
			r.outside.Reach(t, protocol, at(linktest.MachineV4, 8080), "a saw "+linktest.OutsideV4.String())
			r.outside.Reach(t, protocol, at(linktest.MachineV6, 8080), "a saw "+linktest.OutsideV6.String())
			for _, own := range []netip.Addr{linktest.MachineV4, linktest.MachineV6, network.V4.Addr(), network.V6.Addr(), loopback4} {
				r.machine.Reach(t, protocol, at(own, 8080), "a saw ")
			}
			if _, err := r.machine.Call(protocol, at(loopback6, 8080), 3*time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s to ::1: got %v, want a refusal at once", protocol, err)
			}
			// Hairpin: another workload, and the published one itself.
			for _, from := range []linktest.Netns{r.b, r.a} {
				from.Reach(t, protocol, at(linktest.MachineV4, 8080), "a saw "+network.V4.Addr().String())
				from.Reach(t, protocol, at(linktest.MachineV6, 8080), "a saw "+network.V6.Addr().String())
			}
		}
	})
}

func TestPublishedOnOneAddressOnly(t *testing.T) {
	both(t, func(t *testing.T, brNetfilter bool) {
		p := everywhere("tcp")
		p.Listen = linktest.MachineV4
		q := everywhere("tcp")
		q.Listen, q.V4, q.V6 = network.V4.Addr(), b4, b6
		r := newRig(t, brNetfilter, config(p, q))
		r.outside.Reach(t, "tcp", at(linktest.MachineV4, 8080), "a saw")
		r.outside.Blocked(t, "tcp", at(linktest.MachineV6, 8080))
		r.machine.Reach(t, "tcp", at(network.V4.Addr(), 8080), "b saw")
		r.machine.Blocked(t, "tcp", at(loopback4, 8080))
	})
}

func TestMasquerade(t *testing.T) {
	both(t, func(t *testing.T, brNetfilter bool) {
		r := newRig(t, brNetfilter, config())
		r.outside.Serve(t, "tcp", ":7000", "world")
		r.a.Reach(t, "tcp", at(linktest.OutsideV4, 7000), "world saw "+linktest.MachineV4.String())
		r.a.Reach(t, "tcp", at(linktest.OutsideV6, 7000), "world saw "+linktest.MachineV6.String())
		r.a.Reach(t, "tcp", at(b4, 80), "b saw "+a4.String())
		r.a.Reach(t, "tcp", at(b6, 80), "b saw "+a6.String())
	})
}

// What is not published stays closed to a neighbour of the machine that sets a route to it.
func TestUnpublishedIsClosedToTheNetwork(t *testing.T) {
	testenv.Require(t, testenv.Root)
	r := newRig(t, false, config())
	r.outside.Kernel(t, routes(network))
	r.machine.Reach(t, "tcp", at(a4, 80), "a saw")
	r.outside.Blocked(t, "tcp", at(a4, 80))
	r.outside.Blocked(t, "tcp", at(a6, 80))
	r.machine.Run(t, firewall.Remove) // the counter-check: it was the table that closed it
	r.outside.Reach(t, "tcp", at(a4, 80), "a saw "+linktest.OutsideV4.String())
	r.outside.Reach(t, "tcp", at(a6, 80), "a saw "+linktest.OutsideV6.String())
}

func TestWorkloadsReachOnlyWhatIsForThem(t *testing.T) {
	both(t, func(t *testing.T, brNetfilter bool) {
		r := newRig(t, brNetfilter, config())
		for _, port := range []uint16{53, 80, 443, 8443, 22, 4222} {
			r.machine.Serve(t, "tcp", fmt.Sprintf(":%d", port), "machine")
		}
		r.machine.Serve(t, "udp", at(network.V4.Addr(), 53), "machine")
		r.machine.Serve(t, "udp", at(network.V4.Addr(), 4222), "machine")
		r.a.Reach(t, "udp", at(network.V4.Addr(), 53), "machine saw")
		r.machine.Reach(t, "udp", at(network.V4.Addr(), 4222), "machine saw")
		r.a.Blocked(t, "udp", at(network.V4.Addr(), 4222))
		for _, own := range []netip.Addr{network.V4.Addr(), network.V6.Addr(), linktest.MachineV4, linktest.MachineV6} {
			for _, open := range []uint16{53, 80, 443, 8443} {
				r.a.Reach(t, "tcp", at(own, open), "machine saw")
			}
			for _, closed := range []uint16{22, 4222} {
				r.machine.Reach(t, "tcp", at(own, closed), "machine saw")
				r.a.Blocked(t, "tcp", at(own, closed))
			}
		}
		// The world is not the bridge's business: our table does not close the machine to it.
		r.outside.Reach(t, "tcp", at(linktest.MachineV4, 22), "machine saw")
		ping(t, r.a, network.V4.Addr())
		ping(t, r.a, network.V6.Addr())
	})
}

// A port published on the machine's loopback is for the machine alone, also against a
// neighbour or a workload that sends to 127.0.0.1 over the wire.
func TestPublishedOnLoopbackStaysThere(t *testing.T) {
	both(t, func(t *testing.T, brNetfilter bool) {
		p := everywhere("tcp")
		p.Listen = loopback4
		r := newRig(t, brNetfilter, config(p))
		r.machine.Reach(t, "tcp", at(loopback4, 8080), "a saw")
		r.outside.Kernel(t, loopbackBy("up0", linktest.MachineV4))
		r.outside.Blocked(t, "tcp", at(loopback4, 8080))
		r.b.Kernel(t, loopbackBy("eth0", network.V4.Addr()))
		r.b.Blocked(t, "tcp", at(loopback4, 8080))
	})
}

// route_localnet is on for the bridge; a workload must not get at the machine's loopback by it.
func TestLoopbackOfTheMachineIsClosed(t *testing.T) {
	both(t, func(t *testing.T, brNetfilter bool) {
		r := newRig(t, brNetfilter, config())
		r.machine.Serve(t, "udp", "127.0.0.1:53", "machine")
		r.machine.Reach(t, "udp", "127.0.0.1:53", "machine saw")
		r.a.Kernel(t, loopbackBy("eth0", network.V4.Addr()))
		r.a.Blocked(t, "udp", "127.0.0.1:53")
	})
}

func TestSecondEnsureSendsNothing(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	c := config(everywhere("tcp"), everywhere("udp"))
	c.Overlay = []string{"wg0"}
	c.Cluster = []netip.Prefix{netip.MustParsePrefix("10.101.0.0/16"), netip.MustParsePrefix("fd12:3456:789a::/48")}
	machine.Run(t, func() error {
		changed, err := firewall.Ensure(c)
		if err != nil || len(changed) == 0 {
			t.Errorf("first: %v, %q", err, changed)
		}
		if found, err := firewall.Found(); err != nil || found != firewall.Render(c) {
			t.Errorf("found %v\n%s\nwanted\n%s", err, found, firewall.Render(c))
		}
		if changed, err := firewall.Ensure(c); err != nil || len(changed) > 0 {
			t.Errorf("second: %v, %q", err, changed)
		}
		c.Ports = c.Ports[:1]
		changed, err = firewall.Ensure(c)
		if err != nil || len(changed) != 2 || !strings.HasPrefix(changed[0], "- ") {
			t.Errorf("one port less: %v, %q", err, changed)
		}
		return nil
	})
}

// What passes between machines is exempt from tracking on all of its ways, and nothing else is: what stays on the
// machine, and what goes out into the world, is translated.
func TestOverlayIsNotTracked(t *testing.T) {
	c := config()
	without := firewall.Render(c)
	c.Overlay = []string{"wg0"}
	if strings.Contains(firewall.Render(c), "notrack") {
		t.Error("without the cluster's prefixes there is nothing to exempt")
	}
	c.Cluster = []netip.Prefix{netip.MustParsePrefix("10.101.0.0/16"), netip.MustParsePrefix("fd12:3456:789a::/48")}
	got := firewall.Render(c)
	const want = `chain passing type filter hook prerouting priority -300
  iifname wg0 family ip saddr & ffff0000 10.101.0.0 family ip daddr & ffff0000 10.101.0.0 notrack
  iifname ployz0 family ip saddr & ffffff00 10.101.7.0 family ip daddr & ffff0000 10.101.0.0 family ip daddr & ffffff00 != 10.101.7.0 notrack
  iifname wg0 family ip6 saddr & ffffffffffff00000000000000000000 fd12:3456:789a:: family ip6 daddr & ffffffffffff00000000000000000000 fd12:3456:789a:: notrack
  iifname ployz0 family ip6 saddr & ffffffffffffffff0000000000000000 fd12:3456:789a:7:: family ip6 daddr & ffffffffffff00000000000000000000 fd12:3456:789a:: family ip6 daddr & ffffffffffffffff0000000000000000 != fd12:3456:789a:7:: notrack
chain leaving type filter hook output priority -300
  oifname wg0 family ip saddr & ffff0000 10.101.0.0 family ip daddr & ffff0000 10.101.0.0 notrack
  oifname wg0 family ip6 saddr & ffffffffffff00000000000000000000 fd12:3456:789a:: family ip6 daddr & ffffffffffff00000000000000000000 fd12:3456:789a:: notrack
`
	if !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s", got)
	}
	for _, line := range []string{
		"  iifname wg0 accept\n",
		"  iifname != ployz0 iifname != wg0 accept\n",
		"  iifname wg0 family ip saddr & 000000ff 0.0.0.1 accept\n",
		"  iifname wg0 family ip6 saddr & 0000000000000000ffffffffffffffff ::1 accept\n",
		"  iifname wg0 protocol tcp flags & 12 != 02 accept\n",
		"  iifname ployz0 oifname wg0 family ip saddr 10.101.7.1 counter drop\n",
		"  iifname ployz0 oifname wg0 family ip6 saddr fd12:3456:789a:7::1 counter drop\n",
		"  family ip saddr & ffffff00 10.101.7.0 oifname != ployz0 oifname != lo oifname != wg0 masquerade\n",
	} {
		if !strings.Contains(got, line) || strings.Contains(without, line) {
			t.Errorf("%q belongs to an overlay, and only to one", line)
		}
	}
}

// Rules that others add to our table, or take out of it, are seen and put right.
func TestEnsureRepairsWhatOthersDid(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	c := config(everywhere("tcp"))
	machine.Run(t, func() error {
		if _, err := firewall.Ensure(c); err != nil {
			return err
		}
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := &nftables.Table{Family: nftables.TableFamilyINet, Name: "ployz"}
		conn.FlushChain(&nftables.Chain{Name: "input", Table: table})
		if err := conn.Flush(); err != nil {
			return err
		}
		if missing, err := firewall.Inspect(c); err != nil || len(missing) == 0 {
			t.Errorf("an empty input chain was not seen: %v", err)
		}
		if _, err := firewall.Ensure(c); err != nil {
			return err
		}
		if found, err := firewall.Found(); err != nil || found != firewall.Render(c) {
			t.Errorf("not repaired: %v\n%s", err, found)
		}
		return nil
	})
}

func TestOthersTablesStay(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	machine.Run(t, func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		other := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "other"})
		conn.AddChain(&nftables.Chain{Name: "input", Table: other})
		if err := conn.Flush(); err != nil {
			return err
		}
		if _, err := firewall.Ensure(config()); err != nil {
			return err
		}
		if err := firewall.Remove(); err != nil {
			return err
		}
		tables, err := conn.ListTables()
		if err != nil || len(tables) != 1 || tables[0].Name != "other" {
			t.Errorf("tables afterwards: %+v, %v", tables, err)
		}
		return firewall.Remove()
	})
}

func TestAThousandPublishedPorts(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	c := config()
	for n := range 1000 {
		p := everywhere("tcp")
		p.Port = uint16(10000 + n)
		c.Ports = append(c.Ports, p)
	}
	machine.Run(t, func() error {
		if _, err := firewall.Ensure(c); err != nil {
			return err
		}
		changed, err := firewall.Inspect(c)
		if len(changed) > 0 {
			t.Errorf("%d lines differ, the first %q", len(changed), changed[0])
		}
		return err
	})
}

func TestPortTaken(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	machine.Serve(t, "tcp", "127.0.0.1:7001", "x")
	machine.Serve(t, "tcp", ":7002", "x")
	machine.Serve(t, "udp", linktest.MachineV4.String()+":7003", "x")
	machine.Run(t, func() error {
		for _, c := range []struct {
			protocol string
			addr     netip.Addr
			port     uint16
			taken    bool
		}{
			{"tcp", netip.Addr{}, 7001, true}, {"tcp", linktest.MachineV4, 7001, false}, {"tcp", loopback4, 7001, true},
			{"tcp", linktest.MachineV4, 7002, true}, {"tcp", linktest.MachineV6, 7002, true}, {"udp", netip.Addr{}, 7002, false},
			{"udp", linktest.MachineV4, 7003, true}, {"udp", loopback6, 7003, false}, {"tcp", netip.Addr{}, 7004, false},
		} {
			h, err := firewall.PortTaken(c.protocol, c.addr, c.port, nil)
			if err != nil || (h != nil) != c.taken {
				t.Errorf("%+v: got %v, %v", c, h, err)
			}
			if h != nil && (h.PID != os.Getpid() || !strings.HasPrefix(h.Command, "firewall.test")) {
				t.Errorf("%+v: held by %s, want pid %d", c, h, os.Getpid())
			}
		}
		ours := func(h firewall.Holder) bool { return h.PID == os.Getpid() }
		if h, err := firewall.PortTaken("tcp", netip.Addr{}, 7002, ours); err != nil || h != nil {
			t.Errorf("our own counted: %v, %v", h, err)
		}
		return nil
	})
}

func TestPublishedTwice(t *testing.T) {
	listen := func(a netip.Addr) firewall.Port { p := everywhere("tcp"); p.Listen = a; return p }
	only4 := everywhere("tcp")
	only4.V6 = netip.Addr{}
	only6 := everywhere("tcp")
	only6.V4 = netip.Addr{}
	for name, c := range map[string]struct {
		first, second firewall.Port
		clash         bool
	}{
		"same":                 {everywhere("tcp"), everywhere("tcp"), true},
		"other protocol":       {everywhere("tcp"), everywhere("udp"), false},
		"one address and all":  {listen(linktest.MachineV4), everywhere("tcp"), true},
		"all and one address":  {everywhere("tcp"), listen(linktest.MachineV6), true},
		"same address":         {listen(loopback4), listen(loopback4), true},
		"two addresses":        {listen(loopback4), listen(linktest.MachineV4), false},
		"other family":         {only4, only6, false},
		"other family, listen": {only4, listen(linktest.MachineV6), false},
	} {
		err := config(c.first, c.second).Validate()
		if errors.As(err, new(*firewall.PublishedTwiceError)) != c.clash {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestInvalidOverlay(t *testing.T) {
	for field, spoil := range map[string]func(*firewall.Config){
		"overlay": func(c *firewall.Config) { c.Overlay = []string{""} },
		"cluster": func(c *firewall.Config) { c.Cluster = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} },
	} {
		c := config()
		spoil(&c)
		var invalid *firewall.InvalidError
		if err := c.Validate(); !errors.As(err, &invalid) || invalid.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestInvalid(t *testing.T) {
	for field, spoil := range map[string]func(*firewall.Port){
		"protocol":   func(p *firewall.Port) { p.Protocol = "sctp" },
		"port":       func(p *firewall.Port) { p.Target = 0 },
		"workload":   func(p *firewall.Port) { p.V4, p.V6 = netip.Addr{}, netip.Addr{} },
		"v4":         func(p *firewall.Port) { p.V4 = linktest.MachineV4 },
		"listen":     func(p *firewall.Port) { p.Listen, p.V6 = linktest.MachineV6, netip.Addr{} },
		"listen ::1": func(p *firewall.Port) { p.Listen = loopback6 },
	} {
		p := everywhere("tcp")
		spoil(&p)
		var invalid *firewall.InvalidError
		if err := config(p).Validate(); !errors.As(err, &invalid) || invalid.Field != strings.Fields(field)[0] {
			t.Errorf("%s: got %v", field, err)
		}
	}
}
