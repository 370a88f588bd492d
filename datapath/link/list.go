package link

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Device is an interface as found.
type Device struct {
	Name, Kind, Alias string
	// Index and Master are the kernel's numbers; Master is 0 for none.
	Index, Master int
	// MTU is in bytes.
	MTU int
	MAC net.HardwareAddr
	Up  bool
	// Addresses without link-local ones, sorted.
	Addresses []netip.Prefix
}

// Devices returns the interfaces whose alias has the prefix, sorted by name.
func (k *Kernel) Devices(aliasPrefix string) ([]Device, error) {
	list, err := k.handle.LinkList()
	if err != nil {
		return nil, &Error{k.place + "list interfaces", err}
	}
	var out []Device
	for _, l := range list {
		if !strings.HasPrefix(l.Attrs().Alias, aliasPrefix) {
			continue
		}
		d, err := k.device(l)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Device returns one interface. Errors: ErrNotFound.
func (k *Kernel) Device(name string) (Device, error) {
	l, err := k.find(name)
	if err != nil {
		return Device{}, err
	}
	if l == nil {
		return Device{}, &Error{k.place + "interface " + name, ErrNotFound}
	}
	return k.device(l)
}

func (k *Kernel) device(l netlink.Link) (Device, error) {
	a := l.Attrs()
	addresses, err := k.addresses(l)
	slices.SortFunc(addresses, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return Device{
		Name: a.Name, Kind: l.Type(), Alias: a.Alias, Index: a.Index, Master: a.MasterIndex,
		MTU: a.MTU, MAC: a.HardwareAddr, Up: a.Flags&net.FlagUp != 0, Addresses: addresses,
	}, err
}

// Routes returns the main table's routes of a device as text, sorted, without link-local ones.
func (k *Kernel) Routes(device string) ([]string, error) {
	l, err := k.need(device)
	if err != nil || l == nil {
		return nil, err
	}
	list, err := k.handle.RouteList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nil, &Error{k.place + "list routes of " + device, err}
	}
	var out []string
	for _, r := range list {
		to := prefixOf(r.Dst)
		if r.Table != unix.RT_TABLE_MAIN || to.Addr().IsLinkLocalUnicast() || to.Addr().IsMulticast() {
			continue
		}
		out = append(out, routeText(to, r))
	}
	slices.Sort(out)
	return out, nil
}

func routeText(to netip.Prefix, r netlink.Route) string {
	s := "route " + to.String()
	if r.Gw != nil {
		s += " via " + r.Gw.String()
	}
	if r.Flags&int(netlink.FLAG_ONLINK) != 0 {
		s += " onlink"
	}
	return s
}

// PortFlags returns the settings of a bridge port as text, "" for what is not a port.
func (k *Kernel) PortFlags(name string) (string, error) {
	l, err := k.need(name)
	if err != nil || l == nil || l.Attrs().MasterIndex == 0 {
		return "", err
	}
	p, err := k.handle.LinkGetProtinfo(l)
	if err != nil {
		return "", &Error{"read the port settings of " + name, err}
	}
	return fmt.Sprintf("learning %t hairpin %t flood %t isolated %t", p.Learning, p.Hairpin, p.Flood, p.Isolated), nil
}
