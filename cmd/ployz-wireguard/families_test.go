package main

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/ployz/ployz/datapath/link"
	"github.com/ployz/ployz/datapath/link/linktest"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// Packets to peers of both families arrive, in any order.
func TestBothFamiliesArrive(t *testing.T) {
	testenv.Require(t, testenv.Root)
	n := linktest.New(t, "machine")
	v4, v6 := netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("2001:db8:51::1:2:3/64")
	n.Kernel(t, func(k *link.Kernel) error { return k.EnsureAddresses("lo", v4, v6) })
	f := &families{}
	var peers []*net.UDPConn
	n.Run(t, func() error {
		peers = []*net.UDPConn{listenOn(t, v4.Addr()), listenOn(t, v6.Addr())}
		_, _, err := f.Open(0)
		return err
	})
	for i := range 40 {
		exchange(t, f, peers[i%2], byte(i))
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func exchange(t *testing.T, f *families, peer *net.UDPConn, packet byte) {
	t.Helper()
	to, err := f.ParseEndpoint(peer.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Send([][]byte{{packet}}, to); err != nil {
		t.Fatalf("packet %d to %s: %v", packet, to.DstToString(), err)
	}
	buffer := make([]byte, 10)
	if got, err := peer.Read(buffer); err != nil || got != 1 || buffer[0] != packet {
		t.Fatalf("packet %d to %s: %v, %v", packet, to.DstToString(), buffer[:got], err)
	}
}

func listenOn(t *testing.T, a netip.Addr) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// A device opens and closes its sockets with every new port.
func TestOpensAgain(t *testing.T) {
	f := &families{}
	for range 3 {
		if _, _, err := f.Open(0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.Open(0); err != conn.ErrBindAlreadyOpen {
			t.Errorf("opened twice: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	to, err := f.ParseEndpoint("127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Send([][]byte{{1}}, to); err == nil {
		t.Error("a closed one sends")
	}
}
