package link

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// EnsureAddresses makes the interface have exactly these addresses besides link-local ones.
// IPv6 addresses are added without duplicate address detection: they are ours by assignment,
// and detection would keep them unusable for a second or more, forever on a bridge without ports.
// They can be used when it returns, if the interface is up.
func (k *Kernel) EnsureAddresses(name string, want ...netip.Prefix) error {
	l, err := k.need(name)
	if err != nil {
		return err
	}
	have, err := k.addresses(l)
	if err != nil {
		return err
	}
	// First add, then remove: the first address of a subnet holds its route.
	for _, p := range want {
		if slices.Contains(have, p) {
			continue
		}
		if err := k.do(func() error { return k.handle.AddrAdd(l, address(p)) }, "add address %s to %s", p, name); err != nil {
			return err
		}
	}
	for _, p := range have {
		if slices.Contains(want, p) {
			continue
		}
		if err := k.do(func() error { return k.handle.AddrDel(l, address(p)) }, "remove address %s from %s", p, name); err != nil {
			return err
		}
	}
	return k.awaitLocal(l, want)
}

// awaitLocal waits until the IPv6 addresses of an interface that is up are local. The kernel
// answers to "add" before that (a work queue does the rest); a program that connects in
// between sends its packets out on the wire, for as long as its connection lives.
func (k *Kernel) awaitLocal(l netlink.Link, want []netip.Prefix) error {
	if k.inspecting || l.Attrs().Flags&net.FlagUp == 0 {
		return nil
	}
	deadline := time.Now().Add(2 * time.Second)
	for _, p := range want {
		for p.Addr().Is6() && !k.local(p.Addr()) {
			if time.Now().After(deadline) {
				return &Error{k.place + "wait for address " + p.Addr().String() + " on " + l.Attrs().Name, os.ErrDeadlineExceeded}
			}
			time.Sleep(200 * time.Microsecond)
		}
	}
	return nil
}

func (k *Kernel) local(a netip.Addr) bool {
	routes, err := k.handle.RouteGet(a.AsSlice())
	return err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL
}

// addresses returns an interface's addresses without the link-local ones.
func (k *Kernel) addresses(l netlink.Link) ([]netip.Prefix, error) {
	if l == nil {
		return nil, nil
	}
	list, err := k.handle.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nil, &Error{k.place + "list addresses of " + l.Attrs().Name, err}
	}
	var have []netip.Prefix
	for _, a := range list {
		if p := prefixOf(a.IPNet); p.IsValid() && !p.Addr().IsLinkLocalUnicast() {
			have = append(have, p)
		}
	}
	return have, nil
}

func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}
