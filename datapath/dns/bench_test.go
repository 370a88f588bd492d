package dns

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// benchNames is how many services the zone of the benchmarks has, with one instance each.
const benchNames = 10_000

func benchZone() Zone {
	z := testZone()
	z.Namespaces = z.Namespaces[:1]
	ns := &z.Namespaces[0]
	ns.Services, ns.Exports = nil, nil
	for i := range benchNames {
		a := netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)})
		ns.Services = append(ns.Services, Service{fmt.Sprint("s", i), []Instance{
			{ID: fmt.Sprint(i), Slot: "a-0", Machine: "m1", V4: a, Ready: true}}})
	}
	return z
}

func benchQueries(b *testing.B) [][]byte {
	out := make([][]byte, 4096)
	for i := range out {
		raw, err := question(fmt.Sprintf("s%d.prod.ployz.internal.", rand.IntN(benchNames)), dns.TypeA).Pack()
		if err != nil {
			b.Fatal(err)
		}
		out[i] = raw
	}
	return out
}

// plain is what one writes with miekg/dns in ten minutes: a map from name to address. It knows
// nothing of callers, order, drains or limits.
func plain() dns.HandlerFunc {
	table := map[string]net.IP{}
	for _, s := range benchZone().Namespaces[0].Services {
		table[s.Name+".prod.ployz.internal."] = s.Instances[0].V4.AsSlice()
	}
	return func(w dns.ResponseWriter, req *dns.Msg) {
		m := new(dns.Msg).SetReply(req)
		m.Authoritative = true
		q := req.Question[0]
		if a, ok := table[q.Name]; ok && q.Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: header(q.Name, dns.TypeA), A: a})
		}
		_ = w.WriteMsg(m) // the benchmark counts what arrives
	}
}

func startPlain(b *testing.B) netip.AddrPort {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	started := make(chan struct{})
	srv := &dns.Server{PacketConn: pc, Handler: plain(), NotifyStartedFunc: func() { close(started) }}
	go func() { _ = srv.ActivateAndServe() }() // returns at Shutdown
	<-started
	b.Cleanup(func() { _ = srv.Shutdown() })
	return addrPort(pc.LocalAddr())
}

// load asks for a while from two clients with 32 queries under way each, and returns how many
// were answered per second.
func load(b *testing.B, at netip.AddrPort, queries [][]byte, d time.Duration) float64 {
	var clients sync.WaitGroup
	var mu sync.Mutex
	total := 0
	began := time.Now()
	for range 2 {
		conn := dial(b, "udp", fromMachine, at).Conn
		clients.Go(func() {
			n := flood(b, conn, queries, began.Add(d))
			mu.Lock()
			defer mu.Unlock()
			total += n
		})
	}
	clients.Wait()
	return float64(total) / time.Since(began).Seconds()
}

func flood(b *testing.B, conn net.Conn, queries [][]byte, end time.Time) int {
	buf := make([]byte, 2048)
	answered := 0
	for i := 0; time.Now().Before(end); {
		for range 32 {
			if _, err := conn.Write(queries[i%len(queries)]); err != nil {
				b.Error(err)
				return answered
			}
			i++
		}
		for range 32 {
			n, err := conn.Read(buf)
			if err != nil || buf[7] != 1 {
				b.Errorf("reply of %d bytes, %v", n, err)
				return answered
			}
			answered++
		}
	}
	return answered
}

// BenchmarkAgainstPlain loads our server and the plain one in turns, over real sockets, with
// the client on the same cores, and reports the median ratio of queries per second.
func BenchmarkAgainstPlain(b *testing.B) {
	s := newTestServer(b, benchZone())
	s.RatePerSource = 10_000_000 // counted, but not reached
	ours, theirs := serving(b, s, "127.0.0.1"), startPlain(b)
	queries := benchQueries(b)
	var ratios, rates []float64
	for b.Loop() {
		mine := load(b, ours, queries, 300*time.Millisecond)
		plain := load(b, theirs, queries, 300*time.Millisecond)
		ratios, rates = append(ratios, mine/plain), append(rates, mine)
	}
	slices.Sort(ratios)
	slices.Sort(rates)
	b.ReportMetric(ratios[len(ratios)/2], "x-plain")
	b.ReportMetric(rates[len(rates)/2], "queries/s")
}

// BenchmarkMessage is the message path alone, without a socket.
func BenchmarkMessage(b *testing.B) {
	queries := benchQueries(b)
	s := newTestServer(b, benchZone())
	s.RatePerSource = 100_000_000
	out := make([]byte, 0, ednsSize)
	b.Run("fast", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if r, _ := s.answer(query{raw: queries[i%len(queries)], from: fromMachine, out: out}); r[7] != 1 {
				b.Fatal("no answer")
			}
		}
	})
	b.Run("parsed", func(b *testing.B) {
		b.ReportAllocs()
		v := s.view.Load()
		for i := 0; b.Loop(); i++ {
			x := exchange{server: s, view: v, caller: caller{kind: callerMachine}}
			if r, _ := x.parsed(query{raw: queries[i%len(queries)], from: fromMachine, out: out}); r[7] != 1 {
				b.Fatal("no answer")
			}
		}
	})
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		serve, w := plain(), &discard{}
		for i := 0; b.Loop(); i++ {
			req := new(dns.Msg)
			if err := req.Unpack(queries[i%len(queries)]); err != nil {
				b.Fatal(err)
			}
			serve(w, req)
		}
	})
}

// discard packs replies as a real writer does and drops them.
type discard struct{ dns.ResponseWriter }

func (*discard) WriteMsg(m *dns.Msg) error {
	_, err := m.Pack()
	return err
}

// BenchmarkApply is the time from a zone of 10,000 instances to its being served.
func BenchmarkApply(b *testing.B) {
	z := benchZone()
	s := NewServer()
	for b.Loop() {
		if err := s.Apply(z); err != nil {
			b.Fatal(err)
		}
	}
}
