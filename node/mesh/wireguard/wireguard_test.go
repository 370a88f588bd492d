package wireguard_test

import (
	"os"
	"testing"

	"github.com/ployz/ployz/datapath/link"
	"github.com/ployz/ployz/datapath/link/linktest"
	"github.com/ployz/ployz/datapath/overlay/overlaytest"
	"github.com/ployz/ployz/node/mesh/meshtest"
	"github.com/ployz/ployz/node/mesh/wireguard"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

func TestMain(m *testing.M) {
	status := m.Run()
	overlaytest.Clean()
	os.Exit(status)
}

func TestUserspaceConformance(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.TUN)
	n := linktest.New(t, "machine")
	meshtest.Run(t, func(t *testing.T) meshtest.World {
		name := overlaytest.Name()
		process := overlaytest.Start(t, n, name)
		return meshtest.World{Device: open(t, n, name), Port: 51820, Vanish: process.Crash}
	})
}

func TestKernelConformance(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.WireGuard)
	n := linktest.New(t, "machine")
	meshtest.Run(t, func(t *testing.T) meshtest.World {
		device := link.WireGuard{Name: overlaytest.Name(), MTU: 1420, Alias: "ployz:overlay"}
		remove := func() {
			n.Kernel(t, func(k *link.Kernel) error { return k.RemoveWireGuard(device) })
		}
		n.Kernel(t, func(k *link.Kernel) error { return k.EnsureWireGuard(device) })
		t.Cleanup(remove)
		return meshtest.World{Device: open(t, n, device.Name), Port: 51820, Vanish: remove}
	})
}

func open(t testing.TB, n linktest.Netns, name string) (d *wireguard.Device) {
	t.Helper()
	n.Run(t, func() (err error) {
		d, err = wireguard.Open(name)
		return err
	})
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
