package dns

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

const (
	headerLen = 12
	// ednsSize is the largest UDP answer: it fits an IPv6 packet of the least MTU unbroken.
	ednsSize = 1232
)

// query is one message from a client.
type query struct {
	raw  []byte // valid until answer or the work it returned is done
	from netip.Addr
	tcp  bool
	out  []byte // space for the reply; used if it is large enough
}

// exchange is a query on its way to an answer. The fields from req on are set once it is parsed.
type exchange struct {
	server *Server
	view   *view
	caller caller
	tcp    bool
	req    *dns.Msg
	reply  *dns.Msg
	note   *dns.EDNS0_EDE // why, for clients that speak EDNS
}

// answer returns the reply to a query, or nil where none is due. If work is not nil the reply
// needs an upstream: work waits for it and must run elsewhere, at most for the forwarder's limit.
func (s *Server) answer(q query) (reply []byte, work func() []byte) {
	if len(q.raw) < headerLen || q.raw[2]&0x80 != 0 {
		s.count.dropped.Add(1)
		return nil, nil // not a query; answering could make two resolvers talk for ever
	}
	from := q.from.Unmap()
	v := s.view.Load()
	who := v.caller(from, s.Trusted)
	if who.kind == callerStranger {
		return s.refuseStranger(q), nil
	}
	if !s.limiter.allow(from, s.RatePerSource, time.Now()) {
		s.count.limited.Add(1)
		return bare(q, dns.RcodeRefused), nil
	}
	if rcode := gate(q.raw); rcode != dns.RcodeSuccess {
		s.count.malformed.Add(1)
		return bare(q, rcode), nil
	}
	if fast := v.fast(q, who); fast != nil {
		s.count.local.Add(1)
		return fast, nil
	}
	x := &exchange{server: s, view: v, caller: who, tcp: q.tcp}
	return x.parsed(q)
}

// refuseStranger tells strangers off, but no more often than is useful to someone who
// debugs: their addresses may be forged.
func (s *Server) refuseStranger(q query) []byte {
	if !take(&s.strangers, strangersPerSecond, time.Now()) {
		s.count.dropped.Add(1)
		return nil
	}
	s.count.refused.Add(1)
	return bare(q, dns.RcodeRefused)
}

// gate judges a header: the response code to give at once, or success to go on.
func gate(raw []byte) int {
	count := func(at int) uint16 { return binary.BigEndian.Uint16(raw[at:]) }
	switch {
	case raw[2]>>3&15 != dns.OpcodeQuery:
		return dns.RcodeNotImplemented
	case count(4) != 1, count(6) != 0, count(8) > 1, count(10) > 2:
		return dns.RcodeFormatError
	}
	return dns.RcodeSuccess
}

// bare is a reply without records. It carries the question if that is in order, and else none.
func bare(q query, rcode int) []byte {
	out := append(q.out[:0], q.raw[:headerLen]...)
	out[2] = 0x80 | out[2]&0x79 // QR; keep opcode and RD
	out[3] = byte(rcode)
	clear(out[4:headerLen])
	if end := questionEnd(q.raw); end > 0 && binary.BigEndian.Uint16(q.raw[4:]) == 1 {
		out[5] = 1
		out = append(out, q.raw[headerLen:end]...)
	}
	return out
}

// questionEnd returns where a lone question ends, or 0 if it is not a plain one.
func questionEnd(raw []byte) int {
	i := headerLen
	for i < len(raw) && raw[i] != 0 {
		if raw[i] > 63 {
			return 0
		}
		i += 1 + int(raw[i])
	}
	if i-headerLen > 254 || i+5 > len(raw) {
		return 0
	}
	return i + 5
}

// parsed goes on with what the fast path left.
func (x *exchange) parsed(q query) (reply []byte, work func() []byte) {
	x.req = new(dns.Msg)
	// A message cut short after the header unpacks without an error but also without a question.
	if err := x.req.Unpack(q.raw); err != nil || len(x.req.Question) != 1 {
		x.server.count.malformed.Add(1)
		return bare(q, dns.RcodeFormatError), nil
	}
	x.reply = new(dns.Msg).SetReply(x.req)
	x.reply.RecursionAvailable = true
	if !x.judge() && !x.view.local(x.caller, x.reply) && x.forwardable() {
		x.server.count.forwarded.Add(1)
		return nil, func() []byte {
			x.server.Forwarder.fill(x)
			return x.pack(nil)
		}
	}
	x.server.count.local.Add(1)
	return x.pack(q.out[:cap(q.out)]), nil
}

// judge settles questions that do not depend on any name. It reports whether it did.
func (x *exchange) judge() bool {
	q := x.req.Question[0]
	switch {
	case countOPT(x.req) > 1:
		x.reply.Rcode = dns.RcodeFormatError
	case ednsVersion(x.req) != 0:
		x.reply.Rcode = dns.RcodeBadVers
	case q.Qclass != dns.ClassINET, isMeta(q.Qtype):
		x.reply.Rcode = dns.RcodeRefused
	default:
		return false
	}
	return true
}

// isMeta are types that are no data: OPT, and the range of transfers and transactions but ANY.
func isMeta(t uint16) bool {
	return t == dns.TypeOPT || t == 0 || (t >= 249 && t <= 254)
}

// forwardable says whether a name that is not ours may go upstream. Otherwise the reply is set.
func (x *exchange) forwardable() bool {
	switch q := x.req.Question[0]; {
	case q.Qtype == dns.TypeANY:
		x.reply.Answer = append(x.reply.Answer, hinfo(q.Name))
	case !x.req.RecursionDesired:
		x.reply.Rcode = dns.RcodeRefused
		x.explain(dns.ExtendedErrorCodeNotAuthoritative, "")
	default:
		return true
	}
	return false
}

func (x *exchange) explain(code uint16, text string) {
	x.note = &dns.EDNS0_EDE{InfoCode: code, ExtraText: text}
}

func countOPT(m *dns.Msg) int {
	n := 0
	for _, rr := range m.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			n++
		}
	}
	return n
}

func ednsVersion(m *dns.Msg) uint8 {
	if opt := m.IsEdns0(); opt != nil {
		return opt.Version()
	}
	return 0
}

// limit is the largest reply that the client takes.
func (x *exchange) limit() int {
	opt := x.req.IsEdns0()
	switch {
	case x.tcp:
		return dns.MaxMsgSize
	case opt == nil:
		return dns.MinMsgSize
	}
	return max(dns.MinMsgSize, min(int(opt.UDPSize()), ednsSize))
}

// pack turns the reply into bytes that the client takes, in buf where that is large enough.
func (x *exchange) pack(buf []byte) []byte {
	if opt := x.req.IsEdns0(); opt != nil {
		x.reply.SetEdns0(ednsSize, opt.Do())
		if x.note != nil {
			own := x.reply.IsEdns0()
			own.Option = append(own.Option, x.note)
		}
	}
	if !fits(x.reply, x.limit()) && len(x.reply.Answer) > 0 {
		trimExtra(x.reply)
	}
	x.reply.Truncate(x.limit())
	x.reply.Compress = true
	out, err := x.reply.PackBuffer(buf)
	if err != nil {
		// Records from an upstream that cannot be written again.
		x.server.count.failed.Add(1)
		out, _ = new(dns.Msg).SetRcode(x.req, dns.RcodeServerFailure).Pack()
	}
	return out
}

func fits(m *dns.Msg, size int) bool {
	m.Compress = true
	return m.Len() <= size
}

// trimExtra drops additional records: missing ones are no truncation (RFC 2181 §9).
func trimExtra(m *dns.Msg) {
	var opt []dns.RR
	for _, rr := range m.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			opt = append(opt, rr)
		}
	}
	m.Extra = opt
}
