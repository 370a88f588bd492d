package mesh

import (
	"net/netip"
	"slices"
	"time"
)

// Wanted is what a device is to be.
type Wanted struct {
	Private    PrivateKey
	ListenPort uint16
	Peers      []Peer
}

// Peer is another machine as this one is to know it.
type Peer struct {
	// Machine is its name.
	Machine   string `json:"machine"`
	PublicKey Key    `json:"publicKey"`
	// Endpoints are its candidates, the likeliest first. None for one that must call first.
	Endpoints []netip.AddrPort `json:"endpoints,omitempty"`
	// AllowedIPs are its subnets, masked: what may come from it, and what is sent to it.
	AllowedIPs []netip.Prefix `json:"allowedIPs"`
	// Keepalive is 0 unless this machine is behind a NAT that must not forget it.
	Keepalive time.Duration `json:"keepalive,omitempty"`
}

// Diff returns what the device lacks of what is wanted, and nothing else. What peers gain comes before what they
// lose, and peers that go come last, so that a subnet that moves from one peer to another is never
// nobody's. An endpoint is left alone while it is one of the candidates, and wherever it is while the handshake is
// fresh: there the peer was a moment ago.
func Diff(wanted Wanted, seen Seen, now time.Time) Change {
	var c Change
	if wanted.Private.Public() != seen.PublicKey {
		c.Private = &wanted.Private
	}
	if wanted.ListenPort != seen.ListenPort {
		c.ListenPort = &wanted.ListenPort
	}
	found, owner := byKey(seen.Peers), owners(wanted.Peers)
	var shrinks []PeerChange
	for _, p := range wanted.Peers {
		have, ok := found[p.PublicKey]
		delete(found, p.PublicKey)
		if gain, differs := gains(p, have, ok, now); differs {
			c.Peers = append(c.Peers, gain)
		}
		if loses(p, have, owner) {
			shrinks = append(shrinks, PeerChange{Act: Update, Machine: p.Machine, PublicKey: p.PublicKey, AllowedIPs: p.AllowedIPs, Replace: true})
		}
	}
	c.Peers = append(c.Peers, shrinks...)
	for _, p := range seen.Peers {
		if _, unwanted := found[p.PublicKey]; unwanted {
			c.Peers = append(c.Peers, PeerChange{Act: Remove, PublicKey: p.PublicKey})
		}
	}
	return c
}

func byKey(peers []SeenPeer) map[Key]SeenPeer {
	found := make(map[Key]SeenPeer, len(peers))
	for _, p := range peers {
		found[p.PublicKey] = p
	}
	return found
}

// owners tells who is to have a subnet.
func owners(peers []Peer) map[netip.Prefix]Key {
	owner := map[netip.Prefix]Key{}
	for _, p := range peers {
		for _, a := range p.AllowedIPs {
			owner[a] = p.PublicKey
		}
	}
	return owner
}

// gains is what a peer lacks: itself, subnets, an endpoint, another keepalive.
func gains(p Peer, have SeenPeer, there bool, now time.Time) (PeerChange, bool) {
	change := PeerChange{Act: Update, Machine: p.Machine, PublicKey: p.PublicKey, Endpoint: endpoint(p, have, now)}
	if !there {
		change.Act = Add
	}
	for _, a := range p.AllowedIPs {
		if !slices.Contains(have.AllowedIPs, a) {
			change.AllowedIPs = append(change.AllowedIPs, a)
		}
	}
	if p.Keepalive != have.Keepalive {
		change.Keepalive = &p.Keepalive
	}
	return change, !there || change.Endpoint.IsValid() || change.AllowedIPs != nil || change.Keepalive != nil
}

// loses tells whether a peer has a subnet too many that nobody else takes from it.
func loses(p Peer, have SeenPeer, owner map[netip.Prefix]Key) bool {
	return slices.ContainsFunc(have.AllowedIPs, func(a netip.Prefix) bool {
		_, taken := owner[a]
		return !taken && !slices.Contains(p.AllowedIPs, a)
	})
}

// endpoint is what to set, invalid to leave it.
func endpoint(p Peer, have SeenPeer, now time.Time) netip.AddrPort {
	if len(p.Endpoints) == 0 || slices.Contains(p.Endpoints, have.Endpoint) || have.Endpoint.IsValid() && have.Fresh(now) {
		return netip.AddrPort{}
	}
	return p.Endpoints[0]
}
