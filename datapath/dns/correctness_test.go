package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// picture renders what matters of a reply: code, flags, and records with types and values.
// Records of one section are sorted, since their order is random.
func picture(m *dns.Msg) string {
	words := []string{dns.RcodeToString[m.Rcode]}
	for flag, set := range map[string]bool{"aa": m.Authoritative, "tc": m.Truncated} {
		if set {
			words = append(words, flag)
		}
	}
	slices.Sort(words[1:])
	for prefix, section := range map[string][]dns.RR{"": m.Answer} {
		words = append(words, records(prefix, section)...)
	}
	words = append(words, records("ns:", m.Ns)...)
	words = append(words, records("+", m.Extra)...)
	return strings.Join(words, " ")
}

func records(prefix string, section []dns.RR) []string {
	var out []string
	for _, rr := range section {
		switch rr := rr.(type) {
		case *dns.OPT:
		case *dns.SOA:
			out = append(out, prefix+"SOA:"+rr.Hdr.Name)
		case *dns.A:
			out = append(out, prefix+rr.A.String())
		case *dns.AAAA:
			out = append(out, prefix+rr.AAAA.String())
		case *dns.SRV:
			out = append(out, fmt.Sprintf("%s%s:%d", prefix, rr.Target, rr.Port))
		default:
			text := strings.Fields(rr.String())
			out = append(out, prefix+strings.Join(text[4:], ":"))
		}
	}
	slices.Sort(out)
	return out
}

const (
	soa      = "ns:SOA:ployz.internal."
	noName   = "NXDOMAIN aa " + soa
	noRecord = "NOERROR aa " + soa
	web6     = "fd00:aa:bb:1:0:10:0:1 fd00:aa:bb:1:0:10:0:2"
)

func TestNames(t *testing.T) {
	s := newTestServer(t, testZone())
	at := serving(t, s, "127.0.0.1")
	tests := []struct {
		from  netip.Addr
		name  string
		qtype uint16
		want  string
	}{
		// a service and its instances, by full name
		{fromProd, "web.prod.ployz.internal.", dns.TypeA, "NOERROR aa 127.1.0.2 127.1.2.3"},
		{fromProd, "web.prod.ployz.internal.", dns.TypeAAAA, "NOERROR aa " + web6},
		{fromProd, "web-2.web.prod.ployz.internal.", dns.TypeA, "NOERROR aa 127.1.0.4"},
		{fromProd, "leaving.prod.ployz.internal.", dns.TypeA, "NOERROR aa 127.1.0.6"},
		// nothing of that type, and nothing at all
		{fromProd, "db.prod.ployz.internal.", dns.TypeAAAA, noRecord},
		{fromProd, "db.prod.ployz.internal.", dns.TypeMX, noRecord},
		{fromProd, "empty.prod.ployz.internal.", dns.TypeA, noRecord},
		{fromProd, "prod.ployz.internal.", dns.TypeA, noRecord},
		{fromProd, "_tcp.web.prod.ployz.internal.", dns.TypeSRV, noRecord},
		{fromProd, "machine.ployz.internal.", dns.TypeA, noRecord},
		{fromProd, "nosuch.prod.ployz.internal.", dns.TypeA, noName},
		{fromProd, "web.nosuch.ployz.internal.", dns.TypeA, noName},
		{fromProd, "x.web-0.web.prod.ployz.internal.", dns.TypeA, noName},
		// the top of the zone
		{fromProd, "ployz.internal.", dns.TypeSOA, "NOERROR aa SOA:ployz.internal."},
		{fromProd, "ployz.internal.", dns.TypeNS, "NOERROR aa m1.machine.ployz.internal."},
		// services with ports
		{fromProd, "_http._tcp.web.prod.ployz.internal.", dns.TypeSRV,
			"NOERROR aa web-0.web.prod.ployz.internal.:8080 web-1.web.prod.ployz.internal.:8080 " +
				"+127.1.0.2 +127.1.2.3 +fd00:aa:bb:1:0:10:0:1 +fd00:aa:bb:1:0:10:0:2"},
		{fromProd, "_http._udp.web.prod.ployz.internal.", dns.TypeSRV, noName},
		// machines
		{fromProd, "m2.machine.ployz.internal.", dns.TypeA, "NOERROR aa 127.1.2.1"},
		{fromProd, "m2.machine.ployz.internal.", dns.TypeAAAA, "NOERROR aa fd00:aa:bb:2::1"},
		{fromProd, "m3.machine.ployz.internal.", dns.TypeA, noName},
		// backwards
		{fromProd, "3.2.1.127.in-addr.arpa.", dns.TypePTR, "NOERROR aa web-1.web.prod.ployz.internal."},
		{fromProd, "1.2.1.127.in-addr.arpa.", dns.TypePTR, "NOERROR aa m2.machine.ployz.internal."},
		{fromProd, reverseName(v6(prodID, 2), 32), dns.TypePTR, "NOERROR aa web-1.web.prod.ployz.internal."},
		{fromProd, "99.2.1.127.in-addr.arpa.", dns.TypePTR, "NXDOMAIN aa ns:SOA:1.127.in-addr.arpa."},
		{fromProd, "2.1.127.in-addr.arpa.", dns.TypePTR, "NOERROR aa ns:SOA:1.127.in-addr.arpa."},
		{fromDev, "5.0.1.127.in-addr.arpa.", dns.TypePTR, "NXDOMAIN aa ns:SOA:1.127.in-addr.arpa."},
		{fromDev, "3.2.1.127.in-addr.arpa.", dns.TypePTR, "NOERROR aa web-1.web.prod.ployz.internal."},
		// relative names of a workload
		{fromProd, "web.", dns.TypeA, "NOERROR aa 127.1.0.2 127.1.2.3"},
		{fromDev, "web.", dns.TypeA, "NOERROR aa 127.1.2.8"},
		{fromDev, "web.prod.", dns.TypeA, "NOERROR aa 127.1.0.2 127.1.2.3"},
		{fromProd, "web-0.web.", dns.TypeA, "NOERROR aa 127.1.0.2"},
		{fromProd, "m1.machine.", dns.TypeA, "NOERROR aa 127.1.0.1"},
		{fromProd, "db.", dns.TypeAAAA, "NOERROR aa ns:SOA:."},
		{fromDev, "db.", dns.TypeA, "NXDOMAIN aa ns:SOA:."},
		{fromMachine, "web.", dns.TypeA, "NXDOMAIN aa ns:SOA:."},
		{fromProd, "localhost.", dns.TypeA, "NOERROR aa 127.0.0.1"},
		{fromProd, "a.localhost.", dns.TypeAAAA, "NOERROR aa ::1"},
		// what others may see
		{fromDev, "web.prod.ployz.internal.", dns.TypeA, "NOERROR aa 127.1.0.2 127.1.2.3"},
		{fromDev, "web-0.web.prod.ployz.internal.", dns.TypeA, "NOERROR aa 127.1.0.2"},
		{fromDev, "_http._tcp.web.prod.ployz.internal.", dns.TypeMX, noRecord},
		{fromDev, "prod.ployz.internal.", dns.TypeA, noRecord}, // something in it is exported
		{fromDev, "db.prod.ployz.internal.", dns.TypeA, noName},
		{fromDev, "db.prod.ployz.internal.", dns.TypeANY, noName},
		{fromDev, "db-0.db.prod.ployz.internal.", dns.TypeA, noName},
		{fromProd, "web.dev.ployz.internal.", dns.TypeA, noName},
		{fromProd, "dev.ployz.internal.", dns.TypeA, noName},
		{fromMachine, "db.prod.ployz.internal.", dns.TypeA, "NOERROR aa 127.1.0.5"},
		{fromMachine, "web.dev.ployz.internal.", dns.TypeA, "NOERROR aa 127.1.2.8"},
		{fromStranger, "web.prod.ployz.internal.", dns.TypeA, "REFUSED"},
		{fromStranger, "example.com.", dns.TypeA, "REFUSED"},
		{fromStranger, "m1.machine.ployz.internal.", dns.TypeA, "REFUSED"},
		// ANY (RFC 8482), and types that are no data
		{fromProd, "web.prod.ployz.internal.", dns.TypeANY, `NOERROR aa "RFC8482":""`},
		{fromProd, "example.com.", dns.TypeANY, `NOERROR "RFC8482":""`},
		{fromProd, "ployz.internal.", dns.TypeAXFR, "REFUSED"},
		// no upstream is configured
		{fromProd, "example.com.", dns.TypeA, "SERVFAIL"},
	}
	for _, tt := range tests {
		for _, network := range []string{"udp", "tcp"} {
			r := ask(t, network, tt.from, at, question(tt.name, tt.qtype))
			if got := picture(r); got != tt.want {
				t.Errorf("%s %s %s from %v:\n got %s\nwant %s", network, tt.name, dns.TypeToString[tt.qtype], tt.from, got, tt.want)
			}
		}
	}
}

func TestEveryTTLIsShort(t *testing.T) {
	at := serving(t, newTestServer(t, testZone()), "127.0.0.1")
	for _, name := range []string{"web.prod.ployz.internal.", "nosuch.prod.ployz.internal.", "db.prod.ployz.internal."} {
		r := ask(t, "udp", fromProd, at, question(name, dns.TypeAAAA))
		for _, rr := range append(r.Answer, r.Ns...) {
			if rr.Header().Ttl != 1 {
				t.Errorf("%v has a TTL other than 1", rr)
			}
			if soa, ok := rr.(*dns.SOA); ok && soa.Minttl != 1 {
				t.Errorf("negative TTL %d, want 1", soa.Minttl)
			}
		}
	}
}

func TestCaseIsEchoed(t *testing.T) {
	at := serving(t, newTestServer(t, testZone()), "127.0.0.1")
	for _, name := range []string{"wEb.PrOd.pLoYz.InTeRnAl.", "WEB.", "_HtTp._TCP.Web.prod.ployz.internal."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
			r := ask(t, "udp", fromProd, at, question(name, qtype))
			if r.Question[0].Name != name {
				t.Errorf("question %q came back as %q", name, r.Question[0].Name)
			}
			for _, rr := range r.Answer {
				if rr.Header().Name != name {
					t.Errorf("%q is answered under %q", name, rr.Header().Name)
				}
			}
		}
	}
}

func TestLocalFirstAndShuffled(t *testing.T) {
	z := testZone()
	web := &z.Namespaces[0].Services[0]
	web.Instances = nil
	for i := range 8 {
		machine := "m2"
		if i%2 == 0 {
			machine = "m1"
		}
		web.Instances = append(web.Instances, Instance{ID: fmt.Sprint(i), Slot: fmt.Sprint("web-", i),
			Machine: machine, V4: netip.AddrFrom4([4]byte{127, 1, 5, byte(i)}), Ready: true})
	}
	at := serving(t, newTestServer(t, z), "127.0.0.1")
	// The fast path, and by an option it does not know, the parsed one.
	withOption := func(m *dns.Msg) *dns.Msg {
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")}}
		return m
	}
	for _, change := range []func(*dns.Msg) *dns.Msg{func(m *dns.Msg) *dns.Msg { return m }, withOption} {
		firsts := map[string]int{}
		for range 200 {
			r := ask(t, "udp", fromMachine, at, change(question("web.prod.ployz.internal.", dns.TypeA)))
			if len(r.Answer) != 8 {
				t.Fatalf("%d answers, want 8", len(r.Answer))
			}
			for i, rr := range r.Answer {
				if here := rr.(*dns.A).A[3]%2 == 0; here != (i < 4) {
					t.Fatalf("answer %d is %v: local instances must be the first four", i, rr)
				}
			}
			firsts[r.Answer[0].(*dns.A).A.String()]++
		}
		// With a fair shuffle each of four is first 50 times of 200; below 20 is a one in a million.
		for a, n := range firsts {
			if n < 20 {
				t.Errorf("%s was first %d times of 200", a, n)
			}
		}
		if len(firsts) != 4 {
			t.Errorf("first were %v, want all four local ones", firsts)
		}
	}
}

func TestLargeAnswers(t *testing.T) {
	z := testZone()
	web := &z.Namespaces[0].Services[0]
	web.Instances = nil
	for i := range 100 {
		web.Instances = append(web.Instances, Instance{ID: fmt.Sprint(i), Slot: fmt.Sprint("web-", i),
			Machine: "m1", V4: netip.AddrFrom4([4]byte{127, 1, 5, byte(i)}), Ready: true})
	}
	at := serving(t, newTestServer(t, z), "127.0.0.1")
	tests := []struct {
		network string
		edns    uint16
		most    int
		cut     bool
	}{
		{"udp", 0, 512, true},
		{"udp", 100, 512, true},
		{"udp", 1000, 1000, true},
		{"udp", 4096, 1232, true},
		{"tcp", 0, 65535, false},
	}
	for _, tt := range tests {
		m := question("web.prod.ployz.internal.", dns.TypeA)
		if tt.edns > 0 {
			m.SetEdns0(tt.edns, false)
		}
		r := ask(t, tt.network, fromMachine, at, m)
		r.Compress = true
		if r.Truncated != tt.cut || r.Len() > tt.most || !tt.cut && len(r.Answer) != 100 {
			t.Errorf("%s with EDNS %d: tc=%v, %d answers in %d bytes, want tc=%v in at most %d",
				tt.network, tt.edns, r.Truncated, len(r.Answer), r.Len(), tt.cut, tt.most)
		}
		if opt := r.IsEdns0(); (opt != nil) != (tt.edns > 0) || opt != nil && opt.UDPSize() != 1232 {
			t.Errorf("%s with EDNS %d: OPT in the reply is %v", tt.network, tt.edns, opt)
		}
	}
}

func TestRefusedByRule(t *testing.T) {
	at := serving(t, newTestServer(t, testZone()), "127.0.0.1")
	change := func(f func(*dns.Msg)) *dns.Msg {
		m := question("web.prod.ployz.internal.", dns.TypeA)
		f(m)
		return m
	}
	tests := []struct {
		what string
		msg  *dns.Msg
		want int
	}{
		{"class CH", change(func(m *dns.Msg) {
			m.Question[0] = dns.Question{Name: "version.bind.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}
		}), dns.RcodeRefused},
		{"NOTIFY", change(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), dns.RcodeNotImplemented},
		{"UPDATE", change(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		{"two questions", change(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		{"no question", change(func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError},
		{"an answer in it", change(func(m *dns.Msg) { m.Answer = []dns.RR{hinfo("x.")} }), dns.RcodeFormatError},
		{"EDNS version 1", change(func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }), dns.RcodeBadVers},
		{"two OPT", change(func(m *dns.Msg) { m.SetEdns0(1232, false); m.SetEdns0(1232, false) }), dns.RcodeFormatError},
		{"no recursion wanted", change(func(m *dns.Msg) { m.Question[0].Name = "example.com."; m.RecursionDesired = false }), dns.RcodeRefused},
	}
	for _, tt := range tests {
		for _, network := range []string{"udp", "tcp"} {
			r := ask(t, network, fromProd, at, tt.msg)
			if r.Rcode != tt.want || len(r.Answer) != 0 {
				t.Errorf("%s over %s: %s with %d answers, want %s", tt.what, network,
					dns.RcodeToString[r.Rcode], len(r.Answer), dns.RcodeToString[tt.want])
			}
		}
	}
}
