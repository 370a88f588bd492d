package dns

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The addresses that ask in tests. Loopback has a /8 to send from, so that every kind of
// caller is a real source address.
var (
	fromMachine  = netip.MustParseAddr("127.0.0.1")
	fromProd     = netip.MustParseAddr("127.1.0.2") // an instance of web in prod
	fromDev      = netip.MustParseAddr("127.1.0.9") // known by Zone.Locals alone
	fromStranger = netip.MustParseAddr("127.9.9.9")
)

const (
	prodID = 0x10
	devID  = 0x20
)

// v6 returns a workload address on machine m1.
func v6(ns, workload uint32) netip.Addr {
	b := netip.MustParseAddr("fd00:aa:bb:1::").As16()
	binary.BigEndian.PutUint32(b[8:], ns)
	binary.BigEndian.PutUint32(b[12:], workload)
	return netip.AddrFrom16(b)
}

func v4(s string) netip.Addr { return netip.MustParseAddr(s) }

// testZone has a namespace prod that exports web to dev, and dev that exports nothing.
func testZone() Zone {
	http := []Port{{"http", "tcp", 8080}}
	return Zone{
		Generation: "g1",
		Machine:    "m1",
		Self:       []netip.Addr{v4("127.0.0.55")},
		Subnet6:    netip.MustParsePrefix("fd00:aa:bb:1::/64"),
		Prefixes:   []netip.Prefix{netip.MustParsePrefix("127.1.0.0/16"), netip.MustParsePrefix("fd00:aa:bb::/48")},
		Machines: []Machine{
			{"m1", v4("127.1.0.1"), netip.MustParseAddr("fd00:aa:bb:1::1")},
			{"m2", v4("127.1.2.1"), netip.MustParseAddr("fd00:aa:bb:2::1")},
		},
		Locals: []Local{{fromDev, devID}},
		Namespaces: []Namespace{
			{ID: prodID, Name: "prod", Sequence: 7,
				Services: []Service{
					{"web", []Instance{
						{ID: "a", Slot: "web-0", Machine: "m1", V4: fromProd, V6: v6(prodID, 1), Ports: http, Ready: true},
						{ID: "b", Slot: "web-1", Machine: "m2", V4: v4("127.1.2.3"), V6: v6(prodID, 2), Ports: http, Ready: true},
						{ID: "c", Slot: "web-2", Machine: "m1", V4: v4("127.1.0.4"), V6: v6(prodID, 3), Ports: http, Ready: true, Draining: true},
					}},
					{"db", []Instance{
						{ID: "d", Slot: "db-0", Machine: "m1", V4: v4("127.1.0.5"), Ready: true},
					}},
					{"leaving", []Instance{
						{ID: "e", Slot: "leaving-0", Machine: "m1", V4: v4("127.1.0.6"), Ready: true, Draining: true},
						{ID: "f", Slot: "leaving-1", Machine: "m1", V4: v4("127.1.0.7")},
					}},
					{"empty", nil},
				},
				Exports: []Export{{"web", []string{"dev"}}},
			},
			{ID: devID, Name: "dev", Sequence: 9, Services: []Service{
				{"web", []Instance{{ID: "g", Slot: "web-0", Machine: "m2", V4: v4("127.1.2.8"), Ready: true}}},
			}},
		},
	}
}

// newTestServer trusts 127.0.0.1 alone, so that the rest of loopback can be somebody else.
func newTestServer(t testing.TB, z Zone) *Server {
	t.Helper()
	s := NewServer()
	s.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	s.RatePerSource = 0
	if err := s.Apply(z); err != nil {
		t.Fatal(err)
	}
	return s
}

// serving runs a server on a free port of an address until the test ends.
func serving(t testing.TB, s *Server, address string) netip.AddrPort {
	t.Helper()
	udp, tcp := bind(t, address)
	serveOn(t, s, udp, tcp)
	return addrPort(udp.LocalAddr())
}

// serveOn runs a server on sockets until the test ends.
func serveOn(t testing.TB, s *Server, udp *net.UDPConn, tcp *net.TCPListener) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, Sockets{[]net.PacketConn{udp}, []net.Listener{tcp}}) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// bind returns a UDP and a TCP socket on the same port.
func bind(t testing.TB, address string) (*net.UDPConn, *net.TCPListener) {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return udp.(*net.UDPConn), tcp.(*net.TCPListener)
		}
		tcp.Close() // somebody else's UDP port
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// dial returns a connection to a server from a source address.
func dial(t testing.TB, network string, from netip.Addr, to netip.AddrPort) *dns.Conn {
	t.Helper()
	d := net.Dialer{Timeout: 2 * time.Second}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: from.AsSlice()}
	} else {
		d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	}
	c, err := d.Dial(network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &dns.Conn{Conn: c, UDPSize: 4096}
}

// ask sends one query and returns the reply.
func ask(t testing.TB, network string, from netip.Addr, to netip.AddrPort, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := dial(t, network, from, to)
	if err := c.WriteMsg(m); err != nil {
		t.Fatal(err)
	}
	r, err := c.ReadMsg()
	if err != nil {
		t.Fatalf("%s %s from %v: %v", network, m.Question[0].String(), from, err)
	}
	if r.Id != m.Id {
		t.Fatalf("reply has id %d, want %d", r.Id, m.Id)
	}
	return r
}

func question(name string, qtype uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, qtype) }
