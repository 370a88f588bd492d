package wireguard_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ployz/ployz/datapath/link"
	"github.com/ployz/ployz/datapath/link/linktest"
	"github.com/ployz/ployz/datapath/overlay/overlaytest"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/mesh"
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

// wanted is a state with two peers, and its key on disk.
func wanted(t testing.TB, name string) mesh.State {
	t.Helper()
	s := mesh.State{Interface: name, ListenPort: 51820, KeyFile: filepath.Join(t.TempDir(), "wireguard.key"), Peers: []mesh.Peer{meshtest.Peer(1), meshtest.Peer(2)}}
	if _, err := mesh.EnsureKey(s.KeyFile); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEnsure(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.TUN)
	n := linktest.New(t, "machine")
	s := wanted(t, overlaytest.Name())
	overlaytest.Start(t, n, s.Interface)
	for _, want := range []int{4, 0} { // the key, the port, two peers
		if change, err := wireguard.Ensure(t.Context(), s); err != nil || len(change.Text()) != want {
			t.Errorf("changed %q, %v", change.Text(), err)
		}
	}
	s.Peers = s.Peers[:1]
	if change, err := wireguard.Ensure(t.Context(), s); err != nil || len(change.Peers) != 1 || change.Peers[0].Act != mesh.Remove {
		t.Errorf("changed %q, %v", change.Text(), err)
	}
	if err := os.Remove(s.KeyFile); err != nil {
		t.Fatal(err)
	}
	if change, err := wireguard.Ensure(t.Context(), s); !errors.Is(err, fs.ErrNotExist) || !change.Empty() {
		t.Errorf("without a key: %q, %v", change.Text(), err)
	}
}

// A process that hangs costs its caller no more than the patience it has.
func TestFrozenDevice(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.TUN)
	n := linktest.New(t, "machine")
	s := wanted(t, overlaytest.Name())
	thaw := overlaytest.Start(t, n, s.Interface).Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := wireguard.Ensure(ctx, s); api.CodeOf(err) != api.CodeMeshDevice {
		t.Errorf("frozen: %v", err)
	}
	thaw()
	if change, err := wireguard.Ensure(t.Context(), s); err != nil || change.Empty() {
		t.Errorf("afterwards: %q, %v", change.Text(), err)
	}
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
