package daemon

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/services"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
	"github.com/ployz/ployz/units"
)

// loopbackDNS is where the machine's own programs reach the resolver: beside systemd-resolved's
// two addresses, not on them.
var loopbackDNS = netip.MustParseAddr("127.0.0.55")

// resolvers are the addresses that instances ask.
func resolvers(self machine.Identity) func() []netip.Addr {
	return func() []netip.Addr { return []netip.Addr{self.Gateway4(), self.Overlay} }
}

// wanted is what every unit of this machine should be, by the part that needs it, in the order of
// starting.
func (d *Daemon) wanted(self machine.Identity) (map[machine.Part][]services.Wanted, error) {
	net, err := units.Net()
	if err != nil {
		return nil, badUnit(err)
	}
	device, err := wireguardUnit()
	if err != nil {
		return nil, err
	}
	edge, err := d.natsUnit("edge", d.edgeSeeds()...)
	if err != nil {
		return nil, err
	}
	gateway, err := units.Gateway{}.Render()
	if err != nil {
		return nil, badUnit(err)
	}
	dns, err := units.DNS{Args: d.dnsArgs(), Addresses: append(resolvers(self)(), loopbackDNS)}.Render()
	if err != nil {
		return nil, badUnit(err)
	}
	store := []services.Wanted{edge}
	if self.Votes() {
		core, err := d.natsUnit("core", "--route-secret", d.host.routeSecret())
		if err != nil {
			return nil, err
		}
		store = []services.Wanted{core, edge}
	}
	pool, err := d.poolUnit()
	if err != nil {
		return nil, err
	}
	return map[machine.Part][]services.Wanted{
		machine.PartPool:    pool,
		machine.PartNetwork: append(device, services.Wanted{Unit: net}),
		machine.PartStore:   store,
		machine.PartGateway: servingWanted(gateway),
		machine.PartDNS:     servingWanted(dns),
	}, nil
}

// partOrder is the order in which parts are adopted.
var partOrder = []machine.Part{machine.PartPool, machine.PartNetwork, machine.PartStore, machine.PartGateway, machine.PartDNS}

func badUnit(err error) error { return api.Errorf(api.CodeInternal, "rendering a unit: %w", err) }

func (d *Daemon) natsUnit(role string, args ...string) (services.Wanted, error) {
	unit, err := units.NATS{Role: role, Config: d.host.path("nats", role+".conf"), Status: d.natsStatus(role), Args: args}.Render()
	if err != nil {
		return services.Wanted{}, badUnit(err)
	}
	return services.Wanted{Unit: unit, ReloadTakesConfig: true}, nil
}

// edgeSeeds are the flags by which the edge finds the keys of its two leaf connections.
func (d *Daemon) edgeSeeds() []string {
	return []string{
		"--seed", natsconf.AccountStore + "=" + natsstore.SeedFile(d.keys(), natsconf.RoleEdge),
		"--seed", natsconf.AccountBus + "=" + natsstore.SeedFile(d.keys(), natsconf.RoleEdgeBus),
	}
}

func (d *Daemon) natsStatus(role string) string {
	return filepath.Join(d.Run, "nats-"+role+".status")
}

func servingWanted(s units.Serving) []services.Wanted {
	var wanted []services.Wanted
	for _, socket := range s.Sockets {
		wanted = append(wanted, services.Wanted{Unit: socket, SocketOf: s.Service})
	}
	return append(wanted, services.Wanted{Unit: s.Service, HandOver: true})
}

// dnsArgs pass the operator's upstreams on.
func (d *Daemon) dnsArgs() []string {
	var args []string
	for _, u := range d.Settings.DNS.Upstreams {
		args = append(args, "-upstream", u)
	}
	return args
}

// digest asks a store server for the configuration that it runs with.
func (d *Daemon) digest(unit string) services.ConfigDigest {
	roles := map[string]string{units.NATSService: "edge", units.NATSCoreService: "core"}
	role, ok := roles[unit]
	if !ok {
		return nil
	}
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(d.natsStatus(role))
		if err != nil {
			return "", api.Errorf(api.CodeInternal, "reading what the store's %s runs with: %w", role, err)
		}
		var running struct {
			Digest string `json:"config_digest"`
		}
		if err := json.Unmarshal(text, &running); err != nil {
			return "", api.Errorf(api.CodeInternal, "the status of the store's %s is damaged: %w", role, err)
		}
		return running.Digest, nil
	}
}
