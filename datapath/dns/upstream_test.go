package dns

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// upstream is a resolver on loopback that behaves as its test wants, over UDP and TCP.
type upstream struct {
	at   netip.AddrPort
	asks atomic.Int64 // over UDP
	tcps atomic.Int64
	mu   sync.Mutex
	udp  func(*dns.Msg) []*dns.Msg // guarded by mu; replies to send, none is silence
	tcp  func(*dns.Msg) *dns.Msg   // guarded by mu; nil closes the connection
	seen []*dns.Msg                // guarded by mu
}

func newUpstream(t testing.TB, udp func(*dns.Msg) []*dns.Msg) *upstream {
	t.Helper()
	pc, l := bind(t, "127.0.0.1")
	u := &upstream{at: addrPort(pc.LocalAddr()), udp: udp}
	t.Cleanup(func() { pc.Close(); l.Close() })
	go u.serveUDP(pc)
	go u.serveTCP(l)
	return u
}

func (u *upstream) behave(udp func(*dns.Msg) []*dns.Msg) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.udp = udp
}

func (u *upstream) overTCP(reply func(*dns.Msg) *dns.Msg) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tcp = reply
}

// queries returns what was asked over UDP.
func (u *upstream) queries() []*dns.Msg {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.seen)
}

func (u *upstream) serveUDP(pc *net.UDPConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := pc.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		m := new(dns.Msg)
		if m.Unpack(buf[:n]) != nil {
			continue
		}
		u.asks.Add(1)
		u.mu.Lock()
		replies := u.udp
		u.seen = append(u.seen, m)
		u.mu.Unlock()
		go func() {
			for _, r := range replies(m) {
				if out, err := r.Pack(); err == nil {
					_, _ = pc.WriteToUDPAddrPort(out, from) // the client may be gone: that is tested
				}
			}
		}()
	}
}

func (u *upstream) serveTCP(l *net.TCPListener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			co := &dns.Conn{Conn: c}
			m, err := co.ReadMsg()
			if err != nil {
				return
			}
			u.tcps.Add(1)
			u.mu.Lock()
			reply := u.tcp
			u.mu.Unlock()
			if reply != nil {
				_ = co.WriteMsg(reply(m))
			}
		}()
	}
}

// The behaviours.

func answers(ttl uint32, address string) func(*dns.Msg) []*dns.Msg {
	return func(m *dns.Msg) []*dns.Msg { return []*dns.Msg{good(m, ttl, address)} }
}

func good(m *dns.Msg, ttl uint32, address string) *dns.Msg {
	r := new(dns.Msg).SetReply(m)
	r.RecursionAvailable = true
	hdr := dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
	r.Answer = []dns.RR{&dns.A{Hdr: hdr, A: net.ParseIP(address)}}
	return r
}

func rcode(code int) func(*dns.Msg) []*dns.Msg {
	return func(m *dns.Msg) []*dns.Msg { return []*dns.Msg{new(dns.Msg).SetRcode(m, code)} }
}

func silent(*dns.Msg) []*dns.Msg { return nil }

func truncated(m *dns.Msg) []*dns.Msg {
	r := new(dns.Msg).SetReply(m)
	r.Truncated = true
	return []*dns.Msg{r}
}

// forged sends what must not be believed, and then the truth.
func forged(m *dns.Msg) []*dns.Msg {
	id, name, kind, query := good(m, 60, "6.6.6.1"), good(m, 60, "6.6.6.2"), good(m, 60, "6.6.6.3"), good(m, 60, "6.6.6.4")
	id.Id++
	name.Question[0].Name = "other.example."
	kind.Question[0].Qtype = dns.TypeAAAA
	query.Response = false
	return []*dns.Msg{id, name, kind, query, good(m, 60, "1.2.3.4")}
}

func wrongID(m *dns.Msg) []*dns.Msg {
	r := good(m, 60, "6.6.6.6")
	r.Id++
	return []*dns.Msg{r}
}

// forwarding returns a server with those upstreams and short times, and where it listens.
func forwarding(t testing.TB, upstreams ...*upstream) (*Server, netip.AddrPort) {
	t.Helper()
	return forwardingWith(t, func(*Server) {}, upstreams...)
}

// forwardingWith changes the server before it serves.
func forwardingWith(t testing.TB, change func(*Server), upstreams ...*upstream) (*Server, netip.AddrPort) {
	t.Helper()
	s := newTestServer(t, testZone())
	s.Forwarder.Timeout = 150 * time.Millisecond
	s.Forwarder.StaleAfter = 60 * time.Millisecond
	for _, u := range upstreams {
		s.Forwarder.Upstreams = append(s.Forwarder.Upstreams, u.at)
	}
	change(s)
	return s, serving(t, s, "127.0.0.1")
}

func TestUpstreamBehaviours(t *testing.T) {
	ok := answers(60, "1.2.3.4")
	full := func(m *dns.Msg) *dns.Msg { return good(m, 60, "1.2.3.4") }
	tests := []struct {
		what  string
		first func(*dns.Msg) []*dns.Msg
		tcp   func(*dns.Msg) *dns.Msg
		next  func(*dns.Msg) []*dns.Msg // nil: there is no second upstream
		want  string
	}{
		{"good", ok, nil, nil, "NOERROR 1.2.3.4"},
		{"silent, then good", silent, nil, ok, "NOERROR 1.2.3.4"},
		{"SERVFAIL, then good", rcode(dns.RcodeServerFailure), nil, ok, "NOERROR 1.2.3.4"},
		{"REFUSED, then good", rcode(dns.RcodeRefused), nil, ok, "NOERROR 1.2.3.4"},
		{"wrong id, then good", wrongID, nil, ok, "NOERROR 1.2.3.4"},
		{"forgeries before the truth", forged, nil, nil, "NOERROR 1.2.3.4"},
		{"truncated, whole over TCP", truncated, full, nil, "NOERROR 1.2.3.4"},
		{"truncated, TCP closed, then good", truncated, nil, ok, "NOERROR 1.2.3.4"},
		{"truncated, TCP closed, no other", truncated, nil, nil, "NOERROR tc"},
		{"NXDOMAIN is an answer", rcode(dns.RcodeNameError), nil, ok, "NXDOMAIN"},
		{"all silent", silent, nil, silent, "SERVFAIL"},
		{"wrong id alone", wrongID, nil, nil, "SERVFAIL"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			first := newUpstream(t, tt.first)
			first.overTCP(tt.tcp)
			all := []*upstream{first}
			if tt.next != nil {
				all = append(all, newUpstream(t, tt.next))
			}
			s, at := forwarding(t, all...)
			r := ask(t, "udp", fromProd, at, question("EXAMPLE.com.", dns.TypeA))
			if got := picture(r); got != tt.want {
				t.Errorf("got %s, want %s; upstreams %+v", got, tt.want, s.Status().Upstreams)
			}
			if !r.RecursionAvailable || r.Question[0].Name != "EXAMPLE.com." || len(r.Answer) > 0 && r.Answer[0].Header().Name != "EXAMPLE.com." {
				t.Errorf("reply to EXAMPLE.com.: %v", r)
			}
		})
	}
}

func TestUpstreamThatFailedIsAskedLast(t *testing.T) {
	bad, fine := newUpstream(t, silent), newUpstream(t, answers(60, "1.2.3.4"))
	_, at := forwarding(t, bad, fine)
	for _, name := range []string{"a.example.", "b.example.", "c.example."} {
		ask(t, "udp", fromProd, at, question(name, dns.TypeA))
	}
	if bad.asks.Load() != 1 || fine.asks.Load() != 3 {
		t.Errorf("the silent one was asked %d times, the good one %d, want 1 and 3", bad.asks.Load(), fine.asks.Load())
	}
}

func TestNothingOfOursGoesUpstream(t *testing.T) {
	u := newUpstream(t, answers(60, "1.2.3.4"))
	_, at := forwarding(t, u)
	for _, name := range []string{
		"nosuch.prod.ployz.internal.", "nosuch.ployz.internal.", "PLOYZ.internal.", "a.b.c.d.ployz.internal.",
		"99.9.1.127.in-addr.arpa.", "nosuch.", "x.localhost.", "db.",
	} {
		for _, from := range []netip.Addr{fromProd, fromDev, fromMachine, fromStranger} {
			ask(t, "udp", from, at, question(name, dns.TypeA))
			ask(t, "udp", from, at, question(name, dns.TypeANY))
		}
	}
	ask(t, "udp", fromStranger, at, question("example.com.", dns.TypeA))
	if n := u.asks.Load(); n != 0 {
		t.Errorf("%d queries went upstream: %v", n, u.queries())
	}
	// The same set-up does forward what is not ours.
	ask(t, "udp", fromProd, at, question("ployz.internal.example.", dns.TypeA))
	if u.asks.Load() != 1 {
		t.Error("a foreign name was not forwarded")
	}
}

// TestUpstreamLearnsLittle holds what a query upstream carries of the client's.
func TestUpstreamLearnsLittle(t *testing.T) {
	u := newUpstream(t, answers(60, "1.2.3.4"))
	_, at := forwarding(t, u)
	m := question("ExAmple.com.", dns.TypeA)
	m.CheckingDisabled = true
	m.SetEdns0(4096, true)
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 32, Address: net.IP{127, 1, 0, 2}}}
	ask(t, "udp", fromProd, at, m)
	got := u.queries()[0]
	opt := got.IsEdns0()
	if got.Question[0].Name != "example.com." || !got.CheckingDisabled || opt == nil || !opt.Do() || opt.UDPSize() != 1232 || len(opt.Option) != 0 {
		t.Errorf("upstream got %v", got)
	}
}

func TestCacheAndSharedFlights(t *testing.T) {
	release := make(chan struct{})
	u := newUpstream(t, func(m *dns.Msg) []*dns.Msg { <-release; return answers(60, "1.2.3.4")(m) })
	s, at := forwardingWith(t, func(s *Server) { s.Forwarder.Timeout = 5 * time.Second }, u)
	const clients = 20
	conns := make([]*dns.Conn, clients)
	for i := range conns {
		conns[i] = dial(t, "udp", fromProd, at)
		if err := conns[i].WriteMsg(question("example.com.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all queries are waiting", func() bool { return s.Status().Counts.Forwarded == clients })
	close(release)
	for _, c := range conns {
		if r, err := c.ReadMsg(); err != nil || len(r.Answer) != 1 {
			t.Fatalf("reply %v, %v", r, err)
		}
	}
	r := ask(t, "tcp", fromProd, at, question("example.com.", dns.TypeA))
	if ttl := r.Answer[0].Header().Ttl; ttl == 0 || ttl > 60 {
		t.Errorf("TTL %d, want 1 to 60", ttl)
	}
	if n := u.asks.Load(); n != 1 {
		t.Errorf("the upstream was asked %d times for %d equal queries, want once", n, clients+1)
	}
}

func TestServeStale(t *testing.T) {
	u := newUpstream(t, answers(1, "1.2.3.4"))
	s, at := forwarding(t, u)
	ask(t, "udp", fromProd, at, question("example.com.", dns.TypeA))
	u.behave(silent)
	key := upstreamKey{name: "example.com.", qtype: dns.TypeA}
	eventually(t, "the answer has expired", func() bool {
		held, ok := s.Forwarder.cache.get(key, time.Now(), time.Hour)
		return ok && time.Now().After(held.expires)
	})
	m := question("example.com.", dns.TypeA)
	m.SetEdns0(1232, false)
	for _, why := range []string{"while the upstream is silent", "without asking it again"} {
		r := ask(t, "udp", fromProd, at, m)
		if picture(r) != "NOERROR 1.2.3.4" || r.Answer[0].Header().Ttl != 30 {
			t.Fatalf("%s: %v, want the stale answer with a TTL of 30", why, r)
		}
		opts := r.IsEdns0().Option
		if len(opts) != 1 || opts[0].(*dns.EDNS0_EDE).InfoCode != dns.ExtendedErrorCodeStaleAnswer {
			t.Errorf("%s: options %v, want extended error 3", why, opts)
		}
		eventually(t, "the refresh has failed", func() bool {
			held, _ := s.Forwarder.cache.get(key, time.Now(), time.Hour)
			return !held.retry.IsZero()
		})
	}
	if n := u.asks.Load(); n != 2 {
		t.Errorf("the upstream was asked %d times, want 2", n)
	}
	s.Forwarder.cache.postpone(key, time.Time{})
	u.behave(answers(60, "5.6.7.8"))
	if r := ask(t, "udp", fromProd, at, m); picture(r) != "NOERROR 5.6.7.8" {
		t.Errorf("after the upstream came back: %v", r)
	}
	if st := s.Status().Cache; st.Stale != 2 || st.Entries != 1 {
		t.Errorf("cache status %+v, want 2 stale answers and 1 entry", st)
	}
}

func TestStaleEnds(t *testing.T) {
	c := newCache()
	now := time.Now()
	key := upstreamKey{name: "example.com.", qtype: dns.TypeA}
	c.put(key, good(question("example.com.", dns.TypeA), 10, "1.2.3.4"), now, 1<<20)
	for after, want := range map[time.Duration]bool{0: true, time.Minute: true, time.Hour + 9*time.Second: true} {
		if _, ok := c.get(key, now.Add(after), time.Hour); ok != want {
			t.Errorf("after %v: found %v, want %v", after, ok, want)
		}
	}
	if _, ok := c.get(key, now.Add(time.Hour+11*time.Second), time.Hour); ok {
		t.Error("an answer is there an hour after it expired")
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache()
	const limit = 64 << 10
	first := upstreamKey{name: "0.example.", qtype: dns.TypeA}
	for i := range 1000 {
		m := question(string(rune('a'+i%26))+strings.Repeat("x", i%50)+".example.", dns.TypeA)
		c.put(upstreamKey{name: m.Question[0].Name, qtype: uint16(i)}, good(m, 60, "1.2.3.4"), time.Now(), limit)
		if _, bytes := c.size(); bytes > limit {
			t.Fatalf("%d bytes, want at most %d", bytes, limit)
		}
		if i == 0 {
			c.put(first, good(m, 60, "1.2.3.4"), time.Now(), limit)
		}
		c.get(first, time.Now(), 0) // in use, so it stays
	}
	entries, bytes := c.size()
	if _, ok := c.get(first, time.Now(), 0); !ok || entries < 50 || bytes < limit/2 {
		t.Errorf("%d entries, %d bytes, the used one kept: %v", entries, bytes, ok)
	}
}

func TestLifetime(t *testing.T) {
	q := question("example.com.", dns.TypeA)
	denial := func(ttl, minimum uint32) *dns.Msg {
		m := new(dns.Msg).SetRcode(q, dns.RcodeNameError)
		hdr := dns.RR_Header{Name: "com.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl}
		m.Ns = []dns.RR{&dns.SOA{Hdr: hdr, Ns: ".", Mbox: ".", Minttl: minimum}}
		return m
	}
	tests := []struct {
		m    *dns.Msg
		want time.Duration
	}{
		{good(q, 20, "1.2.3.4"), 20 * time.Second},
		{good(q, 1<<30, "1.2.3.4"), time.Hour},
		{good(q, 0, "1.2.3.4"), 0},
		{denial(900, 60), time.Minute},
		{denial(60, 900), time.Minute},
		{denial(9000, 9000), 5 * time.Minute},
		{new(dns.Msg).SetRcode(q, dns.RcodeNameError), 0},
	}
	for _, tt := range tests {
		if got := lifetime(tt.m); got != tt.want {
			t.Errorf("lifetime = %v, want %v, of %v", got, tt.want, tt.m)
		}
	}
}

func TestNeverToItself(t *testing.T) {
	s := newTestServer(t, testZone())
	s.Forwarder.ResolvConf = filepath.Join(t.TempDir(), "resolv.conf")
	udp, tcp := bind(t, "127.0.0.1")
	at := addrPort(udp.LocalAddr())
	s.Forwarder.Upstreams = []netip.AddrPort{at, netip.AddrPortFrom(netip.AddrFrom16(at.Addr().As16()), at.Port())}
	serveOn(t, s, udp, tcp)
	eventually(t, "it listens", func() bool { return len(s.Status().Listening) == 2 })
	if got := s.Forwarder.order(time.Now()); len(got) != 0 {
		t.Errorf("would ask %v, which is itself", got)
	}
	r := ask(t, "udp", fromProd, at, question("example.com.", dns.TypeA))
	if r.Rcode != dns.RcodeServerFailure || s.Status().Counts.Forwarded != 1 {
		t.Errorf("got %v after %d forwards", r, s.Status().Counts.Forwarded)
	}
	eventually(t, "the figures show it", func() bool {
		f := s.Figures()
		return f.Replies["SERVFAIL"] == 1 && f.Forward.Count == 1 && f.Failed == 1
	})
	wild := []Listening{{"udp", netip.MustParseAddrPort("[::]:53")}}
	for a, want := range map[string]bool{"127.0.0.53:53": true, "127.0.0.1:54": false, "203.0.113.1:53": false} {
		if got := isBound(wild, netip.MustParseAddrPort(a)); got != want {
			t.Errorf("isBound(all addresses, %s) = %v, want %v", a, got, want)
		}
	}
}

func TestResolvConfIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := func(list []netip.AddrPort) string {
		var out []string
		for _, a := range list {
			out = append(out, a.String())
		}
		return strings.Join(out, " ")
	}
	var r resolvConf
	now := time.Now()
	if got := r.servers(path, now); len(got) != 0 || r.failure() == nil {
		t.Errorf("without a file: %v, %v", got, r.failure())
	}
	write("# c\nsearch x\nnameserver 192.0.2.1\nnameserver\nnameserver nonsense\nnameserver fe80::1%eth0\noptions edns0\n")
	if got := text(r.servers(path, now.Add(500*time.Millisecond))); got != "" {
		t.Errorf("within a second: %s, want no look at the file", got)
	}
	if got := text(r.servers(path, now.Add(time.Second))); got != "192.0.2.1:53 [fe80::1%eth0]:53" || r.failure() != nil {
		t.Errorf("got %s, %v", got, r.failure())
	}
	write("nameserver 192.0.2.99\n")
	if got := text(r.servers(path, now.Add(2*time.Second))); got != "192.0.2.99:53" {
		t.Errorf("after the change: %s", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := text(r.servers(path, now.Add(3*time.Second))); got != "192.0.2.99:53" || !errors.Is(r.failure(), os.ErrNotExist) {
		t.Errorf("after it was removed: %s, %v", got, r.failure())
	}
}

// TestForwardsAreShared lets one source wait for a dead upstream as much as it can, and then
// another one ask.
func TestForwardsAreShared(t *testing.T) {
	u := newUpstream(t, silent)
	s, at := forwardingWith(t, func(s *Server) { s.MaxForwards, s.Forwarder.Timeout = 8, 2*time.Second }, u)
	greedy := dial(t, "udp", fromProd, at)
	for i := range 10 {
		if err := greedy.WriteMsg(question(string(rune('a'+i))+".example.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "its surplus is refused", func() bool { return s.Status().Counts.Failed >= 8 })
	u.behave(answers(60, "1.2.3.4"))
	if r := ask(t, "udp", fromDev, at, question("other.example.", dns.TypeA)); picture(r) != "NOERROR 1.2.3.4" {
		t.Errorf("the other source got %v", r)
	}
}

func TestRatePerSource(t *testing.T) {
	s := newTestServer(t, testZone())
	s.RatePerSource = 50
	at := serving(t, s, "127.0.0.1")
	burst := func(from netip.Addr, n int) (answered, refused int) {
		c := dial(t, "tcp", from, at)
		for range n {
			if err := c.WriteMsg(question("web.prod.ployz.internal.", dns.TypeA)); err != nil {
				t.Fatal(err)
			}
			r, err := c.ReadMsg()
			if err != nil {
				t.Fatal(err)
			}
			if r.Rcode == dns.RcodeRefused {
				refused++
			} else {
				answered++
			}
		}
		return answered, refused
	}
	began := time.Now()
	answered, refused := burst(fromProd, 300)
	most := 50 + int(time.Since(began).Seconds()*50) + 2
	if answered < 50 || answered > most || refused == 0 {
		t.Errorf("%d answered and %d refused, want 50 to %d answered", answered, refused, most)
	}
	if _, refused := burst(fromDev, 50); refused != 0 {
		t.Errorf("another source had %d refused", refused)
	}
	if got := s.Status().Counts.Limited; got != int64(refused) {
		t.Errorf("status counts %d limited, want %d", got, refused)
	}
}

func TestStrangersAreCapped(t *testing.T) {
	s := newTestServer(t, testZone())
	m, _ := question("example.com.", dns.TypeA).Pack()
	replies := 0
	for range 10 * strangersPerSecond {
		if r, _ := s.answer(query{raw: m, from: fromStranger}); r != nil {
			replies++
		}
	}
	if replies < strangersPerSecond || replies > 2*strangersPerSecond {
		t.Errorf("%d strangers of %d got a reply, want about %d", replies, 10*strangersPerSecond, strangersPerSecond)
	}
}

// TestTCPConversation sends two queries in one segment, one in two, and then nonsense.
func TestTCPConversation(t *testing.T) {
	s := newTestServer(t, testZone())
	s.IdleTimeout = 300 * time.Millisecond
	at := serving(t, s, "127.0.0.1")
	c := dial(t, "tcp", fromProd, at)
	m, _ := question("web.prod.ployz.internal.", dns.TypeA).Pack()
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...)
	send := func(b []byte) {
		if _, err := c.Conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	send(append(append([]byte(nil), framed...), framed...))
	send(framed[:5])
	for range 2 {
		if _, err := c.ReadMsg(); err != nil {
			t.Fatal(err)
		}
	}
	send(framed[5:])
	if r, err := c.ReadMsg(); err != nil || len(r.Answer) != 2 {
		t.Fatalf("%v, %v", r, err)
	}
	if _, err := c.ReadMsg(); !errors.Is(err, io.EOF) {
		t.Errorf("a silent connection: %v, want it closed", err)
	}
}

// eventually waits for a condition, which must come true within ten seconds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within ten seconds: %s", what)
		}
	}
}
