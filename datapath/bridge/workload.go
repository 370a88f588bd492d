package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/ployz/ployz/datapath/link"
)

// Attach makes the workload's namespace and link be as described, whatever is there of them.
// It returns what it changed, also after an error. Errors: *InvalidError, ErrNoBridge,
// *link.ConflictError for an interface name or an address that another holds, *link.Error.
func Attach(c Config, w Workload) (link.Changes, error) {
	if err := w.Validate(c); err != nil {
		return nil, err
	}
	unlock, err := lock(filepath.Dir(w.NetnsPath))
	if err != nil {
		return nil, err
	}
	defer unlock()
	return run(link.Open, c, func(k *link.Kernel, c Config) error { return attach(k, c, w) })
}

// InspectWorkload returns what Attach would change: nothing where all is well.
func InspectWorkload(c Config, w Workload) (link.Changes, error) {
	if err := w.Validate(c); err != nil {
		return nil, err
	}
	return run(link.Inspect, c, func(k *link.Kernel, c Config) error { return attach(k, c, w) })
}

// attach refuses before it changes: the bridge and both addresses are looked at first.
func attach(k *link.Kernel, c Config, w Workload) error {
	mac, err := w.mac()
	if err != nil {
		return err
	}
	if err := admit(k, c, w, mac); err != nil {
		return err
	}
	if err := k.EnsureNetns(w.NetnsPath); err != nil {
		return err
	}
	pair := link.Veth{
		Name: w.HostLink(), Alias: w.alias(c), MAC: c.mac(), PeerMAC: mac,
		Netns: w.NetnsPath, PeerName: insideName, MTU: w.mtu(c),
	}
	if err := k.EnsureVeth(pair); err != nil {
		return err
	}
	if err := k.Inside(w.NetnsPath, func(in *link.Kernel) error { return inner(in, c, w) }); err != nil {
		return err
	}
	if err := k.EnsurePort(link.Port{Name: w.HostLink(), Bridge: c.name(), MAC: mac}); err != nil {
		return err
	}
	if err := k.EnsureHandUp(w.HostLink(), c.name()); err != nil {
		return err
	}
	return k.EnsureNeighbours(c.name(), mac, w.V4, w.V6)
}

// insideName is what the workload sees, as in every container.
const insideName = "eth0"

// admit looks at what must hold before anything is changed.
func admit(k *link.Kernel, c Config, w Workload, mac net.HardwareAddr) error {
	br, err := k.Device(c.name())
	if errors.Is(err, link.ErrNotFound) || (err == nil && br.Alias != bridgeAlias) {
		return ErrNoBridge
	}
	if err != nil {
		return err
	}
	if err := k.CheckOwn(w.HostLink(), "veth", w.alias(c), c.mac()); err != nil {
		return err
	}
	held, err := k.Neighbours(c.name())
	if err != nil {
		return err
	}
	for _, n := range held {
		if (n.Addr == w.V4 || n.Addr == w.V6) && n.MAC.String() != mac.String() {
			return &link.ConflictError{
				Thing: "address " + n.Addr.String(), Found: "another workload, with MAC " + n.MAC.String(),
				Hint: "see which with: bridge fdb show br " + c.name(),
			}
		}
	}
	return nil
}

// innerSysctls are set before the interface comes up, so that nothing is detected, advertised
// or redirected even in its first moments.
var innerSysctls = []setting{
	{"ipv6/conf/" + insideName + "/disable_ipv6", "0"},
	{"ipv6/conf/lo/disable_ipv6", "0"},
	{"ipv6/conf/" + insideName + "/accept_dad", "0"},
	{"ipv6/conf/" + insideName + "/accept_ra", "0"},
	{"ipv6/conf/" + insideName + "/accept_redirects", "0"},
	{"ipv4/conf/all/accept_redirects", "0"},
	{"ipv4/conf/" + insideName + "/accept_redirects", "0"},
}

func inner(in *link.Kernel, c Config, w Workload) error {
	if err := in.EnsureUp("lo"); err != nil {
		return err
	}
	for _, s := range innerSysctls {
		if err := in.EnsureSysctl(s.key, s.value); err != nil {
			return err
		}
	}
	if err := in.EnsureDevice(insideName, w.mtu(c)); err != nil {
		return err
	}
	if err := in.EnsureAddresses(insideName, single(w.V4), single(w.V6)); err != nil {
		return err
	}
	for _, gateway := range []netip.Addr{c.V4.Addr(), c.V6.Addr()} {
		if err := in.EnsureRoute(defaultRoute(gateway)); err != nil {
			return err
		}
	}
	return nil
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func defaultRoute(gateway netip.Addr) link.Route {
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if gateway.Is6() {
		all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return link.Route{To: all, Via: gateway, Device: insideName, OnLink: true}
}

// Detach takes the link, its neighbour entries and the pinned namespace away. It can be
// repeated. Of the Workload it needs ID and NetnsPath, and MAC where one was set. Errors:
// *link.ConflictError where the interface under its name is not its own.
func Detach(c Config, w Workload) (link.Changes, error) {
	mac, err := w.mac()
	if err != nil {
		return nil, err
	}
	unlock, err := lock(filepath.Dir(w.NetnsPath))
	if err != nil {
		return nil, err
	}
	defer unlock()
	return run(link.Open, c, func(k *link.Kernel, c Config) error {
		if err := k.EnsureGone(w.HostLink(), w.owner(), c.mac()); err != nil {
			return err
		}
		if err := dropNeighbours(k, c, mac); err != nil {
			return err
		}
		return k.RemoveNetns(w.NetnsPath)
	})
}

func dropNeighbours(k *link.Kernel, c Config, mac net.HardwareAddr) error {
	err := k.EnsureNeighbours(c.name(), mac)
	if errors.Is(err, link.ErrNotFound) {
		return nil // they went with the bridge
	}
	return err
}

// Attached is a workload's link as found.
type Attached struct {
	// ID is the workload, Hash the identity of the shape it was given, both from the alias.
	ID, Hash string
	// Link is the interface on the machine.
	Link string
	// MTU is in bytes.
	MTU int
	Up  bool
}

// List returns the links of workloads on this machine, sorted by ID.
func List() ([]Attached, error) {
	k, err := link.Inspect()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	return list(k)
}

func list(k *link.Kernel) ([]Attached, error) {
	devices, err := k.Devices("ployz:")
	if err != nil {
		return nil, err
	}
	var out []Attached
	for _, d := range devices {
		parts := strings.Split(d.Alias, ":")
		if len(parts) == 3 && d.Kind == "veth" {
			out = append(out, Attached{ID: parts[1], Hash: parts[2], Link: d.Name, MTU: d.MTU, Up: d.Up})
		}
	}
	slices.SortFunc(out, func(a, b Attached) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Hash returns the identity that Attach writes for the workload, to compare with Attached.Hash.
func (w Workload) Hash(c Config) string { return strings.TrimPrefix(w.alias(c), w.owner()) }

// lock keeps two programs from working on links under one folder of namespaces at once. The
// kernel frees it when the program ends, however it ends.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), d.Close())
	}
	return func() { _ = d.Close() }, nil // closing a folder that was only read cannot lose anything
}
