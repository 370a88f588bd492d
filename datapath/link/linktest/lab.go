// Package linktest gives tests network namespaces of their own, real ones, that end with the
// test: a machine, the world outside it, and programs that listen and call in any of them.
//
//	outside 198.51.100.2/24, 2001:db8:51::2/64 ── veth ── up0 198.51.100.1/24, 2001:db8:51::1/64 machine
//
// It needs root. It must never touch the namespace that the test was started in.
package linktest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/datapath/link"
)

// The addresses of the lab's underlay.
var (
	MachineV4 = netip.MustParseAddr("198.51.100.1")
	MachineV6 = netip.MustParseAddr("2001:db8:51::1")
	OutsideV4 = netip.MustParseAddr("198.51.100.2")
	OutsideV6 = netip.MustParseAddr("2001:db8:51::2")
)

// Netns is the path of a pinned namespace.
type Netns string

// New pins a namespace for the length of the test.
func New(t testing.TB, name string) Netns {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	k := open(t)
	defer k.Close()
	if err := k.EnsureNetns(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.RemoveNetns(path); err != nil {
			t.Error(err)
		}
	})
	Netns(path).Kernel(t, func(k *link.Kernel) error { return k.EnsureUp("lo") })
	return Netns(path)
}

// Lab makes a machine and the world outside it, joined as the package comment draws it, with
// no route from outside to what is behind the machine. br_netfilter is set as asked.
func Lab(t testing.TB, brNetfilter bool) (machine, outside Netns) {
	t.Helper()
	machine, outside = New(t, "machine"), New(t, "outside")
	value := "0"
	if brNetfilter {
		value = "1"
	}
	machine.Kernel(t, func(k *link.Kernel) error {
		err := errors.Join(
			optional(k.EnsureSysctl("bridge/bridge-nf-call-iptables", value)),
			optional(k.EnsureSysctl("bridge/bridge-nf-call-ip6tables", value)),
			k.EnsureVeth(link.Veth{
				Name: "up0", Alias: "lab:machine:1", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, MTU: 1500,
				Netns: string(outside), PeerName: "up0", PeerMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
			}),
			k.EnsureAddresses("up0", netip.PrefixFrom(MachineV4, 24), netip.PrefixFrom(MachineV6, 64)),
			k.EnsureRoute(link.Route{To: netip.MustParsePrefix("0.0.0.0/0"), Via: OutsideV4, Device: "up0"}),
		)
		return err
	})
	outside.Kernel(t, func(k *link.Kernel) error {
		return errors.Join(k.EnsureDevice("up0", 1500),
			k.EnsureAddresses("up0", netip.PrefixFrom(OutsideV4, 24), netip.PrefixFrom(OutsideV6, 64)))
	})
	machine.Kernel(t, func(k *link.Kernel) error {
		return k.EnsureRoute(link.Route{To: netip.MustParsePrefix("::/0"), Via: OutsideV6, Device: "up0"})
	})
	return machine, outside
}

func optional(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func open(t testing.TB) *link.Kernel {
	t.Helper()
	k, err := link.Open()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Run runs fn in the namespace and fails the test with its error.
func (n Netns) Run(t testing.TB, fn func() error) {
	t.Helper()
	if err := link.InNetns(string(n), fn); err != nil {
		t.Fatal(err)
	}
}

// Kernel runs fn with the namespace's Kernel and fails the test with its error.
func (n Netns) Kernel(t testing.TB, fn func(k *link.Kernel) error) {
	t.Helper()
	n.Run(t, func() error {
		k, err := link.Open()
		if err != nil {
			return err
		}
		defer k.Close()
		return fn(k)
	})
}

// Serve answers on an address of the namespace ("tcp" or "udp", "addr:port") until the test
// ends: with its name and the address that it saw the caller come from.
func (n Netns) Serve(t testing.TB, network, address, name string) {
	t.Helper()
	n.Run(t, func() error {
		if network == "udp" {
			return serveUDP(t, address, name)
		}
		l, err := net.Listen(network, address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = fmt.Fprint(conn, greeting(name, conn.RemoteAddr()))
				_ = conn.Close()
			}
		}()
		return nil
	})
}

func serveUDP(t testing.TB, address, name string) error {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 100)
		for {
			_, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo([]byte(greeting(name, from)), from)
		}
	}()
	return nil
}

func greeting(name string, from net.Addr) string {
	return name + " saw " + netip.MustParseAddrPort(from.String()).Addr().Unmap().String()
}

// Call asks an address from the namespace and returns the answer of Serve: "web saw 10.0.0.1".
func (n Netns) Call(network, address string, patience time.Duration) (answer string, err error) {
	err = link.InNetns(string(n), func() error {
		conn, err := net.DialTimeout(network, address, patience)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		answer, err = ask(conn, network)
		return err
	})
	return answer, err
}

func ask(conn net.Conn, network string) (string, error) {
	if network == "tcp" {
		text, err := io.ReadAll(conn)
		return string(text), err
	}
	if _, err := conn.Write([]byte("?")); err != nil {
		return "", err
	}
	buffer := make([]byte, 100)
	n, err := conn.Read(buffer)
	return string(buffer[:n]), err
}

// Reach fails the test unless Call gets an answer with this text in it.
func (n Netns) Reach(t testing.TB, network, address, want string) {
	t.Helper()
	answer, err := n.Call(network, address, 3*time.Second)
	if err != nil || !strings.Contains(answer, want) {
		t.Errorf("%s: %s %s answered %q, %v; wanted %q", filepath.Base(string(n)), network, address, answer, err, want)
	}
}

// Blocked fails the test if Call gets an answer. What it calls must be shown to be reachable
// from elsewhere by the same test.
func (n Netns) Blocked(t testing.TB, network, address string) {
	t.Helper()
	if answer, err := n.Call(network, address, 300*time.Millisecond); err == nil {
		t.Errorf("%s: %s %s answered %q; it must be out of reach", filepath.Base(string(n)), network, address, answer)
	}
}
