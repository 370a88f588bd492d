package dns

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestReplyComesFromTheAddressAsked asks sockets bound to all addresses at several of them. The
// client's socket is connected, so that a reply from any other address is never seen.
func TestReplyComesFromTheAddressAsked(t *testing.T) {
	u := newUpstream(t, answers(60, "1.2.3.4"))
	for _, bound := range []struct{ network, address string }{{"udp4", "0.0.0.0:0"}, {"udp", "[::]:0"}} {
		conn, err := net.ListenPacket(bound.network, bound.address)
		if err != nil {
			t.Fatal(err)
		}
		s := newTestServer(t, testZone())
		s.Trusted = append(s.Trusted, netip.MustParsePrefix("::1/128"))
		s.Forwarder.Upstreams = []netip.AddrPort{u.at}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, Sockets{UDP: []net.PacketConn{conn}}) }()
		port := addrPort(conn.LocalAddr()).Port()
		asked := map[string]netip.Addr{"127.0.0.1": fromMachine, "127.7.7.7": fromProd}
		if bound.network == "udp" {
			asked["::1"] = netip.IPv6Loopback()
		}
		for address, from := range asked {
			to := netip.AddrPortFrom(netip.MustParseAddr(address), port)
			if r := ask(t, "udp", from, to, question("web.prod.ployz.internal.", dns.TypeA)); len(r.Answer) != 2 {
				t.Errorf("%s at %s: %v", bound.address, address, r)
			}
			// The second way a reply is sent: after an upstream was asked.
			if r := ask(t, "udp", from, to, question("example.com.", dns.TypeA)); len(r.Answer) != 1 {
				t.Errorf("%s at %s, forwarded: %v", bound.address, address, r)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestStopAnswersWhatWasRead fills the socket's buffer before anybody reads and lets a query
// wait for its upstream while the server is told to stop.
func TestStopAnswersWhatWasRead(t *testing.T) {
	release := make(chan struct{})
	u := newUpstream(t, func(m *dns.Msg) []*dns.Msg { <-release; return answers(60, "1.2.3.4")(m) })
	s := newTestServer(t, testZone())
	s.Forwarder.Upstreams, s.Forwarder.Timeout = []netip.AddrPort{u.at}, 5*time.Second
	udp, tcp := bind(t, "127.0.0.1")
	at := addrPort(udp.LocalAddr())
	waiting := dial(t, "udp", fromProd, at)
	if err := waiting.WriteMsg(question("example.com.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	const queued = 100
	local := dial(t, "udp", fromProd, at)
	for range queued {
		if err := local.WriteMsg(question("web.prod.ployz.internal.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	early := dial(t, "tcp", fromProd, at) // connected, with nothing asked yet
	ctx, stop := context.WithCancel(context.Background())
	stop() // before the first read
	done := make(chan error, 1)
	go func() {
		done <- s.Serve(ctx, Sockets{[]net.PacketConn{udp}, []net.Listener{tcp}})
	}()
	for i := range queued {
		if _, err := local.ReadMsg(); err != nil {
			t.Fatalf("reply %d of %d: %v", i, queued, err)
		}
	}
	if err := early.WriteMsg(question("web.prod.ployz.internal.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	if _, err := early.ReadMsg(); err != nil {
		t.Errorf("over TCP: %v", err)
	}
	select {
	case err := <-done:
		t.Fatalf("Serve returned %v while a query was waiting", err)
	default:
	}
	close(release)
	if _, err := waiting.ReadMsg(); err != nil {
		t.Errorf("the forwarded one: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
