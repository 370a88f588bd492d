package link

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// protocol marks the routes of this package that are on no interface of ours, which has its own mark: no routing
// daemon known to iproute2 has the number. Packaging takes them away by it.
const protocol netlink.RouteProtocol = 147

// lastChoice is the metric of what is refused: any other route to the same prefix is preferred.
const lastChoice = 1 << 30

// EnsureUnreachable makes the kernel refuse at once what goes to these prefixes and to no route inside them, rather than
// send it out by the default route. It leaves those of others alone.
func (k *Kernel) EnsureUnreachable(prefixes ...netip.Prefix) error {
	have, err := k.unreachable()
	if err != nil {
		return err
	}
	for _, to := range prefixes {
		if _, there := have[to]; there {
			continue
		}
		want := refusal(to)
		if err := k.do(func() error { return k.handle.RouteReplace(&want) }, "add unreachable %s", to); err != nil {
			return err
		}
	}
	for to, r := range have {
		if slices.Contains(prefixes, to) {
			continue
		}
		if err := k.do(func() error { return k.handle.RouteDel(&r) }, "remove unreachable %s", to); err != nil {
			return err
		}
	}
	return nil
}

func refusal(to netip.Prefix) netlink.Route {
	return netlink.Route{Dst: ipNet(to), Type: unix.RTN_UNREACHABLE, Table: unix.RT_TABLE_MAIN, Protocol: protocol, Priority: lastChoice}
}

// unreachable returns those with our mark, as they are to be deleted.
func (k *Kernel) unreachable() (map[netip.Prefix]netlink.Route, error) {
	found := map[netip.Prefix]netlink.Route{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := &netlink.Route{Table: unix.RT_TABLE_MAIN, Protocol: protocol, Type: unix.RTN_UNREACHABLE}
		list, err := k.handle.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TYPE)
		if err != nil {
			return nil, &Error{k.place + "list what is unreachable", err}
		}
		for _, r := range list {
			if to := prefixOf(r.Dst); to.IsValid() {
				found[to] = refusal(to)
			}
		}
	}
	return found, nil
}
