package firewall_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/ployz/ployz/datapath/bridge"
	"github.com/ployz/ployz/datapath/link"
	"github.com/ployz/ployz/datapath/link/linktest"
)

// routes lets the world outside know the way to the workloads, by the machine.
func routes(c bridge.Config) func(*link.Kernel) error {
	return func(k *link.Kernel) error {
		if err := k.EnsureRoute(link.Route{To: c.V4.Masked(), Via: linktest.MachineV4, Device: "up0"}); err != nil {
			return err
		}
		return k.EnsureRoute(link.Route{To: c.V6.Masked(), Via: linktest.MachineV6, Device: "up0"})
	}
}

// loopbackBy makes a namespace send 127.0.0.1 to the machine by the wire: what a neighbour,
// or a workload with CAP_NET_ADMIN in its own namespace, could do.
func loopbackBy(device string, machine netip.Addr) func(*link.Kernel) error {
	return func(k *link.Kernel) error {
		if err := k.EnsureSysctl("ipv4/conf/"+device+"/route_localnet", "1"); err != nil {
			return err
		}
		if err := k.EnsureAddresses("lo"); err != nil {
			return err
		}
		return k.EnsureRoute(link.Route{To: netip.MustParsePrefix("127.0.0.0/8"), Via: machine, Device: device, OnLink: true})
	}
}

// ping sends one echo request and waits for the answer.
func ping(t *testing.T, from linktest.Netns, to netip.Addr) {
	t.Helper()
	from.Run(t, func() error {
		network, protocol, kind := "ip4:icmp", 1, icmp.Type(ipv4.ICMPTypeEcho)
		answer := icmp.Type(ipv4.ICMPTypeEchoReply)
		if to.Is6() {
			network, protocol, kind, answer = "ip6:ipv6-icmp", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
		}
		conn, err := icmp.ListenPacket(network, "")
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		message := icmp.Message{Type: kind, Body: &icmp.Echo{ID: 7, Seq: 1}}
		packet, err := message.Marshal(nil)
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(packet, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
			return err
		}
		buffer := make([]byte, 500)
		for {
			n, _, err := conn.ReadFrom(buffer)
			if err != nil {
				t.Errorf("ping %s: %v", to, err)
				return nil
			}
			if m, err := icmp.ParseMessage(protocol, buffer[:n]); err == nil && m.Type == answer {
				return nil
			}
		}
	})
}
