// Package memory is a WireGuard device that is only remembered, for tests of what configures one. It obeys the
// contract as the real ones do, and carries nothing.
package memory

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/mesh"
)

// Device is a device in memory. Its zero value is a new one.
type Device struct {
	mu     sync.Mutex
	seen   mesh.Seen
	writes int
	gone   bool
	failed error
}

var _ mesh.Device = (*Device)(nil)

// Read implements mesh.Device.
func (d *Device) Read(ctx context.Context) (mesh.Seen, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.trouble(ctx); err != nil {
		return mesh.Seen{}, err
	}
	seen := d.seen
	seen.Kind, seen.Peers = "memory", slices.Clone(seen.Peers)
	for i, p := range seen.Peers {
		seen.Peers[i].AllowedIPs = slices.Clone(p.AllowedIPs)
	}
	return seen, nil
}

// Apply implements mesh.Device.
func (d *Device) Apply(ctx context.Context, c mesh.Change) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.trouble(ctx); err != nil {
		return err
	}
	d.writes++
	if c.Private != nil {
		d.seen.PublicKey = c.Private.Public()
	}
	if c.ListenPort != nil {
		d.seen.ListenPort = *c.ListenPort
	}
	for _, p := range c.Peers {
		d.apply(p)
	}
	return nil
}

func (d *Device) apply(c mesh.PeerChange) {
	i := slices.IndexFunc(d.seen.Peers, func(p mesh.SeenPeer) bool { return p.PublicKey == c.PublicKey })
	switch {
	case c.Act == mesh.Remove && i >= 0:
		d.seen.Peers = slices.Delete(d.seen.Peers, i, i+1)
		return
	case i < 0 && c.Act != mesh.Add:
		return
	case i < 0:
		d.seen.Peers = append(d.seen.Peers, mesh.SeenPeer{PublicKey: c.PublicKey})
		i = len(d.seen.Peers) - 1
	}
	p := &d.seen.Peers[i]
	if c.Endpoint.IsValid() {
		p.Endpoint = c.Endpoint
	}
	if c.Keepalive != nil {
		p.Keepalive = *c.Keepalive
	}
	if c.Replace {
		p.AllowedIPs = nil
	}
	for _, a := range c.AllowedIPs {
		d.disown(a)
		p.AllowedIPs = append(p.AllowedIPs, a)
	}
}

// disown takes a subnet from whoever has it: it has one owner.
func (d *Device) disown(a netip.Prefix) {
	for i := range d.seen.Peers {
		p := &d.seen.Peers[i]
		p.AllowedIPs = slices.DeleteFunc(p.AllowedIPs, func(b netip.Prefix) bool { return a == b })
	}
}

func (d *Device) trouble(ctx context.Context) error {
	switch {
	case d.gone:
		return api.Errorf(api.CodeMeshNoDevice, "the device is not there").About("memory")
	case d.failed != nil:
		return d.failed
	}
	if err := ctx.Err(); err != nil {
		return api.Errorf(api.CodeMeshDevice, "the device does not answer: %w", err).About("memory")
	}
	return nil
}

// Close implements mesh.Device.
func (d *Device) Close() error { return nil }

// Writes returns how often something was written.
func (d *Device) Writes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

// Vanish makes the device be gone.
func (d *Device) Vanish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = true
}

// Fail makes every call end with an error, until it is called with nil.
func (d *Device) Fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = err
}

// Hear lets a peer call from an endpoint: a handshake, and bytes both ways. A peer that is not there is not heard.
func (d *Device) Hear(key mesh.Key, from netip.AddrPort, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.seen.Peers {
		if p := &d.seen.Peers[i]; p.PublicKey == key {
			p.Endpoint, p.LastHandshake, p.Rx, p.Tx = from, at, p.Rx+148, p.Tx+92
		}
	}
}
