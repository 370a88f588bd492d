package mesh

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// FreshFor is how long after a handshake its session still carries, by WireGuard's own rules.
	FreshFor = 180 * time.Second
	// NATKeepalive is the keepalive of a machine behind a NAT: less than any NAT forgets a flow in.
	NATKeepalive = 25 * time.Second
	// MaxCandidates bounds a peer's candidates, so that a round through them ends.
	MaxCandidates = 8
)

// Fresh tells whether the peer's last handshake is young enough to carry.
func (p SeenPeer) Fresh(now time.Time) bool {
	return !p.LastHandshake.IsZero() && now.Sub(p.LastHandshake) < FreshFor
}

// Observed returns where this machine reaches its peers: the endpoints of fresh handshakes. They are candidates
// for others.
func (s Seen) Observed(now time.Time) map[Key]netip.AddrPort {
	out := map[Key]netip.AddrPort{}
	for _, p := range s.Peers {
		if p.Endpoint.IsValid() && p.Fresh(now) {
			out[p.PublicKey] = p.Endpoint
		}
	}
	return out
}

// Candidates joins lists of endpoints, each once, the first MaxCandidates. Give the machine's own word first, then
// what peers see.
func Candidates(lists ...[]netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, c := range slices.Concat(lists...) {
		c = netip.AddrPortFrom(c.Addr().Unmap(), c.Port())
		if usable(c) && !slices.Contains(out, c) && len(out) < MaxCandidates {
			out = append(out, c)
		}
	}
	return out
}

// usable leaves out what no peer could send to: no port, or an address that means somewhere else there.
func usable(c netip.AddrPort) bool {
	a := c.Addr()
	return c.IsValid() && c.Port() != 0 && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}

// BehindNAT tells whether peers see the machine only at addresses that it does not have. Nobody seeing it is no sign.
func BehindNAT(own []netip.Addr, observed []netip.AddrPort) bool {
	return len(observed) > 0 && !slices.ContainsFunc(observed, func(o netip.AddrPort) bool {
		return slices.Contains(own, o.Addr().Unmap())
	})
}
