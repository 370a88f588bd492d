package daemon

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/datapath/bridge"
	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/datapath/firewall"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy/agebox"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/mesh"
	"github.com/ployz/ployz/node/services"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
	"github.com/ployz/ployz/units"
)

// host makes and takes away the parts of this machine's membership: machine.Host on the real
// thing.
type host struct {
	daemon *Daemon
	// pool is what the operator said of the machine's pool.
	pool api.PoolRequest
}

// asked is the host with what an operator says of its pool.
func (h *host) asked(r api.PoolRequest) *host { return &host{daemon: h.daemon, pool: r} }

// program is the path of one of our programs.
func program(name string) string { return filepath.Join(units.Lib, name) }

func (h *host) path(parts ...string) string {
	return filepath.Join(append([]string{h.daemon.State}, parts...)...)
}

// Identity implements machine.Host.
func (h *host) Identity() (machine.Identity, error) { return machine.LoadIdentity(h.daemon.State) }

// heardWithin is how long a new member may take to be heard on the bus: its edge has to tell the cores who listens.
const heardWithin = 15 * time.Second

// SetMember implements machine.Host. It ends once others' commands reach this machine: until then it would be a member
// that seems not to be there.
func (h *host) SetMember(self machine.Identity) error {
	self.Member = true
	if err := self.Save(h.daemon.State); err != nil {
		return err
	}
	if err := h.daemon.Join(self); err != nil {
		return err
	}
	return await(h.daemon.background, heardWithin, h.daemon.peering.Load().heard)
}

// Keys implements machine.Host. The mesh's key is made last, so it stands for all.
func (h *host) Keys() (machine.Keys, error) {
	private, err := mesh.LoadKey(h.daemon.meshKeyFile())
	if errors.Is(err, fs.ErrNotExist) {
		return machine.Keys{}, nil
	}
	if err != nil {
		return machine.Keys{}, err
	}
	recipient, err := agebox.Recipient(h.daemon.keys())
	if err != nil {
		return machine.Keys{}, err
	}
	public, err := natsstore.EnsureKeys(h.daemon.keys(), natsconf.Roles())
	if err != nil {
		return machine.Keys{}, err
	}
	keys := machine.Keys{Recipient: recipient, Store: map[string]string{}, Mesh: private.Public().String(), Endpoints: h.daemon.endpoints()}
	for role, key := range public.Shared() {
		keys.Store[string(role)] = key
	}
	return keys, nil
}

// Make implements machine.Host.
func (h *host) Make(ctx context.Context, part machine.Part, self machine.Identity) error {
	switch part {
	case machine.PartKeys:
		return h.makeKeys()
	case machine.PartIdentity:
		return self.Save(h.daemon.State)
	case machine.PartPool:
		return h.makePool(ctx)
	case machine.PartNetwork:
		return h.makeNetwork(ctx, self)
	case machine.PartStore:
		return h.makeStore(ctx, self)
	case machine.PartStreams:
		return h.makeStreams(ctx, self)
	}
	wanted, err := h.daemon.wanted(self)
	if err != nil {
		return err
	}
	return h.start(ctx, wanted[part]...)
}

// Take implements machine.Host.
func (h *host) Take(ctx context.Context, part machine.Part, self machine.Identity) error {
	switch part {
	case machine.PartKeys:
		return os.RemoveAll(h.daemon.keys())
	case machine.PartIdentity:
		return errors.Join(machine.RemoveIdentity(h.daemon.State), machine.RemoveRoster(h.daemon.State))
	case machine.PartStreams:
		return nil // they go with the store
	case machine.PartPool:
		return h.takePool(ctx)
	}
	wanted, err := h.daemon.wanted(self)
	if err != nil {
		return err
	}
	if err := h.daemon.units.Remove(ctx, unitNames(wanted[part])...); err != nil {
		return err
	}
	switch part {
	case machine.PartStore:
		return os.RemoveAll(h.path("nats"))
	case machine.PartNetwork:
		return h.takeNetwork(self)
	case machine.PartGateway, machine.PartDNS:
		return h.forgetView(part)
	}
	return nil
}

// forgetView removes what a serving process begins with: it is the view of the cluster that is left, and would be
// served in the next one until that is heard of.
func (h *host) forgetView(part machine.Part) error {
	err := os.Remove(h.path(string(part), "projection.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func unitNames(wanted []services.Wanted) []string {
	var names []string
	for _, w := range wanted {
		names = append(names, w.Unit.Name)
	}
	return names
}

func (h *host) makeKeys() error {
	if _, err := agebox.EnsureKeys(h.daemon.keys()); err != nil {
		return err
	}
	if _, err := natsstore.EnsureKeys(h.daemon.keys(), natsconf.Roles()); err != nil {
		return err
	}
	_, err := mesh.EnsureKey(h.daemon.meshKeyFile())
	return err
}

func (h *host) routeSecret() string { return filepath.Join(h.daemon.keys(), "route.secret") }

func bridgeConfig(self machine.Identity) bridge.Config {
	return bridge.Config{
		Name: bridge.DefaultName, MTU: meshMTU,
		V4: netip.PrefixFrom(self.Gateway4(), self.Subnet4.Bits()),
		V6: netip.PrefixFrom(self.Overlay, self.Subnet6.Bits()),
	}
}

func (h *host) makeNetwork(ctx context.Context, self machine.Identity) error {
	if err := os.MkdirAll(h.path("net"), 0o755); err != nil {
		return api.Errorf(api.CodeInternal, "making the network's folder: %w", err)
	}
	if err := bridgeConfig(self).Save(h.path("net", "bridge.json")); err != nil {
		return api.Errorf(api.CodeInternal, "writing the bridge's configuration: %w", err)
	}
	if !exists(mesh.StateFile(h.daemon.State)) { // who joins has peers by now
		if err := h.saveMesh(h.daemon.meshOf(self, nil)); err != nil {
			return err
		}
	}
	wanted, err := h.daemon.wanted(self)
	if err != nil {
		return err
	}
	return h.start(ctx, wanted[machine.PartNetwork]...)
}

func (h *host) takeNetwork(self machine.Identity) error {
	err := h.daemon.takeMesh(self)
	_, bridgeErr := bridge.Remove(bridgeConfig(self))
	return errors.Join(err, bridgeErr, firewall.Remove(), os.RemoveAll(h.path("net")))
}

func (h *host) makeStore(ctx context.Context, self machine.Identity) error {
	if self.Votes() {
		if err := natsstore.EnsureRouteSecret(h.routeSecret()); err != nil {
			return err
		}
	}
	if err := h.renderStore(self); err != nil {
		return err
	}
	if self.Votes() {
		files := natsstore.CoreFiles{Program: program("ployz-nats"), Config: h.path("nats", "core.conf"), RouteSecret: h.routeSecret()}
		if err := natsstore.Found(ctx, files); err != nil {
			return err
		}
	}
	wanted, err := h.daemon.wanted(self)
	if err != nil {
		return err
	}
	return h.start(ctx, wanted[machine.PartStore]...)
}

// renderStore writes both servers' configurations; the core's only where it votes.
func (h *host) renderStore(self machine.Identity) error {
	keys, err := natsstore.EnsureKeys(h.daemon.keys(), natsconf.Roles())
	if err != nil {
		return err
	}
	edge := natsconf.Edge{Machine: self.ID, Generation: self.Generation, StoreDir: h.path("nats", "edge"), Keys: keys}
	for _, voter := range self.Voters {
		edge.Voters = append(edge.Voters, natsconf.LeafAddress(voter))
	}
	text, err := natsconf.RenderEdge(edge)
	if err != nil {
		return api.Errorf(api.CodeInternal, "rendering the edge's configuration: %w", err)
	}
	if err := h.write(text, "nats", "edge.conf"); err != nil || !self.Votes() {
		return err
	}
	core := natsconf.Core{
		Name: self.CoreName(), Cluster: self.Cluster, Generation: self.Generation, Address: self.Overlay,
		StoreDir: h.path("nats", "core"), Machines: h.storeMachines(self, keys),
	}
	for _, voter := range self.Voters {
		core.Voters = append(core.Voters, natsconf.RouteAddress(voter))
	}
	if text, err = natsconf.RenderCore(core); err != nil {
		return api.Errorf(api.CodeInternal, "rendering the core's configuration: %w", err)
	}
	return h.write(text, "nats", "core.conf")
}

// storeMachines are the machines that the core lets in: those of the roster, and this one in any case.
func (h *host) storeMachines(self machine.Identity, keys natsconf.PublicKeys) []natsconf.Machine {
	list := []natsconf.Machine{{ID: self.ID, Keys: keys.Shared()}}
	roster, err := machine.LoadRoster(h.daemon.State)
	if err != nil {
		return list // the first machine has none yet
	}
	for _, m := range roster.Members {
		if m.ID == self.ID {
			continue
		}
		if let := (natsconf.Machine{ID: m.ID, Keys: storeKeys(m)}); let.Valid() == nil { // membership.put tells of the others
			list = append(list, let)
		}
	}
	return list
}

func (h *host) write(text []byte, parts ...string) error {
	path := h.path(parts...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return api.Errorf(api.CodeInternal, "making %s: %w", filepath.Dir(path), err)
	}
	if err := durable.WriteFile(path, text, 0o600); err != nil {
		return api.Errorf(api.CodeInternal, "writing %s: %w", path, err)
	}
	return nil
}

// streamsDeadline bounds the wait for the lone core's first leader.
const streamsDeadline = 60 * time.Second

func (h *host) makeStreams(ctx context.Context, self machine.Identity) error {
	ctx, cancel := context.WithTimeout(ctx, streamsDeadline)
	defer cancel()
	opened, err := natsstore.Open(h.daemon.storeConfig(self))
	if err != nil {
		return err
	}
	defer opened.Close()
	if self.Votes() {
		if err := opened.CreateStreams(ctx, len(self.Voters), natsstore.StreamSize{}); err != nil {
			return err
		}
	}
	if err := opened.EnsureMirrors(ctx); err != nil {
		return err
	}
	return opened.CheckSettings(ctx)
}

// start brings units up and fails on the first that does not come. Those that were nowhere are looked at once.
func (h *host) start(ctx context.Context, wanted ...services.Wanted) error {
	nowhere, err := services.InstallNew(ctx, h.daemon.units, wanted...)
	if err != nil {
		return err
	}
	for _, w := range wanted {
		if slices.Contains(nowhere, w.Unit.Name) {
			if err := services.StartNew(ctx, h.daemon.units, w); err != nil {
				return err
			}
			continue
		}
		report := services.Ensure(ctx, h.daemon.units, w, h.daemon.digest(w.Unit.Name))
		if report.Err != nil {
			return report.Err
		}
		if report.Act == services.Leave {
			return api.Errorf(api.CodeMachineUnfit, "the unit cannot be made ours: %s", strings.Join(report.Reasons, "; ")).
				About(w.Unit.Name).WithHint("systemctl status %s", w.Unit.Name)
		}
	}
	return nil
}

// exists reports whether a path is there.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
