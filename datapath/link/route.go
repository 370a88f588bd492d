package link

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Route describes one route in the main table.
type Route struct {
	// To is the destination; 0.0.0.0/0 or ::/0 for the default route.
	To netip.Prefix
	// Via is the next hop; invalid for a destination that is on the link itself.
	Via netip.Addr
	// Device is the interface's name.
	Device string
	// OnLink says that Via is reachable on the device although no address there says so.
	OnLink bool
}

func (r Route) text() string {
	s := "route " + r.To.String()
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	return s + " dev " + r.Device
}

// EnsureRoute makes the route be the one for its destination on the main table. Errors:
// ErrNotFound for the device.
func (k *Kernel) EnsureRoute(r Route) error {
	l, err := k.need(r.Device)
	if err != nil {
		return err
	}
	if l == nil {
		return k.do(nil, "set %s", r.text())
	}
	want := r.netlink(l)
	found, err := k.routesTo(r.To)
	if err != nil {
		return err
	}
	if len(found) == 1 && sameRoute(found[0], want) {
		return nil
	}
	return k.do(func() error { return k.handle.RouteReplace(&want) }, "set %s", r.text())
}

func (r Route) netlink(l netlink.Link) netlink.Route {
	want := netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(r.To), Table: unix.RT_TABLE_MAIN}
	if r.Via.IsValid() {
		want.Gw = r.Via.AsSlice()
	} else if r.To.Addr().Is4() {
		want.Scope = netlink.SCOPE_LINK
	}
	if r.OnLink {
		want.Flags = int(netlink.FLAG_ONLINK)
	}
	return want
}

func (k *Kernel) routesTo(to netip.Prefix) ([]netlink.Route, error) {
	filter := &netlink.Route{Dst: ipNet(to), Table: unix.RT_TABLE_MAIN}
	list, err := k.handle.RouteListFiltered(family(to.Addr()), filter, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, &Error{k.place + "list routes to " + to.String(), err}
	}
	return list, nil
}

func sameRoute(a, b netlink.Route) bool {
	return a.LinkIndex == b.LinkIndex && a.Gw.Equal(b.Gw) && a.Flags&int(netlink.FLAG_ONLINK) == b.Flags&int(netlink.FLAG_ONLINK)
}

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}
