package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/ployz/ployz/datapath/bridge"
	"github.com/ployz/ployz/datapath/firewall"
	"github.com/ployz/ployz/datapath/overlay"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/runtime"
)

// network is runtime.Network on the data path. A link is made by the instance's own unit, through
// ployz-net, so that it comes back at boot in the same way; here only its file is written.
type network struct {
	daemon *Daemon
	self   machine.Identity

	mu sync.Mutex // held while ports.json is read, changed and applied
}

func (n *network) linkFile(id string) string {
	return filepath.Join(n.daemon.State, "workloads", id, "link.json")
}

func (n *network) workload(id string, addrs runtime.Addresses) bridge.Workload {
	return bridge.Workload{ID: id, NetnsPath: filepath.Join(n.daemon.Run, "netns", id), V4: addrs.V4, V6: addrs.V6}
}

// Attach implements runtime.Network.
func (n *network) Attach(_ context.Context, id string, _ uint32, addrs runtime.Addresses) error {
	file, wanted := n.linkFile(id), n.workload(id, addrs)
	if have, err := bridge.LoadWorkload(file); err == nil && have == wanted {
		return nil
	}
	if err := wanted.Validate(bridgeConfig(n.self)); err != nil {
		return networkError(id, err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return networkError(id, err)
	}
	return networkError(id, wanted.Save(file))
}

// Detach implements runtime.Network.
func (n *network) Detach(ctx context.Context, id string) error {
	if err := n.Publish(ctx, id, runtime.Addresses{}, nil); err != nil {
		return err
	}
	if _, err := bridge.Detach(bridgeConfig(n.self), n.workload(id, runtime.Addresses{})); err != nil {
		return networkError(id, err)
	}
	if err := os.Remove(n.linkFile(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return networkError(id, err)
	}
	// Where the runtime never prepared anything, the folder was ours alone.
	if err := os.Remove(filepath.Dir(n.linkFile(id))); err != nil && !errors.Is(err, fs.ErrNotExist) && !notEmpty(err) {
		return networkError(id, err)
	}
	return nil
}

// Publish implements runtime.Network.
func (n *network) Publish(_ context.Context, id string, addrs runtime.Addresses, ports []runtime.PublishedPort) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	file := filepath.Join(n.daemon.State, "net", "ports.json")
	published, err := firewall.LoadPublished(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return networkError(id, err)
	}
	before := slices.Clone(published.Ports)
	published.Ports = slices.DeleteFunc(published.Ports, func(p firewall.Port) bool { return p.Workload == id })
	for _, p := range ports {
		port, err := firewallPort(id, addrs, p)
		if err != nil {
			return err
		}
		published.Ports = append(published.Ports, port)
	}
	if slices.Equal(before, published.Ports) {
		return nil
	}
	return n.apply(id, file, published)
}

// apply puts the table into the kernel and then onto disk: what boot restores was proven to load.
func (n *network) apply(id, file string, published firewall.Published) error {
	_, err := firewall.Ensure(firewallOf(n.self, published))
	var twice *firewall.PublishedTwiceError
	if errors.As(err, &twice) {
		return api.Errorf(api.CodePortTaken, "%w", err).About("instance " + id)
	}
	if err != nil {
		return networkError(id, err)
	}
	return networkError(id, published.Save(file))
}

func firewallOf(self machine.Identity, published firewall.Published) firewall.Config {
	b := bridgeConfig(self)
	return firewall.Config{
		Bridge: b.Name, V4: b.V4.Masked(), V6: b.V6.Masked(), Published: published,
		Overlay: []string{overlay.DefaultInterface}, Cluster: []netip.Prefix{self.CIDR.Masked(), self.Prefix.Masked()},
	}
}

func firewallPort(id string, addrs runtime.Addresses, p runtime.PublishedPort) (firewall.Port, error) {
	port := firewall.Port{Protocol: p.Protocol, Port: p.Published, Target: p.Target, Workload: id, V4: addrs.V4, V6: addrs.V6}
	if p.Listen == "" {
		return port, nil
	}
	listen, err := netip.ParseAddr(p.Listen)
	if err != nil {
		return port, api.Errorf(api.CodeBadRequest, "%q is not an address to publish a port on", p.Listen).About("instance " + id)
	}
	port.Listen = listen
	return port, nil
}

// Taken implements runtime.Network.
func (n *network) Taken(context.Context) (map[string]runtime.Addresses, error) {
	files, err := filepath.Glob(n.linkFile("*"))
	if err != nil {
		return nil, networkError("", err)
	}
	taken := map[string]runtime.Addresses{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		var w bridge.Workload
		if err == nil {
			err = json.Unmarshal(text, &w)
		}
		if err != nil {
			return nil, networkError(filepath.Base(filepath.Dir(file)), err)
		}
		taken[w.ID] = runtime.Addresses{V4: w.V4, V6: w.V6}
	}
	return taken, nil
}

func networkError(id string, err error) error {
	if err == nil {
		return nil
	}
	return api.Errorf(api.CodeNetworkFailed, "%w", err).About("instance " + id).WithHint("look at the machine: ployzctl doctor")
}
