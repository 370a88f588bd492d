package overlay_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/datapath/link"
	"github.com/ployz/ployz/datapath/link/linktest"
	"github.com/ployz/ployz/datapath/overlay"
	"github.com/ployz/ployz/datapath/overlay/overlaytest"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

func TestMain(m *testing.M) {
	status := m.Run()
	overlaytest.Clean()
	os.Exit(status)
}

var (
	gateway4 = netip.MustParsePrefix("10.101.1.1/24")
	gateway6 = netip.MustParsePrefix("fd12:3456:789a:1::1/64")
)

func config(routes ...string) overlay.Config {
	c := overlay.Config{Interface: overlaytest.Name(), MTU: 1420, Source4: gateway4.Addr(), Source6: gateway6.Addr()}
	for _, r := range routes {
		c.Routes = append(c.Routes, netip.MustParsePrefix(r))
	}
	return c
}

// rig is a machine whose bridge addresses are there, and the device for the configuration.
func rig(t *testing.T, c overlay.Config) linktest.Netns {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.TUN)
	n := linktest.New(t, "machine")
	n.Kernel(t, func(k *link.Kernel) error {
		return errors.Join(
			k.EnsureBridge(link.Bridge{Name: "ployz0", MTU: 1500, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Alias: "ployz:bridge"}),
			k.EnsureAddresses("ployz0", gateway4, gateway6))
	})
	overlaytest.Start(t, n, c.Interface)
	return n
}

func ensure(t *testing.T, n linktest.Netns, c overlay.Config) (changes link.Changes) {
	t.Helper()
	n.Run(t, func() (err error) {
		changes, err = overlay.Ensure(c)
		return err
	})
	return changes
}

func TestEnsureAddsWhatIsMissingAndRemovesTheRest(t *testing.T) {
	c := config("10.101.2.0/24", "fd12:3456:789a:2::/64")
	n := rig(t, c)
	first := ensure(t, n, c)
	if !slices.Contains(first, "add route 10.101.2.0/24 from 10.101.1.1 dev "+c.Interface) {
		t.Errorf("at first: %q", first)
	}
	if again := ensure(t, n, c); len(again) > 0 {
		t.Errorf("again: %q", again)
	}
	c.Routes = []netip.Prefix{netip.MustParsePrefix("10.101.3.0/24"), c.Routes[1]}
	want := []string{"add route 10.101.3.0/24 from 10.101.1.1 dev " + c.Interface, "remove route 10.101.2.0/24 dev " + c.Interface}
	n.Run(t, func() error {
		would, err := overlay.Inspect(c)
		if !slices.Equal(would, want) {
			t.Errorf("Inspect: %q", would)
		}
		return err
	})
	if changes := ensure(t, n, c); !slices.Equal(changes, want) {
		t.Errorf("another peer: %q", changes)
	}
	c.MTU = 1380
	if changes := ensure(t, n, c); !slices.Equal(changes, []string{"set " + c.Interface + " mtu 1380"}) {
		t.Errorf("another MTU: %q", changes)
	}
}

// A machine whose own address changed sends from the new one.
func TestSourceIsPutRight(t *testing.T) {
	c := config("10.101.2.0/24", "fd12:3456:789a:2::/64")
	n := rig(t, c)
	ensure(t, n, c)
	c.Source4, c.Source6 = netip.MustParseAddr("10.101.1.2"), netip.MustParseAddr("fd12:3456:789a:1::2")
	n.Kernel(t, func(k *link.Kernel) error {
		return k.EnsureAddresses("ployz0", gateway4, gateway6, netip.PrefixFrom(c.Source4, 24), netip.PrefixFrom(c.Source6, 64))
	})
	if changes := ensure(t, n, c); len(changes) != 2 {
		t.Errorf("changed %q", changes)
	}
	if again := ensure(t, n, c); len(again) > 0 {
		t.Errorf("again: %q", again)
	}
}

// TestAbsentMachines: what goes to a subnet of the cluster that no machine has is refused at once, and does not leave by
// the default route; the machine's own, the others' and everybody else's traffic does not change.
func TestAbsentMachines(t *testing.T) {
	c := config("10.101.2.0/24", "fd12:3456:789a:2::/64")
	c.Cluster = []netip.Prefix{netip.MustParsePrefix("10.101.0.0/16"), netip.MustParsePrefix("fd12:3456:789a::/48")}
	n := rig(t, c)
	n.Kernel(t, func(k *link.Kernel) error {
		return errors.Join(
			k.EnsureRoute(link.Route{To: netip.MustParsePrefix("0.0.0.0/0"), Device: "ployz0"}),
			k.EnsureRoute(link.Route{To: netip.MustParsePrefix("::/0"), Device: "ployz0"}))
	})
	first := ensure(t, n, c)
	if !slices.Contains(first, "add unreachable 10.101.0.0/16") || !slices.Contains(first, "add unreachable fd12:3456:789a::/48") {
		t.Errorf("at first: %q", first)
	}
	if again := ensure(t, n, c); len(again) > 0 {
		t.Errorf("again: %q", again)
	}
	for to, refused := range map[string]bool{
		"10.101.9.9": true, "fd12:3456:789a:9::9": true, "10.101.2.9": false, "fd12:3456:789a:2::9": false,
		"10.101.1.9": false, "192.0.2.9": false, "2001:db8::9": false,
	} {
		n.Run(t, func() error {
			conn, err := net.Dial("udp", net.JoinHostPort(to, "9")) // only asks for the route
			if err == nil {
				conn.Close()
			}
			if got := errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH); got != refused {
				t.Errorf("to %s: %v", to, err)
			}
			return nil
		})
	}
	c.Cluster = c.Cluster[:1]
	if changes := ensure(t, n, c); !slices.Equal(changes, []string{"remove unreachable fd12:3456:789a::/48"}) {
		t.Errorf("another cluster: %q", changes)
	}
	n.Run(t, func() error {
		changes, err := overlay.Remove(c)
		if !slices.Contains(changes, "remove unreachable 10.101.0.0/16") {
			t.Errorf("Remove: %q", changes)
		}
		return err
	})
}

func TestRemove(t *testing.T) {
	c := config("10.101.2.0/24")
	n := rig(t, c)
	ensure(t, n, c)
	for _, want := range []int{1, 0} {
		n.Run(t, func() error {
			changes, err := overlay.Remove(c)
			if len(changes) != want {
				t.Errorf("removed %q", changes)
			}
			return err
		})
	}
}

// Neither an interface nor a route of others is ever taken.
func TestOthersStay(t *testing.T) {
	c := config("10.101.2.0/24")
	n := rig(t, c)
	taken := c
	taken.Interface = "ployz0"
	n.Kernel(t, func(k *link.Kernel) error {
		return k.EnsureRoute(link.Route{To: c.Routes[0], Device: "ployz0"})
	})
	n.Run(t, func() error {
		for name, c := range map[string]overlay.Config{"interface": taken, "route": c} {
			if changes, err := overlay.Ensure(c); !errors.As(err, new(*link.ConflictError)) {
				t.Errorf("%s: %v, changed %q", name, err, changes)
			}
		}
		if _, err := overlay.Remove(taken); !errors.As(err, new(*link.ConflictError)) {
			t.Errorf("Remove: %v", err)
		}
		return nil
	})
}

// Where the kernel has no WireGuard and no process made the device, that is said; where it has, the device is made.
func TestDeviceOfTheKernel(t *testing.T) {
	testenv.Require(t, testenv.Root)
	n, c := linktest.New(t, "machine"), config()
	n.Run(t, func() error {
		needs, err := overlay.NeedsUserspace()
		if err != nil {
			return err
		}
		for name, call := range map[string]func(overlay.Config) (link.Changes, error){"Inspect": overlay.Inspect, "Ensure": overlay.Ensure} {
			if _, err := call(c); errors.Is(err, overlay.ErrNeedsUserspace) != needs || (err != nil) != needs {
				t.Errorf("%s: %v, needs userspace: %t", name, err, needs)
			}
		}
		_, err = overlay.Remove(c)
		return err
	})
}

func TestInvalid(t *testing.T) {
	for field, spoil := range map[string]func(*overlay.Config){
		"interface": func(c *overlay.Config) { c.Interface = "ployz-wireguard0" },
		"mtu":       func(c *overlay.Config) { c.MTU = 1000 },
		"source4":   func(c *overlay.Config) { c.Source4 = c.Source6 },
		"source6":   func(c *overlay.Config) { c.Source6 = netip.Addr{} },
		"route":     func(c *overlay.Config) { c.Routes = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} },
	} {
		c := config()
		spoil(&c)
		var invalid *overlay.InvalidError
		if err := c.Validate(); !errors.As(err, &invalid) || invalid.Field != field || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}
