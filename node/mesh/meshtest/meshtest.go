// Package meshtest is the conformance suite of node/mesh: what every WireGuard device must do, as tests. The one in
// memory, the process's and the kernel's run all of it.
package meshtest

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/mesh"
)

// World is one device to be tried: new, without key, port and peers.
type World struct {
	Device mesh.Device
	// Port is free for it to listen on.
	Port uint16
	// Vanish takes the device away under the connection.
	Vanish func()
}

// Run runs the whole suite; open is called once per test.
func Run(t *testing.T, open func(*testing.T) World) {
	for name, try := range map[string]func(*bench){
		"a new device has nothing":                      newDevice,
		"what was applied is found":                     applied,
		"a second diff is empty":                        secondDiff,
		"only what differs is changed":                  onlyDifferent,
		"a subnet moves at once":                        moves,
		"two peers swap subnets":                        swaps,
		"a peer loses a subnet":                         shrinks,
		"a peer goes":                                   goes,
		"an update makes no peer":                       updateOfNobody,
		"two hundred peers are adopted":                 many,
		"a device that is gone is absent":               absent,
		"a call that nobody waits for ends with a code": impatient,
	} {
		t.Run(name, func(t *testing.T) { try(&bench{t, open(t), mesh.GenerateKey()}) })
	}
}

type bench struct {
	*testing.T
	World
	private mesh.PrivateKey
}

func (b *bench) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	b.Cleanup(cancel)
	return ctx
}

func (b *bench) read() mesh.Seen {
	b.Helper()
	seen, err := b.Device.Read(b.context())
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range seen.Peers {
		slices.SortFunc(p.AllowedIPs, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	}
	return seen
}

func (b *bench) apply(c mesh.Change) {
	b.Helper()
	if err := b.Device.Apply(b.context(), c); err != nil {
		b.Fatal(err)
	}
}

// want brings the device to these peers and returns the change that it took; another one must be empty.
func (b *bench) want(peers ...mesh.Peer) mesh.Change {
	b.Helper()
	wanted := mesh.Wanted{Private: b.private, ListenPort: b.Port, Peers: peers}
	change := mesh.Diff(wanted, b.read(), time.Now())
	b.apply(change)
	if again := mesh.Diff(wanted, b.read(), time.Now()); !again.Empty() {
		b.Errorf("a second diff: %q", again.Text())
	}
	return change
}

// Peer returns the n-th of many peers, with a key of its own.
func Peer(n int) mesh.Peer {
	return mesh.Peer{
		Machine: "m" + string(rune('a'+n%26)), PublicKey: mesh.GenerateKey().Public(),
		Endpoints:  []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 51820)},
		AllowedIPs: []netip.Prefix{Subnet4(n), Subnet6(n)},
	}
}

// Subnet4 and Subnet6 are the subnets of the n-th peer.
func Subnet4(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 101, byte(n), 0}), 24)
}

// Subnet6 is described with Subnet4.
func Subnet6(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x12, 0x34, 0x56, 0x78, 0x9a, byte(n >> 8), byte(n)}), 64)
}

func newDevice(b *bench) {
	seen := b.read()
	if !seen.PublicKey.IsZero() || len(seen.Peers) > 0 || seen.Kind == "" {
		b.Errorf("found %+v", seen)
	}
}

func applied(b *bench) {
	p := Peer(1)
	p.Keepalive = mesh.NATKeepalive
	silent := Peer(2)
	silent.Endpoints = nil
	b.want(p, silent)
	seen := b.read()
	if seen.PublicKey != b.private.Public() || seen.ListenPort != b.Port || len(seen.Peers) != 2 {
		b.Fatalf("found %+v", seen)
	}
	for _, have := range seen.Peers {
		switch have.PublicKey {
		case p.PublicKey:
			if have.Endpoint != p.Endpoints[0] || have.Keepalive != mesh.NATKeepalive || !slices.Equal(have.AllowedIPs, p.AllowedIPs) || !have.LastHandshake.IsZero() {
				b.Errorf("found %+v", have)
			}
		case silent.PublicKey:
			if have.Endpoint.IsValid() || have.Keepalive != 0 {
				b.Errorf("found %+v", have)
			}
		}
	}
}

func secondDiff(b *bench) {
	v6 := Peer(3)
	v6.Endpoints = []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::3]:51820")}
	b.want(Peer(1), Peer(2), v6)
}

func onlyDifferent(b *bench) {
	p, q := Peer(1), Peer(2)
	b.want(p, q)
	q.Keepalive = mesh.NATKeepalive
	change := b.want(p, q)
	if len(change.Peers) != 1 || change.Private != nil || change.ListenPort != nil {
		b.Fatalf("changed %q", change.Text())
	}
	if c := change.Peers[0]; c.PublicKey != q.PublicKey || c.Endpoint.IsValid() || c.AllowedIPs != nil {
		b.Errorf("changed %q", change.Text())
	}
	q.Keepalive = 0
	b.want(p, q)
}

func moves(b *bench) {
	p, q := Peer(1), Peer(2)
	b.want(p, q)
	q.AllowedIPs = append(q.AllowedIPs, Subnet4(1))
	p.AllowedIPs = p.AllowedIPs[1:]
	if change := b.want(p, q); len(change.Peers) != 1 {
		b.Errorf("changed %q", change.Text())
	}
}

func swaps(b *bench) {
	p, q := Peer(1), Peer(2)
	b.want(p, q)
	p.AllowedIPs, q.AllowedIPs = q.AllowedIPs, p.AllowedIPs
	b.want(p, q)
}

func shrinks(b *bench) {
	p := Peer(1)
	b.want(p)
	p.AllowedIPs = p.AllowedIPs[:1]
	b.want(p)
	if found := b.read().Peers[0].AllowedIPs; !slices.Equal(found, p.AllowedIPs) {
		b.Errorf("found %v", found)
	}
}

func goes(b *bench) {
	p, q := Peer(1), Peer(2)
	b.want(p, q)
	// q's subnet goes to a machine that is new, in the same change.
	r := Peer(3)
	r.AllowedIPs = q.AllowedIPs
	b.want(p, r)
	b.want()
	if left := b.read().Peers; len(left) > 0 {
		b.Errorf("left %+v", left)
	}
}

func updateOfNobody(b *bench) {
	p := Peer(1)
	b.apply(mesh.Change{Peers: []mesh.PeerChange{
		{Act: mesh.Update, PublicKey: p.PublicKey, Endpoint: p.Endpoints[0], AllowedIPs: p.AllowedIPs},
		{Act: mesh.Remove, PublicKey: Peer(2).PublicKey},
	}})
	if found := b.read().Peers; len(found) > 0 {
		b.Errorf("found %+v", found)
	}
}

func many(b *bench) {
	var peers []mesh.Peer
	for n := range 200 {
		peers = append(peers, Peer(n))
	}
	b.want(peers...)
	if found := len(b.read().Peers); found != 200 {
		b.Errorf("%d peers", found)
	}
}

func absent(b *bench) {
	b.Vanish()
	if _, err := b.Device.Read(b.context()); api.CodeOf(err) != api.CodeMeshNoDevice {
		b.Errorf("Read: %v", err)
	}
	if err := b.Device.Apply(b.context(), mesh.Change{ListenPort: &b.Port}); api.CodeOf(err) != api.CodeMeshNoDevice {
		b.Errorf("Apply: %v", err)
	}
}

func impatient(b *bench) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Device.Read(ctx); api.CodeOf(err) != api.CodeMeshDevice {
		b.Errorf("Read: %v", err)
	}
}
