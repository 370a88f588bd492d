package bridge

import (
	"errors"
	"fmt"

	"github.com/ployz/ployz/datapath/link"
)

// ErrNoBridge says that the machine's bridge is not there, or is not ours.
var ErrNoBridge = errors.New("the machine's bridge is missing: run `ployz-net up`")

// Ensure makes the bridge exist with its addresses, and the machine forward. It returns what
// it changed, also after an error. Errors: *InvalidError, *link.ConflictError, *link.Error.
func Ensure(c Config) (link.Changes, error) { return run(link.Open, c, ensure) }

// Inspect returns what Ensure would change: nothing where all is well.
func Inspect(c Config) (link.Changes, error) { return run(link.Inspect, c, ensure) }

func run(open func() (*link.Kernel, error), c Config, fn func(*link.Kernel, Config) error) (link.Changes, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	k, err := open()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	err = fn(k, c)
	return k.Changes(), err
}

func ensure(k *link.Kernel, c Config) error {
	if err := k.EnsureForwarding(); err != nil {
		return err
	}
	device := link.Bridge{Name: c.name(), MTU: c.MTU, MAC: c.mac(), Alias: bridgeAlias}
	if err := k.EnsureBridge(device); err != nil {
		return err
	}
	for _, s := range bridgeSysctls(c.name()) {
		if err := k.EnsureSysctl(s.key, s.value); err != nil {
			return err
		}
	}
	return k.EnsureAddresses(c.name(), c.V4, c.V6)
}

// bridgeAlias marks the bridge. It has no hash: all of the bridge can be changed in place.
const bridgeAlias = "ployz:bridge"

type setting struct{ key, value string }

// bridgeSysctls: route_localnet lets the machine reach a published port by 127.0.0.1 (the
// input chain keeps workloads from using it); advertisements from workloads are not believed.
func bridgeSysctls(name string) []setting {
	return []setting{
		{"ipv6/conf/" + name + "/disable_ipv6", "0"},
		{"ipv6/conf/" + name + "/accept_ra", "0"},
		{"ipv4/conf/" + name + "/route_localnet", "1"},
	}
}

// Remove deletes the bridge. Errors: *link.ConflictError where workloads are still on it, or
// where it is not ours. A bridge that is not there is no error. Forwarding stays on.
func Remove(c Config) (link.Changes, error) {
	return run(link.Open, c, func(k *link.Kernel, c Config) error {
		links, err := list(k)
		if err != nil {
			return err
		}
		if len(links) > 0 {
			return &link.ConflictError{
				Thing: "bridge " + c.name(), Found: fmt.Sprintf("%d workloads, the first %s", len(links), links[0].ID),
				Hint: "detach them with: ployz-net down " + links[0].ID,
			}
		}
		return k.EnsureGone(c.name(), bridgeAlias, c.mac())
	})
}
