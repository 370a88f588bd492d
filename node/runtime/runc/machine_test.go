package runc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/oci/overlay"
	"github.com/ployz/ployz/node/runtime/runc/boot"
	"github.com/ployz/ployz/node/runtime/runtimetest"
	"github.com/ployz/ployz/node/services/systemd"
)

// TestMain plays two other programs: ployz-net for the units of these tests, and the workload,
// which is this binary under another name in an image's layer.
func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == "program":
		runtimetest.Main(os.Args[1:])
	case len(os.Args) == 4 && os.Args[1] == "boot":
		if err := bootMain(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

func bootMain(state, id string) error {
	if err := pinNetns(filepath.Join(testRun, "netns", id)); err != nil {
		return err
	}
	return boot.Machine{State: state, Run: testRun, Mount: func(layers []string, upper, work, target string) error {
		return overlay.Mount(overlay.Stack{Lower: layers, Upper: upper, Work: work, Target: target})
	}}.Ensure(id)
}

const (
	testRun   = "/run/ployz"
	testState = "/var/lib/ployz/runc-test"
)

// pinNetns is the least of what the real network does.
func pinNetns(path string) error {
	if exec.Command("mountpoint", "-q", path).Run() == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return exec.Command("unshare", "--net="+path, "true").Run()
}

// pinned is a network of pinned namespaces without links.
type pinned struct{}

func (pinned) Attach(_ context.Context, id string, _ uint32, _ runtime.Addresses) error {
	return pinNetns(filepath.Join(testRun, "netns", id))
}
func (pinned) Publish(context.Context, string, runtime.Addresses, []runtime.PublishedPort) error {
	return nil
}
func (pinned) Taken(context.Context) (map[string]runtime.Addresses, error) { return nil, nil }
func (pinned) Detach(_ context.Context, id string) error {
	path := filepath.Join(testRun, "netns", id)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(exec.Command("umount", path).Run(), os.Remove(path))
}

// folder is one that a unit of this machine sees too.
func folder(t *testing.T) string {
	t.Helper()
	if err := os.MkdirAll(testState, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(testState, "volume-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// machine returns a runtime on this real machine, and an image whose /program is the workload.
func machine(t testing.TB) (*Runtime, runtime.Image) {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Systemd, testenv.Runc, testenv.Overlay)
	units := systemd.New()
	t.Cleanup(units.Close)
	r := New()
	r.State, r.Run, r.Program, r.Units, r.Freezer, r.Network = testState, testRun, testenv.RuncPath(), units, units, pinned{}
	r.Boot = []string{copyOfUs(t, filepath.Join(testState, "boot"), "ployz-net"), "boot", testState}
	r.Nameservers = func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("10.101.1.1")} }
	layer := filepath.Join(testState, "layer")
	copyOfUs(t, layer, "program")
	for _, dir := range []string{"etc", "proc", "sys", "dev", "tmp"} {
		if err := os.MkdirAll(filepath.Join(layer, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return r, runtime.Image{Digest: "sha256:test", Layers: []string{layer}, Config: runtime.ImageConfig{Entrypoint: []string{"/program"}}}
}

// copyOfUs puts this binary into the folder; the tests must be built static.
func copyOfUs(t testing.TB, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
	return path
}

var lastAddress atomic.Uint32

func addresses() runtime.Addresses {
	n := lastAddress.Add(1)
	return runtime.Addresses{V4: netip.AddrFrom4([4]byte{10, 101, byte(1 + n>>8), byte(n)}), V6: netip.MustParseAddr(fmt.Sprintf("fd00:1:2:3::%x", n))}
}

func TestConformance(t *testing.T) {
	runtimetest.Run(t, func(t *testing.T) runtimetest.Fixture {
		r, image := machine(t)
		return runtimetest.Fixture{Runtime: r, Console: r, Image: image, Addresses: addresses, Folder: folder, Reopen: func() runtime.Runtime {
			again, _ := machine(t)
			return again
		}}
	})
}
