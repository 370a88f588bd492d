package bridge_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/datapath/bridge"
	"github.com/ployz/ployz/datapath/link"
	"github.com/ployz/ployz/datapath/link/linktest"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

func config() bridge.Config {
	return bridge.Config{Name: "ployz0", MTU: 1420, V4: netip.MustParsePrefix("10.101.7.1/24"), V6: netip.MustParsePrefix("fd12:3456:789a:7::1/64")}
}

func workload(t testing.TB, n int) bridge.Workload {
	path := filepath.Join(t.TempDir(), fmt.Sprintf("web-%d", n))
	t.Cleanup(func() { unpin(t, path) }) // also after a test that failed half-way
	return bridge.Workload{
		ID: fmt.Sprintf("web-%d", n), NetnsPath: path,
		V4: netip.AddrFrom4([4]byte{10, 101, 7, byte(n)}),
		V6: netip.MustParseAddr(fmt.Sprintf("fd12:3456:789a:7:0:9:0:%x", n)),
	}
}

func unpin(t testing.TB, path string) {
	t.Helper()
	k, err := link.Open()
	if err != nil {
		t.Error(err)
		return
	}
	defer k.Close()
	if err := k.RemoveNetns(path); err != nil {
		t.Error(err)
	}
}

// start makes the bridge and the workloads on the machine; they are detached with the test.
func start(t testing.TB, machine linktest.Netns, workloads ...bridge.Workload) {
	t.Helper()
	machine.Run(t, func() error {
		if _, err := bridge.Ensure(config()); err != nil {
			return err
		}
		for _, w := range workloads {
			t.Cleanup(func() { detach(t, machine, w) })
			if _, err := bridge.Attach(config(), w); err != nil {
				return err
			}
		}
		return nil
	})
}

func detach(t testing.TB, machine linktest.Netns, w bridge.Workload) {
	t.Helper()
	machine.Run(t, func() error {
		_, err := bridge.Detach(config(), w)
		return err
	})
}

func both(t *testing.T, test func(t *testing.T, brNetfilter bool)) {
	testenv.Require(t, testenv.Root)
	for _, on := range []bool{false, true} {
		t.Run(fmt.Sprintf("br_netfilter=%t", on), func(t *testing.T) { test(t, on) })
	}
}

func TestWorkloadsReachEachOtherAndTheGateway(t *testing.T) {
	both(t, func(t *testing.T, brNetfilter bool) {
		machine, _ := linktest.Lab(t, brNetfilter)
		a, b := workload(t, 5), workload(t, 6)
		start(t, machine, a, b)
		nsA, nsB := linktest.Netns(a.NetnsPath), linktest.Netns(b.NetnsPath)
		nsB.Serve(t, "tcp", ":80", "b")
		machine.Serve(t, "tcp", ":53", "gateway")
		for _, network := range []struct{ b, gateway, a netip.Addr }{
			{b.V4, config().V4.Addr(), a.V4}, {b.V6, config().V6.Addr(), a.V6},
		} {
			nsA.Reach(t, "tcp", netip.AddrPortFrom(network.b, 80).String(), "b saw "+network.a.String())
			nsA.Reach(t, "tcp", netip.AddrPortFrom(network.gateway, 53).String(), "gateway saw "+network.a.String())
			machine.Reach(t, "tcp", netip.AddrPortFrom(network.b, 80).String(), "b saw "+network.gateway.String())
		}
	})
}

func TestGatewayAddressServesWithoutAnyWorkload(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	start(t, machine)
	for _, a := range []netip.Addr{config().V4.Addr(), config().V6.Addr()} {
		at := netip.AddrPortFrom(a, 53).String()
		machine.Serve(t, "tcp", at, "gateway")
		machine.Reach(t, "tcp", at, "gateway saw "+a.String())
	}
}

func TestSecondEnsureChangesNothing(t *testing.T) {
	both(t, func(t *testing.T, brNetfilter bool) {
		machine, _ := linktest.Lab(t, brNetfilter)
		a := workload(t, 5)
		start(t, machine, a)
		machine.Run(t, func() error {
			for name, call := range map[string]func() (link.Changes, error){
				"Ensure":          func() (link.Changes, error) { return bridge.Ensure(config()) },
				"Inspect":         func() (link.Changes, error) { return bridge.Inspect(config()) },
				"Attach":          func() (link.Changes, error) { return bridge.Attach(config(), a) },
				"InspectWorkload": func() (link.Changes, error) { return bridge.InspectWorkload(config(), a) },
			} {
				if changes, err := call(); err != nil || len(changes) > 0 {
					t.Errorf("second %s: %v, %q", name, err, changes)
				}
			}
			return nil
		})
	})
}

func TestPicture(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	a := workload(t, 5)
	a.NetnsPath = filepath.Join(t.TempDir(), "web-5")
	start(t, machine, a)
	want := strings.ReplaceAll(`ployz0: bridge mtu 1420 mac BRIDGE up true alias "ployz:bridge"
  address 10.101.7.1/24
  address fd12:3456:789a:7::1/64
  route 10.101.7.0/24
  route fd12:3456:789a:7::/64
  neighbour 10.101.7.5 at WEB
  neighbour fd12:3456:789a:7:0:9:0:5 at WEB
LINK: veth mtu 1420 mac BRIDGE up true alias "ployz:web-5:HASH"
  port learning false hairpin false flood false isolated false
  inside lo: device mtu 65536 mac  up true alias ""
  inside   address 127.0.0.1/8
  inside   address ::1/128
  inside eth0: veth mtu 1420 mac WEB up true alias ""
  inside   address 10.101.7.5/32
  inside   address fd12:3456:789a:7:0:9:0:5/128
  inside   route 0.0.0.0/0 via 10.101.7.1 onlink
  inside   route ::/0 via fd12:3456:789a:7::1 onlink
  inside   route fd12:3456:789a:7:0:9:0:5/128
`, "LINK", a.HostLink())
	want = strings.NewReplacer("BRIDGE", mac(t, machine, "ployz0"), "WEB", mac(t, linktest.Netns(a.NetnsPath), "eth0"), "HASH", a.Hash(config())).Replace(want)
	if got := picture(t, machine, a); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func mac(t *testing.T, n linktest.Netns, name string) (text string) {
	t.Helper()
	n.Kernel(t, func(k *link.Kernel) error {
		d, err := k.Device(name)
		text = d.MAC.String()
		return err
	})
	return text
}

func picture(t *testing.T, machine linktest.Netns, workloads ...bridge.Workload) (text string) {
	t.Helper()
	machine.Run(t, func() (err error) {
		text, err = bridge.Picture(config(), workloads...)
		return err
	})
	return text
}

func TestDetachLeavesNothing(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	start(t, machine)
	a := workload(t, 5)
	before := picture(t, machine, a)
	start(t, machine, a)
	if picture(t, machine, a) == before {
		t.Fatal("the picture does not show an attached workload")
	}
	detach(t, machine, a)
	if after := picture(t, machine, a); after != before {
		t.Errorf("after Detach:\n%s\nbefore Attach:\n%s", after, before)
	}
	if _, err := os.Lstat(a.NetnsPath); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pinned namespace is still there: %v", err)
	}
	machine.Run(t, func() error {
		if changes, err := bridge.Detach(config(), a); err != nil || len(changes) > 0 {
			t.Errorf("second Detach: %v, %q", err, changes)
		}
		return nil
	})
}

// Whatever is broken about a link, Attach repairs just that, and the picture is as before.
func TestAttachRepairs(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	a := workload(t, 5)
	start(t, machine, a)
	inside := linktest.Netns(a.NetnsPath)
	whole := picture(t, machine, a)
	for name, damage := range map[string]func(){
		"link gone": func() {
			machine.Kernel(t, func(k *link.Kernel) error { return k.EnsureGone(a.HostLink(), "ployz:web-5:x", nil) })
		},
		"address lost": func() {
			inside.Kernel(t, func(k *link.Kernel) error { return k.EnsureAddresses("eth0") })
		},
		"neighbours lost": func() {
			hw, _ := net.ParseMAC(mac(t, inside, "eth0"))
			machine.Kernel(t, func(k *link.Kernel) error { return k.EnsureNeighbours("ployz0", hw) })
		},
		"isolated": func() {
			hw, _ := net.ParseMAC(mac(t, inside, "eth0"))
			machine.Kernel(t, func(k *link.Kernel) error {
				return k.EnsurePort(link.Port{Name: a.HostLink(), Bridge: "ployz0", MAC: hw, Isolated: true})
			})
		},
		"namespace gone": func() {
			machine.Kernel(t, func(k *link.Kernel) error { return k.RemoveNetns(a.NetnsPath) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			damage()
			machine.Run(t, func() error {
				if changes, err := bridge.InspectWorkload(config(), a); err != nil || len(changes) == 0 {
					t.Errorf("Inspect did not see it: %v, %q", err, changes)
				}
				changes, err := bridge.Attach(config(), a)
				if len(changes) == 0 {
					t.Error("nothing was changed")
				}
				return err
			})
			if got := picture(t, machine, a); got != whole {
				t.Errorf("got\n%s\nwant\n%s", got, whole)
			}
		})
	}
}

// A pair that was made by an Attach that died before it wrote its mark is taken over.
func TestAttachTakesOverItsHalfMadeLink(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	a := workload(t, 5)
	start(t, machine, a)
	whole := picture(t, machine, a)
	detach(t, machine, a)
	hw, _ := net.ParseMAC(mac(t, machine, "ployz0"))
	machine.Kernel(t, func(k *link.Kernel) error {
		return errors.Join(k.EnsureNetns(a.NetnsPath), k.EnsureVeth(link.Veth{
			Name: a.HostLink(), MAC: hw, Netns: a.NetnsPath, PeerName: "eth0", PeerMAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}, MTU: 1500,
		}))
	})
	start(t, machine, a)
	if got := picture(t, machine, a); got != whole {
		t.Errorf("got\n%s\nwant\n%s", got, whole)
	}
}

// ployz-net may run for one workload from several units at once, and from boot.
func TestManyAttachAtOnce(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	a, b := workload(t, 5), workload(t, 6)
	b.NetnsPath = filepath.Join(filepath.Dir(a.NetnsPath), "b")
	start(t, machine)
	t.Cleanup(func() { detach(t, machine, a); detach(t, machine, b) })
	done := make(chan error)
	for n := range 8 {
		w := []bridge.Workload{a, b}[n%2]
		go func() {
			done <- link.InNetns(string(machine), func() error { _, err := bridge.Attach(config(), w); return err })
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if found := picture(t, machine, a, b); strings.Contains(found, "none") {
		t.Errorf("got\n%s", found)
	}
}

func TestConflicts(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, outside := linktest.Lab(t, false)
	a, b := workload(t, 5), workload(t, 6)
	start(t, machine, a)
	foreign := func(name string) {
		machine.Kernel(t, func(k *link.Kernel) error {
			return k.EnsureVeth(link.Veth{Name: name, Alias: "someone:else:1", MAC: net.HardwareAddr{2, 0, 0, 0, 9, 1}, PeerMAC: net.HardwareAddr{2, 0, 0, 0, 9, 2}, Netns: string(outside), PeerName: name, MTU: 1500})
		})
	}
	foreign(b.HostLink())
	sameV4, sameV6 := workload(t, 8), workload(t, 9)
	sameV4.V4, sameV6.V6 = a.V4, a.V6
	for name, w := range map[string]bridge.Workload{"interface": b, "IPv4 address": sameV4, "IPv6 address": sameV6} {
		before := picture(t, machine, a, w)
		machine.Run(t, func() error {
			changes, err := bridge.Attach(config(), w)
			if !errors.As(err, new(*link.ConflictError)) {
				t.Errorf("%s: got %v, want a *link.ConflictError", name, err)
			}
			if len(changes) > 0 {
				t.Errorf("%s: refused, but changed %q", name, changes)
			}
			return nil
		})
		if after := picture(t, machine, a, w); after != before {
			t.Errorf("%s: changed\n%s\nto\n%s", name, before, after)
		}
	}
	machine.Run(t, func() error {
		if _, err := bridge.Detach(config(), b); !errors.As(err, new(*link.ConflictError)) {
			t.Errorf("Detach of a foreign interface: got %v, want a *link.ConflictError", err)
		}
		return nil
	})
}

func TestForeignBridgeIsLeftAlone(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	machine.Kernel(t, func(k *link.Kernel) error {
		return k.EnsureBridge(link.Bridge{Name: "ployz0", MTU: 1500, MAC: net.HardwareAddr{2, 0, 0, 0, 9, 1}, Alias: "someone:else"})
	})
	machine.Run(t, func() error {
		if _, err := bridge.Ensure(config()); !errors.As(err, new(*link.ConflictError)) {
			t.Errorf("got %v, want a *link.ConflictError", err)
		}
		if _, err := bridge.Attach(config(), workload(t, 5)); !errors.Is(err, bridge.ErrNoBridge) {
			t.Errorf("got %v, want ErrNoBridge", err)
		}
		return nil
	})
}

func TestListShowsOnlyOurs(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	a, b := workload(t, 5), workload(t, 6)
	start(t, machine, b, a)
	machine.Run(t, func() error {
		found, err := bridge.List()
		if err != nil || len(found) != 2 || found[0].ID != "web-5" || found[1].Hash != b.Hash(config()) {
			t.Errorf("got %+v, %v", found, err)
		}
		if _, err := bridge.Remove(config()); !errors.As(err, new(*link.ConflictError)) {
			t.Errorf("Remove with workloads: got %v, want a *link.ConflictError", err)
		}
		return nil
	})
}

func TestValidate(t *testing.T) {
	good := workload(t, 5)
	if err := good.Validate(config()); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*bridge.Workload){
		"id":         func(w *bridge.Workload) { w.ID = "a/b" },
		"netns_path": func(w *bridge.Workload) { w.NetnsPath = "x" },
		"v4":         func(w *bridge.Workload) { w.V4 = config().V4.Addr() },
		"v6":         func(w *bridge.Workload) { w.V6 = netip.MustParseAddr("fd00::1") },
		"mtu":        func(w *bridge.Workload) { w.MTU = 1421 },
		"mac":        func(w *bridge.Workload) { w.MAC = "01:00:00:00:00:01" },
	} {
		w := good
		spoil(&w)
		var invalid *bridge.InvalidError
		if err := w.Validate(config()); !errors.As(err, &invalid) || invalid.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
	broadcast := good
	broadcast.V4 = netip.MustParseAddr("10.101.7.255")
	if broadcast.Validate(config()) == nil {
		t.Error("the broadcast address was let through")
	}
}

func TestStateComesBack(t *testing.T) {
	dir := t.TempDir()
	w := workload(t, 5)
	if err := errors.Join(config().Save(dir+"/net/bridge.json"), w.Save(dir+"/link.json")); err != nil {
		t.Fatal(err)
	}
	c, err := bridge.LoadConfig(dir + "/net/bridge.json")
	if err != nil || c != config() {
		t.Errorf("got %+v, %v", c, err)
	}
	got, err := bridge.LoadWorkload(dir + "/link.json")
	if err != nil || got != w {
		t.Errorf("got %+v, %v", got, err)
	}
}

func BenchmarkAttachDetach(b *testing.B) {
	testenv.Require(b, testenv.Root)
	machine, _ := linktest.Lab(b, false)
	start(b, machine)
	w := workload(b, 5)
	for _, part := range []string{"whole", "again"} {
		b.Run(part, func(b *testing.B) {
			if part == "again" {
				start(b, machine, w)
			}
			machine.Run(b, func() error {
				for b.Loop() {
					if _, err := bridge.Attach(config(), w); err != nil {
						return err
					}
					if part == "again" {
						continue
					}
					if _, err := bridge.Detach(config(), w); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}
