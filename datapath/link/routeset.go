package link

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteSet is every route of a device that leads straight to it: no next hop.
type RouteSet struct {
	// Device is the interface's name.
	Device string
	// Source4 and Source6 are what the machine itself sends from, addresses of any of its interfaces.
	Source4, Source6 netip.Addr
	// To are the destinations.
	To []netip.Prefix
}

// EnsureRouteSet makes these the device's only routes in the main table, besides those that the kernel
// made itself. What is missing comes before what is too much goes. Errors: ErrNotFound for the device;
// *ConflictError for a destination that another interface has.
func (k *Kernel) EnsureRouteSet(s RouteSet) error {
	l, err := k.need(s.Device)
	if err != nil {
		return err
	}
	found, err := k.straight(l)
	if err != nil {
		return err
	}
	wanted := make(map[netip.Prefix]bool, len(s.To))
	for _, to := range s.To {
		wanted[to] = true
		if err := k.ensureStraight(l, to, s.source(to), found); err != nil {
			return err
		}
	}
	for to, r := range found {
		if wanted[to] {
			continue
		}
		if err := k.do(func() error { return k.handle.RouteDel(&r) }, "remove route %s dev %s", to, s.Device); err != nil {
			return err
		}
	}
	return nil
}

func (s RouteSet) source(to netip.Prefix) netip.Addr {
	if to.Addr().Is4() {
		return s.Source4
	}
	return s.Source6
}

// straight returns a device's routes by destination, without the kernel's own.
func (k *Kernel) straight(l netlink.Link) (map[netip.Prefix]netlink.Route, error) {
	if l == nil {
		return nil, nil // inspecting, and the device is not there yet
	}
	list, err := k.handle.RouteList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nil, &Error{k.place + "list routes of " + l.Attrs().Name, err}
	}
	found := map[netip.Prefix]netlink.Route{}
	for _, r := range list {
		to := prefixOf(r.Dst)
		if r.Table == unix.RT_TABLE_MAIN && r.Protocol != unix.RTPROT_KERNEL && to.IsValid() {
			found[to] = r
		}
	}
	return found, nil
}

func (k *Kernel) ensureStraight(l netlink.Link, to netip.Prefix, source netip.Addr, found map[netip.Prefix]netlink.Route) error {
	have, ok := found[to]
	if ok && have.Src.Equal(net.IP(source.AsSlice())) {
		return nil
	}
	what := "add route " + to.String()
	if source.IsValid() {
		what += " from " + source.String()
	}
	if l == nil {
		return k.do(nil, "%s", what)
	}
	want := netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(to), Src: source.AsSlice(), Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC}
	if to.Addr().Is4() {
		want.Scope = netlink.SCOPE_LINK
	}
	change := k.handle.RouteAdd
	if ok {
		change = k.handle.RouteReplace
	}
	err := k.do(func() error { return change(&want) }, "%s dev %s", what, l.Attrs().Name)
	if errors.Is(err, unix.EEXIST) {
		now, listed := k.straight(l)
		if made, ok := now[to]; listed == nil && ok && made.Src.Equal(want.Src) {
			return nil // by another run, in between
		}
		return &ConflictError{"route " + to.String(), "another interface", "look at it with: ip route show " + to.String()}
	}
	return err
}
