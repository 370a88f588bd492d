package mesh

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Device is one WireGuard device that exists, in the kernel or in a process. It is made and given its routes
// elsewhere; here it has a key, a port and peers.
type Device interface {
	// Read returns the device as found. Errors: mesh.device-absent, mesh.device-failed (also when it does not answer
	// before ctx ends).
	Read(ctx context.Context) (Seen, error)
	// Apply makes a change, its peers in their order, without touching anything that the change does not name.
	// What it updates or removes may be gone by then; that is no error, and does not make it anew. After an error a
	// part of the change may have been made: read again. Errors as of Read.
	Apply(ctx context.Context, c Change) error
	// Close gives back what the connection to the device holds. The device goes on.
	Close() error
}

// Seen is a device as found. An observation, never stored.
type Seen struct {
	// Kind is "kernel", "userspace" or "memory".
	Kind string
	// PublicKey is zero where the device has no key yet.
	PublicKey  Key
	ListenPort uint16
	Peers      []SeenPeer
}

// SeenPeer is a device's peer as found.
type SeenPeer struct {
	PublicKey Key
	// Endpoint is where packets to it are sent: as set, or from where it last called. Invalid for none.
	Endpoint   netip.AddrPort
	AllowedIPs []netip.Prefix
	// Keepalive is 0 for none.
	Keepalive time.Duration
	// LastHandshake is zero where there was none.
	LastHandshake time.Time
	// Rx and Tx are bytes since the peer was added, handshakes with them.
	Rx, Tx int64
}

// Peer returns a peer as found, and whether it is there.
func (s Seen) Peer(key Key) (SeenPeer, bool) {
	for _, p := range s.Peers {
		if p.PublicKey == key {
			return p, true
		}
	}
	return SeenPeer{}, false
}

// Act is what is done with a peer.
type Act string

// The acts.
const (
	Add    Act = "add"
	Update Act = "update"
	Remove Act = "remove"
)

// Change is what to write into a device. What it does not name stays as it is.
type Change struct {
	// Private and ListenPort are nil where they stay.
	Private    *PrivateKey
	ListenPort *uint16
	// Peers are in the order in which they must be made.
	Peers []PeerChange
}

// PeerChange is a change of one peer.
type PeerChange struct {
	Act Act
	// Machine is the peer's name for people, "" for one that nobody wants.
	Machine   string
	PublicKey Key
	// Endpoint is invalid where it stays.
	Endpoint netip.AddrPort
	// AllowedIPs are added, and taken from any other peer that has them; with Replace they become
	// all that the peer has.
	AllowedIPs []netip.Prefix
	Replace    bool
	// Keepalive is nil where it stays.
	Keepalive *time.Duration
}

// Empty tells whether nothing is to be written.
func (c Change) Empty() bool { return c.Private == nil && c.ListenPort == nil && len(c.Peers) == 0 }

// Text returns the change for people, a phrase each.
func (c Change) Text() []string {
	var out []string
	if c.Private != nil {
		out = append(out, "set the key of "+c.Private.Public().String())
	}
	if c.ListenPort != nil {
		out = append(out, fmt.Sprintf("listen on port %d", *c.ListenPort))
	}
	for _, p := range c.Peers {
		out = append(out, p.String())
	}
	return out
}

func (p PeerChange) String() string {
	words := []string{string(p.Act), "peer", p.PublicKey.String()}
	if p.Machine != "" {
		words[2] = p.Machine
	}
	if p.Endpoint.IsValid() {
		words = append(words, "at", p.Endpoint.String())
	}
	if p.Replace {
		words = append(words, "with only")
	}
	for _, a := range p.AllowedIPs {
		words = append(words, a.String())
	}
	if p.Keepalive != nil {
		words = append(words, "keepalive", p.Keepalive.String())
	}
	return strings.Join(words, " ")
}
