package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/datapath/bridge"
	"github.com/ployz/ployz/datapath/overlay"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/mesh"
	"github.com/ployz/ployz/node/mesh/wireguard"
	"github.com/ployz/ployz/node/services"
	"github.com/ployz/ployz/units"
)

// meshMTU fits WireGuard's packets into an underlay of 1500 bytes, over IPv6 too.
const meshMTU = 1420

func (d *Daemon) meshKeyFile() string { return filepath.Join(d.keys(), "wireguard.key") }

// meshOf is the device that a machine should have, for the peers that it is to know.
func (d *Daemon) meshOf(self machine.Identity, peers []mesh.Peer) mesh.State {
	return mesh.State{
		Interface: overlay.DefaultInterface, MTU: meshMTU, ListenPort: d.Settings.Mesh.Port, KeyFile: d.meshKeyFile(),
		Source4: self.Gateway4(), Source6: self.Overlay, Cluster: cluster(self), Peers: peers,
	}
}

// cluster are the prefixes of all machines' subnets.
func cluster(self machine.Identity) []netip.Prefix {
	return []netip.Prefix{self.CIDR.Masked(), self.Prefix.Masked()}
}

// peersOf are all members but this machine, the oldest first, and those that it invited; and who of them cannot be a
// peer, with the reason.
func peersOf(self machine.Identity, r machine.Roster) (peers []mesh.Peer, left []*api.Error) {
	own := mesh.Peer{Machine: self.Name, AllowedIPs: []netip.Prefix{self.Subnet4, self.Subnet6}}
	me, _ := r.Self(self.ID)
	me.ID = self.ID                              // also where it is none yet
	own.PublicKey, _ = mesh.ParseKey(me.MeshKey) // a damaged one of our own takes nothing from others
	members := slices.SortedFunc(slices.Values(r.Members), func(a, b machine.Member) int { return cmp.Compare(a.Number, b.Number) })
	all := machine.Peers(members, me)
	for _, t := range r.Tokens {
		all = append(all, api.MeshPeer{Machine: "token " + machine.TokenHash(t.Key), MeshKey: t.Key, Allowed: []netip.Prefix{netip.PrefixFrom(t.Address, 128)}})
	}
	return sift(own, all)
}

// sift makes peers of those that can be, and says why of the others.
func sift(own mesh.Peer, all []api.MeshPeer) (peers []mesh.Peer, left []*api.Error) {
	for _, p := range all {
		peer, err := meshPeer(p)
		if err != nil {
			left = append(left, api.AsError(err).About(p.Machine))
			continue
		}
		peers = append(peers, peer)
	}
	peers, odd := mesh.Sift(own, peers)
	return peers, append(left, odd...)
}

func meshPeer(p api.MeshPeer) (mesh.Peer, error) {
	key, err := mesh.ParseKey(p.MeshKey)
	if err != nil {
		return mesh.Peer{}, err
	}
	return mesh.Peer{Machine: p.Machine, PublicKey: key, Endpoints: mesh.Candidates(p.Endpoints), AllowedIPs: p.Allowed}, nil
}

// saveMesh writes what boot needs, when it differs.
func (h *host) saveMesh(s mesh.State) error {
	path := mesh.StateFile(h.daemon.State)
	have, err := mesh.LoadState(path)
	if err == nil && fmt.Sprint(have) == fmt.Sprint(s) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.daemon.Log.Warn("the mesh's state is written anew", "error", err)
	}
	return s.Save(path)
}

// putMesh makes the device be as the state says, as boot would: the state first, then the same program.
func (d *Daemon) putMesh(ctx context.Context, s mesh.State) error {
	if err := d.host.saveMesh(s); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, program("ployz-net"), "--state", d.State, "mesh").CombinedOutput()
	if err != nil {
		return api.Errorf(api.CodeNetworkFailed, "the mesh: %w: %s", err, strings.TrimSpace(string(out))).About(s.Interface).
			WithHint("journalctl -u ployz-net -u ployz-wireguard")
	}
	return nil
}

// wireguardUnit is the userspace device's unit, where the kernel has none.
func wireguardUnit() ([]services.Wanted, error) {
	needed, err := overlay.NeedsUserspace()
	if err != nil || !needed {
		return nil, err
	}
	unit, err := units.WireGuard(overlay.DefaultInterface)
	if err != nil {
		return nil, badUnit(err)
	}
	return []services.Wanted{{Unit: unit}}, nil
}

// takeMesh removes the device; its unit is stopped before.
func (d *Daemon) takeMesh(self machine.Identity) error {
	_, err := overlay.Remove(overlay.Config{MTU: meshMTU, Source4: self.Gateway4(), Source6: self.Overlay, Cluster: cluster(self)})
	return err
}

// meshSeen reads the device. An observation.
func (d *Daemon) meshSeen(ctx context.Context) (mesh.Seen, error) {
	device, err := wireguard.Open(overlay.DefaultInterface)
	if err != nil {
		return mesh.Seen{}, err
	}
	defer device.Close()
	return device.Read(ctx)
}

// rotateMesh moves the search for silent peers on, and returns the device as it was found.
func (d *Daemon) rotateMesh(ctx context.Context, peers []mesh.Peer, search *map[mesh.Key]mesh.Rotation) (mesh.Seen, error) {
	device, err := wireguard.Open(overlay.DefaultInterface)
	if err != nil {
		return mesh.Seen{}, err
	}
	defer device.Close()
	seen, err := device.Read(ctx)
	if err != nil {
		return seen, err
	}
	change, next := mesh.Rotate(peers, seen, *search, time.Now())
	*search = next
	if change.Empty() {
		return seen, nil
	}
	d.Log.Info("looking for peers elsewhere", "changes", change.Text())
	return seen, device.Apply(ctx, change)
}

// changeMesh writes a change into the device.
func (d *Daemon) changeMesh(ctx context.Context, c mesh.Change) error {
	device, err := wireguard.Open(overlay.DefaultInterface)
	if err != nil {
		return err
	}
	defer device.Close()
	return device.Apply(ctx, c)
}

// endpoints are where others may try to reach this machine: what the settings say, else its own addresses.
func (d *Daemon) endpoints() []netip.AddrPort {
	if len(d.Settings.Mesh.Endpoints) > 0 {
		return d.Settings.Mesh.Endpoints
	}
	return mesh.Candidates(d.interfaceEndpoints())
}

// interfaceEndpoints are all of the machine's own addresses of the underlay, with the mesh's port.
func (d *Daemon) interfaceEndpoints() []netip.AddrPort {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var list []netip.AddrPort
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 || slices.Contains([]string{bridge.DefaultName, overlay.DefaultInterface, joinInterface}, i.Name) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // an interface that went away meanwhile
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() && !p.Addr().Is4In6() {
				list = append(list, netip.AddrPortFrom(p.Addr(), d.Settings.Mesh.Port))
			}
		}
	}
	return list
}

// memberOf is the member with an id.
func memberOf(members []machine.Member, id string) machine.Member {
	m, _ := machine.Roster{Members: members}.Self(id)
	return m
}

// seenMachines is what the mesh shows of the other machines. A handshake proves that one was there a while
// ago; without traffic there is none, and that is no sign.
func (d *Daemon) seenMachines(self machine.Identity) func(context.Context, []machine.Member) map[string]api.MachineSeen {
	return func(ctx context.Context, members []machine.Member) map[string]api.MachineSeen {
		list := map[string]api.MachineSeen{}
		device, err := d.meshSeen(ctx)
		for _, m := range members {
			seen := api.MachineSeen{State: api.SeenSilent, Error: api.AsError(err)}
			if m.ID == self.ID {
				seen = api.MachineSeen{State: api.SeenSelf, Version: d.Version}
			}
			if _, relayed := machine.Via(members, memberOf(members, self.ID), m); relayed {
				seen.State = api.SeenRelayed
			}
			for _, p := range device.Peers {
				if p.PublicKey.String() != m.MeshKey {
					continue
				}
				seen.Handshake = p.LastHandshake
				if p.Endpoint.IsValid() {
					seen.Endpoint = p.Endpoint.String()
				}
				if p.Fresh(time.Now()) {
					seen.State = api.SeenUp
				}
			}
			list[m.ID] = seen
		}
		return list
	}
}
