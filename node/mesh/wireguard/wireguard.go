// Package wireguard is a WireGuard device behind the contract of node/mesh: the kernel's, or the one of a process
// (ployz-wireguard) that speaks the same configuration protocol on a socket.
//
// It is the only importer of wgctrl. It needs CAP_NET_ADMIN. It must never make or delete a device, and never writes
// what is as wanted already.
package wireguard

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/mesh"
)

// Device is a connection to one device, by name.
type Device struct {
	name   string
	client *wgctrl.Client
}

var _ mesh.Device = (*Device)(nil)

// Open connects to the devices of the calling thread's network namespace. That there is none of the name shows at the
// first call. Errors: mesh.device-failed.
func Open(name string) (*Device, error) {
	client, err := wgctrl.New()
	if err != nil {
		return nil, failed(name, err)
	}
	return &Device{name, client}, nil
}

// Ensure makes the device be as the state says and returns what it changed, nothing where all is well; also after an
// error, when a part of it may have been made. Errors: mesh.device-absent, mesh.device-failed, mesh.key-damaged,
// fs.ErrNotExist for the key.
func Ensure(ctx context.Context, s mesh.State) (mesh.Change, error) {
	private, err := mesh.LoadKey(s.KeyFile)
	if err != nil {
		return mesh.Change{}, err
	}
	d, err := Open(s.Interface)
	if err != nil {
		return mesh.Change{}, err
	}
	change, err := d.ensure(ctx, s.Wanted(private))
	return change, errors.Join(err, d.Close())
}

func (d *Device) ensure(ctx context.Context, wanted mesh.Wanted) (mesh.Change, error) {
	seen, err := d.Read(ctx)
	if err != nil {
		return mesh.Change{}, err
	}
	change := mesh.Diff(wanted, seen, time.Now())
	if change.Empty() {
		return change, nil
	}
	return change, d.Apply(ctx, change)
}

// Read implements mesh.Device.
func (d *Device) Read(ctx context.Context) (mesh.Seen, error) {
	var found *wgtypes.Device
	err := d.await(ctx, func() (err error) {
		found, err = d.client.Device(d.name)
		return err
	})
	if err != nil {
		return mesh.Seen{}, err
	}
	return seen(found), nil
}

// Apply implements mesh.Device.
func (d *Device) Apply(ctx context.Context, c mesh.Change) error {
	if c.Empty() {
		return nil
	}
	return d.await(ctx, func() error { return d.client.ConfigureDevice(d.name, config(c)) })
}

// Close implements mesh.Device.
func (d *Device) Close() error {
	if err := d.client.Close(); err != nil {
		return failed(d.name, err)
	}
	return nil
}

// await leaves a call behind that does not come back in time: a process that is stopped takes the call and
// never answers, and wgctrl waits for ever.
func (d *Device) await(ctx context.Context, call func() error) error {
	if err := ctx.Err(); err != nil {
		return failed(d.name, err)
	}
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return failed(d.name, err)
	case <-ctx.Done():
		return failed(d.name, ctx.Err())
	}
}

// failed gives an error its code. A socket that nobody listens on is what a killed process leaves behind.
func failed(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENODEV):
		return api.Errorf(api.CodeMeshNoDevice, "there is no WireGuard device %s: %w", name, err).About(name).
			WithHint("systemctl status ployz-net.service ployz-wireguard.service")
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		return api.Errorf(api.CodeMeshDevice, "the WireGuard device %s does not answer: %w", name, err).About(name)
	}
	return api.Errorf(api.CodeMeshDevice, "the WireGuard device %s: %w", name, err).About(name)
}

func seen(found *wgtypes.Device) mesh.Seen {
	s := mesh.Seen{Kind: "userspace", ListenPort: uint16(found.ListenPort)}
	if found.Type == wgtypes.LinuxKernel {
		s.Kind = "kernel"
	}
	if found.PrivateKey != (wgtypes.Key{}) {
		s.PublicKey = mesh.Key(found.PublicKey)
	}
	for _, p := range found.Peers {
		s.Peers = append(s.Peers, seenPeer(p))
	}
	return s
}

func seenPeer(p wgtypes.Peer) mesh.SeenPeer {
	s := mesh.SeenPeer{
		PublicKey: mesh.Key(p.PublicKey), Keepalive: p.PersistentKeepaliveInterval,
		LastHandshake: p.LastHandshakeTime, Rx: p.ReceiveBytes, Tx: p.TransmitBytes,
	}
	if p.LastHandshakeTime.Unix() <= 0 {
		s.LastHandshake = time.Time{} // the process says "1970" for never
	}
	if p.Endpoint != nil {
		at := p.Endpoint.AddrPort()
		s.Endpoint = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	for _, a := range p.AllowedIPs {
		addr, _ := netip.AddrFromSlice(a.IP) // invalid makes a prefix that is not wanted
		bits, _ := a.Mask.Size()
		s.AllowedIPs = append(s.AllowedIPs, netip.PrefixFrom(addr.Unmap(), bits))
	}
	return s
}

func config(c mesh.Change) wgtypes.Config {
	var out wgtypes.Config
	if c.Private != nil {
		key := wgtypes.Key(c.Private.Bytes())
		out.PrivateKey = &key
	}
	if c.ListenPort != nil {
		port := int(*c.ListenPort)
		out.ListenPort = &port
	}
	for _, p := range c.Peers {
		out.Peers = append(out.Peers, peerConfig(p))
	}
	return out
}

func peerConfig(p mesh.PeerChange) wgtypes.PeerConfig {
	out := wgtypes.PeerConfig{
		PublicKey: wgtypes.Key(p.PublicKey), Remove: p.Act == mesh.Remove, UpdateOnly: p.Act == mesh.Update,
		ReplaceAllowedIPs: p.Replace, PersistentKeepaliveInterval: p.Keepalive,
	}
	if p.Endpoint.IsValid() {
		out.Endpoint = net.UDPAddrFromAddrPort(p.Endpoint)
	}
	for _, a := range p.AllowedIPs {
		out.AllowedIPs = append(out.AllowedIPs, net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())})
	}
	return out
}
