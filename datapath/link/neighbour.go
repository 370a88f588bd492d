package link

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Neighbour is one permanent entry: who has an address.
type Neighbour struct {
	Addr netip.Addr
	MAC  net.HardwareAddr
}

// Neighbours returns the permanent entries of an interface, sorted by address. None where
// there is no such interface.
func (k *Kernel) Neighbours(device string) ([]Neighbour, error) {
	l, err := k.find(device)
	if err != nil || l == nil {
		return nil, err
	}
	list, err := k.handle.NeighList(l.Attrs().Index, netlink.FAMILY_ALL)
	if err != nil {
		return nil, &Error{k.place + "list neighbours on " + device, err}
	}
	var out []Neighbour
	for _, n := range list {
		addr, ok := netip.AddrFromSlice(n.IP)
		if ok && n.State == netlink.NUD_PERMANENT && n.Family != unix.AF_BRIDGE {
			out = append(out, Neighbour{addr.Unmap(), n.HardwareAddr})
		}
	}
	slices.SortFunc(out, func(a, b Neighbour) int { return a.Addr.Compare(b.Addr) })
	return out, nil
}

// EnsureNeighbours makes these the only permanent entries of the device that point at mac.
// Permanent entries need no asking on the bridge, and an answer from a workload that lies
// about its address is not believed. Errors: *ConflictError where another MAC holds one.
func (k *Kernel) EnsureNeighbours(device string, mac net.HardwareAddr, want ...netip.Addr) error {
	have, err := k.Neighbours(device)
	if err != nil {
		return err
	}
	var held []netip.Addr
	for _, n := range have {
		mine := bytes.Equal(n.MAC, mac)
		if mine {
			held = append(held, n.Addr)
		} else if slices.Contains(want, n.Addr) {
			return &ConflictError{"address " + n.Addr.String(), fmt.Sprintf("the workload with MAC %s on %s", n.MAC, device), "see who it is with: bridge fdb show br " + device}
		}
	}
	l, err := k.need(device)
	if err != nil || l == nil {
		return err
	}
	return k.neighbourDiff(l, mac, held, want)
}

func (k *Kernel) neighbourDiff(l netlink.Link, mac net.HardwareAddr, have, want []netip.Addr) error {
	for _, a := range want {
		if slices.Contains(have, a) {
			continue
		}
		if err := k.do(func() error { return k.handle.NeighSet(neigh(l, a, mac)) }, "add neighbour %s at %s on %s", a, mac, l.Attrs().Name); err != nil {
			return err
		}
	}
	for _, a := range have {
		if slices.Contains(want, a) {
			continue
		}
		if err := k.do(func() error { return k.handle.NeighDel(neigh(l, a, mac)) }, "remove neighbour %s from %s", a, l.Attrs().Name); err != nil {
			return err
		}
	}
	return nil
}

func neigh(l netlink.Link, a netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: l.Attrs().Index, Family: family(a), State: netlink.NUD_PERMANENT,
		IP: a.AsSlice(), HardwareAddr: mac,
	}
}
