package dns

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"github.com/miekg/dns"
)

// maxFast is how many addresses the fast path puts into one answer.
const maxFast = 32

// fast answers the plainest and most frequent question without building messages: addresses
// that exist, by full name, with or without an empty OPT. It returns nil for anything else,
// which the parsed path then answers; a test holds the two to the same answers.
func (v *view) fast(q query, c caller) []byte {
	end := questionEnd(q.raw)
	if end == 0 || binary.BigEndian.Uint16(q.raw[end-2:]) != dns.ClassINET {
		return nil
	}
	limit, do, ok := fastLimit(q, end)
	if !ok {
		return nil
	}
	var key [256]byte
	n := copy(key[:], q.raw[headerLen:end-4])
	node := v.nodes[string(lower(key[:n]))]
	if node == nil || !node.visible(c) {
		return nil
	}
	var set *addresses
	switch binary.BigEndian.Uint16(q.raw[end-4:]) {
	case dns.TypeA:
		set = &node.v4
	case dns.TypeAAAA:
		set = &node.v6
	default:
		return nil
	}
	count := len(set.list)
	if count == 0 || count > maxFast || end+count*28+11 > limit {
		return nil
	}
	out := fastHeader(q, end, count)
	out = appendShuffled(out, set)
	if len(q.raw) > end {
		out[11] = 1
		out = appendOPT(out, do)
	}
	return out
}

// fastLimit checks that nothing but an OPT without options follows the question, and returns
// the size of answer that it allows.
func fastLimit(q query, end int) (limit int, do, ok bool) {
	limit = dns.MinMsgSize
	rest := q.raw[end:]
	switch {
	case binary.BigEndian.Uint32(q.raw[6:]) != 0: // answers or authority
		return 0, false, false
	case len(rest) == 0 && binary.BigEndian.Uint16(q.raw[10:]) == 0:
	case len(rest) == 11 && binary.BigEndian.Uint16(q.raw[10:]) == 1 && plainOPT(rest):
		limit = max(limit, min(int(binary.BigEndian.Uint16(rest[3:])), ednsSize))
		do = rest[7]&0x80 != 0
	default:
		return 0, false, false
	}
	if q.tcp {
		limit = dns.MaxMsgSize
	}
	return limit, do, true
}

// plainOPT accepts: root name, type 41, any size, extended code and version 0, any flags, no options.
func plainOPT(b []byte) bool {
	return b[0] == 0 && b[1] == 0 && b[2] == byte(dns.TypeOPT) && b[5] == 0 && b[6] == 0 && b[9] == 0 && b[10] == 0
}

func fastHeader(q query, end, count int) []byte {
	out := append(q.out[:0], q.raw[:end]...)
	out[2] = 0x84 | out[2]&0x01 // QR, AA; keep RD
	out[3] = 0x80 | out[3]&0x10 // RA; keep CD
	clear(out[6:headerLen])
	out[7] = byte(count)
	return out
}

func appendShuffled(out []byte, set *addresses) []byte {
	var order [maxFast]uint8
	for i := range set.list {
		order[i] = uint8(i)
	}
	shuffleBytes(order[:set.local])
	shuffleBytes(order[set.local:len(set.list)])
	for _, i := range order[:len(set.list)] {
		out = appendAddress(out, set.list[i])
	}
	return out
}

func shuffleBytes(s []uint8) {
	for i := len(s) - 1; i > 0; i-- {
		j := rand.Uint32N(uint32(i + 1))
		s[i], s[j] = s[j], s[i]
	}
}

// appendAddress adds an A or AAAA record whose owner points at the question.
func appendAddress(out []byte, a netip.Addr) []byte {
	if a.Is4() {
		b := a.As4()
		out = append(out, 0xc0, headerLen, 0, byte(dns.TypeA), 0, dns.ClassINET, 0, 0, 0, ttl, 0, 4)
		return append(out, b[:]...)
	}
	b := a.As16()
	out = append(out, 0xc0, headerLen, 0, byte(dns.TypeAAAA), 0, dns.ClassINET, 0, 0, 0, ttl, 0, 16)
	return append(out, b[:]...)
}

func appendOPT(out []byte, do bool) []byte {
	flags := byte(0)
	if do {
		flags = 0x80
	}
	return append(out, 0, 0, byte(dns.TypeOPT), ednsSize>>8, ednsSize&0xff, 0, 0, flags, 0, 0, 0)
}
