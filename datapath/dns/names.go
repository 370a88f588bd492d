package dns

import (
	"net/netip"
	"strconv"

	"github.com/miekg/dns"
)

// A key is a name in wire form, lower-cased, with the root at its end. It is what the view is
// indexed by: unlike a name in text it has one spelling only.

// domainKey is the key of Domain.
var domainKey = mustKey(Domain + ".")

// keyOf returns the key of a fully qualified name in text, or "" where there is none.
func keyOf(name string) string {
	var buf [256]byte
	n, err := dns.PackDomainName(name, buf[:], 0, nil, false)
	if err != nil {
		return ""
	}
	return string(lower(buf[:n]))
}

func mustKey(name string) string {
	k := keyOf(name)
	if k == "" {
		panic("dns: bad constant name " + name)
	}
	return k
}

// lower folds a name in wire form in place. Length bytes are at most 63, below 'A'.
func lower(b []byte) []byte {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}

// under returns the longest suffix of key on a label border that set has. labels is how many
// labels stand before it.
func under(key string, set map[string]string) (owner string, labels int, ok bool) {
	for i := 0; i < len(key); i += 1 + int(key[i]) {
		if owner, ok := set[key[i:]]; ok {
			return owner, labels, true
		}
		if key[i] == 0 {
			break
		}
		labels++
	}
	return "", 0, false
}

// labelCount returns how many labels a key has, 0 for the root.
func labelCount(key string) int {
	n := 0
	for i := 0; key[i] != 0; i += 1 + int(key[i]) {
		n++
	}
	return n
}

const (
	arpa4 = "in-addr.arpa."
	arpa6 = "ip6.arpa."
)

// reverseLabels are how many labels a whole address has before arpa4 or arpa6.
func reverseLabels(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 32
}

// reverseName returns the name under which the first labels of an address are looked up:
// octets for v4, nibbles for v6.
func reverseName(a netip.Addr, labels int) string {
	var out []byte
	if a.Is4() {
		b := a.As4()
		for i := labels - 1; i >= 0; i-- {
			out = append(strconv.AppendUint(out, uint64(b[i]), 10), '.')
		}
		return string(out) + arpa4
	}
	const digits = "0123456789abcdef"
	b := a.As16()
	for i := labels - 1; i >= 0; i-- {
		out = append(out, digits[b[i/2]>>(4*(1-i%2))&15], '.')
	}
	return string(out) + arpa6
}

// reverseZones returns the names that together cover a prefix: one where it ends on a label's
// border, else as many as it takes below the next one, at most 128.
func reverseZones(p netip.Prefix) []string {
	p = p.Masked()
	bits := 8
	if !p.Addr().Is4() {
		bits = 4
	}
	labels := (p.Bits() + bits - 1) / bits
	var out []string
	for a, n := p.Addr(), 1<<(labels*bits-p.Bits()); n > 0; n-- {
		out = append(out, reverseName(a, labels))
		a = step(a, labels*bits)
	}
	return out
}

// step returns the first address of the prefix after the one of that length that a is in.
func step(a netip.Addr, bits int) netip.Addr {
	b := a.AsSlice()
	add := 1 << (7 - (bits-1)%8)
	for i := (bits - 1) / 8; i >= 0 && add > 0; i-- {
		sum := int(b[i]) + add
		b[i], add = byte(sum), sum>>8
	}
	next, _ := netip.AddrFromSlice(b)
	return next
}
