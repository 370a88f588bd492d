package linktest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/ployz/ployz/datapath/link"
)

// Wire makes n machines on one underlay, a switch in a namespace of its own:
//
//	machine 0  up0 198.51.100.10/24, 2001:db8:51::10/64 ──┐
//	machine 1  up0 198.51.100.11/24, 2001:db8:51::11/64 ──┴── wire
func Wire(t testing.TB, n int) []Netns {
	t.Helper()
	wire := New(t, "wire")
	wire.Kernel(t, func(k *link.Kernel) error {
		return k.EnsureBridge(link.Bridge{Name: "wire", MTU: 1500, MAC: net.HardwareAddr{2, 0, 0, 0, 1, 0}, Alias: "lab:wire"})
	})
	var machines []Netns
	for i := range n {
		m := New(t, fmt.Sprintf("machine%d", i))
		wire.Kernel(t, func(k *link.Kernel) error { return plug(k, m, i) })
		m.Kernel(t, func(k *link.Kernel) error {
			v4, v6 := Underlay(i)
			return errors.Join(k.EnsureDevice("up0", 1500), k.EnsureAddresses("up0", v4, v6))
		})
		machines = append(machines, m)
	}
	return machines
}

func plug(k *link.Kernel, m Netns, i int) error {
	port := fmt.Sprintf("to%d", i)
	err := k.EnsureVeth(link.Veth{
		Name: port, Alias: "lab:wire:" + port, MAC: net.HardwareAddr{2, 0, 0, 0, 1, byte(10 + i)}, MTU: 1500,
		Netns: string(m), PeerName: "up0", PeerMAC: net.HardwareAddr{2, 0, 0, 0, 2, byte(10 + i)},
	})
	if err != nil {
		return err
	}
	return k.EnsureMember(port, "wire")
}

// Underlay returns the addresses of the i-th machine on the wire.
func Underlay(i int) (v4, v6 netip.Prefix) {
	last := byte(10 + i)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, last}), 24),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0x51, 15: last}), 64)
}
