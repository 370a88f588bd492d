package dns

import (
	"math/rand/v2"
	"net"
	"net/netip"

	"github.com/miekg/dns"
)

// ttl of every answer and negative answer of ours, in seconds: how long a client may go on
// with an instance that is gone.
const ttl = 1

// local answers a question of class IN from the view. ok is false where the view has nothing
// to say and the question may be forwarded. reply has its question, identity and flags already.
func (v *view) local(c caller, reply *dns.Msg) (ok bool) {
	q := &reply.Question[0]
	key := keyOf(q.Name)
	if key == "" {
		reply.Rcode = dns.RcodeFormatError
		return true
	}
	reply.Authoritative = true
	if owner, labels, ok := under(key, v.zones); ok {
		v.authoritative(c, reply, key, owner, labels)
		return true
	}
	for _, suffix := range v.search(c) {
		if n := v.find(key[:len(key)-1]+suffix, c); n != nil {
			v.fill(reply, n, ".")
			return true
		}
	}
	if specialUse(reply, key, v) {
		return true
	}
	reply.Authoritative = false
	return false
}

// authoritative answers for a name in one of our zones; labels is how many it has before the
// zone's own.
func (v *view) authoritative(c caller, reply *dns.Msg, key, owner string, labels int) {
	if n := v.find(key, c); n != nil {
		v.fill(reply, n, owner)
		return
	}
	if partialReverse(key) {
		// Part of an address: there may be names below, so it cannot be NXDOMAIN (RFC 8020).
		v.negative(reply, dns.RcodeSuccess, owner)
		return
	}
	v.negative(reply, dns.RcodeNameError, owner)
}

var arpa = map[string]string{mustKey(arpa4): arpa4, mustKey(arpa6): arpa6}

func partialReverse(key string) bool {
	switch owner, labels, _ := under(key, arpa); owner {
	case arpa4:
		return labels < 4
	case arpa6:
		return labels < 32
	}
	return false
}

var localhostKey = mustKey("localhost.")

// specialUse answers for names that must not leave the machine: localhost (RFC 6761) and
// addresses of single labels.
func specialUse(reply *dns.Msg, key string, v *view) bool {
	if _, _, ok := under(key, map[string]string{localhostKey: ""}); ok {
		n := &node{}
		n.v4.add(netip.AddrFrom4([4]byte{127, 0, 0, 1}), true)
		n.v6.add(netip.IPv6Loopback(), true)
		v.fill(reply, n, ".")
		return true
	}
	t := reply.Question[0].Qtype
	if labelCount(key) == 1 && (t == dns.TypeA || t == dns.TypeAAAA) {
		v.negative(reply, dns.RcodeNameError, ".")
		return true
	}
	return false
}

// fill puts the node's records of the type that was asked for into reply, or a SOA that says
// there are none.
func (v *view) fill(reply *dns.Msg, n *node, owner string) {
	q := reply.Question[0]
	switch q.Qtype {
	case dns.TypeA:
		appendAddresses(&reply.Answer, q.Name, n.v4)
	case dns.TypeAAAA:
		appendAddresses(&reply.Answer, q.Name, n.v6)
	case dns.TypeSRV:
		appendTargets(reply, n.srv)
	case dns.TypePTR:
		for _, i := range rand.Perm(len(n.ptr)) {
			reply.Answer = append(reply.Answer, &dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: n.ptr[i]})
		}
	case dns.TypeANY:
		reply.Answer = append(reply.Answer, hinfo(q.Name))
	case dns.TypeSOA, dns.TypeNS:
		if n.authority {
			reply.Answer = append(reply.Answer, v.apexRecord(q))
		}
	}
	if len(reply.Answer) == 0 {
		v.negative(reply, dns.RcodeSuccess, owner)
	}
}

func (v *view) apexRecord(q dns.Question) dns.RR {
	if q.Qtype == dns.TypeNS {
		return &dns.NS{Hdr: header(q.Name, dns.TypeNS), Ns: v.apex}
	}
	return v.soa(q.Name)
}

func (v *view) negative(reply *dns.Msg, rcode int, owner string) {
	reply.Rcode = rcode
	reply.Ns = append(reply.Ns, v.soa(owner))
}

func (v *view) soa(owner string) dns.RR {
	return &dns.SOA{
		Hdr: header(owner, dns.TypeSOA), Ns: v.apex, Mbox: "operator." + Domain + ".",
		Serial: v.serial, Refresh: 60, Retry: 60, Expire: 3600, Minttl: ttl,
	}
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// hinfo is the answer to ANY (RFC 8482).
func hinfo(name string) dns.RR {
	return &dns.HINFO{Hdr: header(name, dns.TypeHINFO), Cpu: "RFC8482"}
}

func appendAddresses(to *[]dns.RR, name string, set addresses) {
	for _, i := range shuffled(len(set.list), set.local) {
		*to = append(*to, addressRecord(name, set.list[i]))
	}
}

func addressRecord(name string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: header(name, dns.TypeA), A: net.IP(a.AsSlice())}
	}
	return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: net.IP(a.AsSlice())}
}

// shuffled returns the indexes 0 to n-1 in random order, the first local ones before the rest.
func shuffled(n, local int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	shufflePart(order[:local])
	shufflePart(order[local:])
	return order
}

func shufflePart[T any](s []T) {
	for i := len(s) - 1; i > 0; i-- {
		j := rand.IntN(i + 1)
		s[i], s[j] = s[j], s[i]
	}
}

// appendTargets adds SRV records and, so that the client need not ask again, their addresses.
func appendTargets(reply *dns.Msg, all []target) {
	name := reply.Question[0].Name
	targets := append([]target(nil), all...)
	shufflePart(targets)
	for _, local := range []bool{true, false} {
		for _, t := range targets {
			if t.local != local {
				continue
			}
			reply.Answer = append(reply.Answer, &dns.SRV{
				Hdr: header(name, dns.TypeSRV), Weight: 1, Port: t.port, Target: t.host})
			for _, a := range []netip.Addr{t.v4, t.v6} {
				if a.IsValid() {
					reply.Extra = append(reply.Extra, addressRecord(t.host, a))
				}
			}
		}
	}
}
