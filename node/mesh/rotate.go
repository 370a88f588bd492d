package mesh

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// Patience is how long sending without an answer is normal: WireGuard answers within 10 s and asks
	// again after 5 s.
	Patience = 15 * time.Second
	// MaxPatience bounds how long it gets: it doubles with each fruitless round through the candidates.
	MaxPatience = 5 * time.Minute
)

// Rotation is how far the search for a peer's endpoint is. Its zero value starts one.
type Rotation struct {
	// Endpoint is the one in use.
	Endpoint netip.AddrPort `json:"endpoint,omitzero"`
	// Since is when it was set, or when something last came from the peer, or when nothing was last sent to it.
	Since time.Time `json:"since"`
	// Tried counts the candidates set since something last came.
	Tried int `json:"tried"`
	// Rx and Tx are the peer's counters at Since.
	Rx int64 `json:"rx"`
	Tx int64 `json:"tx"`
}

// Next returns the search a moment later, and the candidate to set now, invalid for none. It moves on only where something
// was sent and nothing came for long enough: a peer that nobody talks to is silent and well. A
// fresh handshake is never moved away from.
func (r Rotation) Next(p Peer, seen SeenPeer, now time.Time) (Rotation, netip.AddrPort) {
	at := Rotation{Endpoint: seen.Endpoint, Since: now, Rx: seen.Rx, Tx: seen.Tx}
	heard := seen.Rx != r.Rx || seen.Fresh(now)
	if r.Since.IsZero() || heard || seen.Tx < r.Tx {
		return at, netip.AddrPort{}
	}
	at.Tried = r.Tried
	if seen.Tx == r.Tx {
		return at, netip.AddrPort{}
	}
	next := after(p.Endpoints, seen.Endpoint)
	if !next.IsValid() || now.Sub(r.Since) < r.patience(len(p.Endpoints)) {
		return r, netip.AddrPort{}
	}
	at.Endpoint, at.Tried = next, r.Tried+1
	return at, next
}

// Lost tells whether packets to the peer are sent in vain: it never answered, or has not for as long as that is normal. A
// peer that nobody talks to is silent and well.
func (p SeenPeer) Lost(search Rotation, now time.Time) bool {
	switch {
	case p.Fresh(now):
		return false
	case p.LastHandshake.IsZero():
		return p.Tx > 0
	}
	inVain := !search.Since.IsZero() && p.Tx > search.Tx && p.Rx == search.Rx && now.Sub(search.Since) >= Patience
	return search.Tried > 0 || inVain
}

// patience doubles with each round through the candidates.
func (r Rotation) patience(candidates int) time.Duration {
	d := Patience
	for range r.Tried / candidates {
		if d *= 2; d >= MaxPatience {
			return MaxPatience
		}
	}
	return d
}

// after returns the candidate after the one in use, the first after the last or after one that is no candidate; invalid where
// there is no other.
func after(candidates []netip.AddrPort, current netip.AddrPort) netip.AddrPort {
	if len(candidates) == 0 {
		return netip.AddrPort{}
	}
	next := candidates[(slices.Index(candidates, current)+1)%len(candidates)]
	if next == current {
		return netip.AddrPort{}
	}
	return next
}

// Rotate moves every search on and returns what to write. Searches of peers that are not wanted any more are dropped.
func Rotate(peers []Peer, seen Seen, before map[Key]Rotation, now time.Time) (Change, map[Key]Rotation) {
	var c Change
	found, searches := byKey(seen.Peers), make(map[Key]Rotation, len(peers))
	for _, p := range peers {
		have, ok := found[p.PublicKey]
		if !ok {
			continue
		}
		search, next := before[p.PublicKey].Next(p, have, now)
		searches[p.PublicKey] = search
		if next.IsValid() {
			c.Peers = append(c.Peers, PeerChange{Act: Update, Machine: p.Machine, PublicKey: p.PublicKey, Endpoint: next})
		}
	}
	return c, searches
}
