package link_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/datapath/link"
	"github.com/ployz/ployz/datapath/link/linktest"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

func TestNetnsIsPinnedOnceAndLeft(t *testing.T) {
	testenv.Require(t, testenv.Root)
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	n := linktest.New(t, "one")
	inside := namespace(t, n)
	if inside == home {
		t.Fatal("the pinned namespace is the one that we are in")
	}
	n.Kernel(t, func(k *link.Kernel) error {
		err := k.EnsureNetns(string(n))
		if len(k.Changes()) > 0 {
			t.Errorf("pinned again: %q", k.Changes())
		}
		return err
	})
	if again := namespace(t, n); again != inside {
		t.Errorf("was %s, is now %s", inside, again)
	}
	if now, err := os.Readlink("/proc/self/ns/net"); err != nil || now != home {
		t.Errorf("we are in %s, %v; we were in %s", now, err, home)
	}
}

func namespace(t *testing.T, n linktest.Netns) (name string) {
	t.Helper()
	n.Run(t, func() (err error) {
		name, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	})
	return name
}

func TestRemoveNetnsLeavesFilesAlone(t *testing.T) {
	testenv.Require(t, testenv.Root)
	path := filepath.Join(t.TempDir(), "letter")
	if err := os.WriteFile(path, []byte("not a namespace"), 0o600); err != nil {
		t.Fatal(err)
	}
	linktest.New(t, "one").Kernel(t, func(k *link.Kernel) error {
		if err := k.RemoveNetns(path); !errors.As(err, new(*link.ConflictError)) {
			t.Errorf("got %v, want a *link.ConflictError", err)
		}
		return k.RemoveNetns(path + "-that-is-not-there")
	})
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// A machine that has its own address and default route from router advertisements must keep
// listening to them when it starts to forward.
func TestForwardingKeepsRouterAdvertisements(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	machine.Kernel(t, func(k *link.Kernel) error {
		if err := errors.Join(k.EnsureSysctl("ipv6/conf/up0/accept_ra", "1"), k.EnsureForwarding()); err != nil {
			return err
		}
		for key, want := range map[string]string{
			"ipv6/conf/up0/accept_ra": "2", "ipv6/conf/default/accept_ra": "2", "ipv6/conf/all/forwarding": "1", "ipv4/ip_forward": "1",
		} {
			if got, err := os.ReadFile("/proc/sys/net/" + key); err != nil || strings.TrimSpace(string(got)) != want {
				t.Errorf("%s is %q, %v; want %s", key, got, err, want)
			}
		}
		return nil
	})
}

func TestInspectingChangesNothing(t *testing.T) {
	testenv.Require(t, testenv.Root)
	n := linktest.New(t, "one")
	n.Run(t, func() error {
		k, err := link.Inspect()
		if err != nil {
			return err
		}
		defer k.Close()
		b := link.Bridge{Name: "br0", MTU: 1500, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Alias: "lab:bridge"}
		if err := errors.Join(k.EnsureBridge(b), k.EnsureSysctl("ipv4/ip_forward", "0")); err != nil {
			return err
		}
		if len(k.Changes()) == 0 {
			t.Error("it did not say that a bridge is missing")
		}
		if _, err := k.Device("br0"); !errors.Is(err, link.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		return nil
	})
}

func TestNeedsTheInterface(t *testing.T) {
	testenv.Require(t, testenv.Root)
	linktest.New(t, "one").Kernel(t, func(k *link.Kernel) error {
		if err := k.EnsureUp("nowhere"); !errors.Is(err, link.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		return nil
	})
}
