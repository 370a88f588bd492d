package dns

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// FuzzAnswer sends anything down the server's message path. Whatever comes back must be a
// reply to that message that a parser takes, and never larger than the client allowed.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"web.prod.ployz.internal.", "nosuch.prod.ployz.internal.", ".", "web.", "1.0.1.127.in-addr.arpa.", "example.com."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypePTR, dns.TypeANY, dns.TypeAXFR} {
			m := question(name, qtype)
			plain, _ := m.Pack()
			m.SetEdns0(512, true)
			edns, _ := m.Pack()
			f.Add(plain, uint8(qtype))
			f.Add(edns, uint8(0))
			f.Add(plain[:len(plain)-3], uint8(1))
		}
	}
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}, uint8(2)) // a name that points at itself
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 63, 'a'}, uint8(2))              // a label past the end
	f.Add(make([]byte, headerLen), uint8(0))
	froms := []netip.Addr{fromProd, fromDev, fromMachine, fromStranger}
	s := newTestServer(f, testZone())
	f.Fuzz(func(t *testing.T, raw []byte, how uint8) {
		q := query{raw: raw, from: froms[int(how)%len(froms)], tcp: how&4 != 0, out: make([]byte, 0, ednsSize)}
		reply, work := s.answer(q)
		if work != nil {
			reply = work()
		}
		if reply == nil {
			if len(raw) >= headerLen && raw[2]&0x80 == 0 && q.from != fromStranger {
				t.Fatal("a query got no reply")
			}
			return
		}
		checkReply(t, q, reply)
	})
}

func checkReply(t *testing.T, q query, reply []byte) {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(reply); err != nil {
		t.Fatalf("the reply %x does not parse: %v", reply, err)
	}
	if !m.Response || reply[0] != q.raw[0] || reply[1] != q.raw[1] {
		t.Fatalf("%x is no reply to %x", reply, q.raw)
	}
	if !q.tcp && len(reply) > ednsSize {
		t.Fatalf("%d bytes over UDP", len(reply))
	}
	if q.from == fromStranger && (m.Rcode != dns.RcodeRefused || len(m.Answer)+len(m.Ns)+len(m.Extra) > 0) {
		t.Fatalf("a stranger got %v", &m)
	}
}
