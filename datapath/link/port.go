package link

import (
	"bytes"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Port describes an interface as a port of a bridge.
type Port struct {
	// Name is the interface, Bridge the bridge it belongs to.
	Name, Bridge string
	// MAC is the only address behind the port: a static entry, since ports do not learn.
	MAC net.HardwareAddr
	// Isolated ports cannot talk to each other through the bridge.
	Isolated bool
}

// EnsurePort makes the interface a port of the bridge, with learning, hairpin and unicast
// flooding off. Errors: ErrNotFound; *ConflictError where it is a port of another bridge.
func (k *Kernel) EnsurePort(p Port) error {
	l, err := k.need(p.Name)
	if err != nil || l == nil {
		return err
	}
	br, err := k.need(p.Bridge)
	if err != nil || br == nil {
		return err
	}
	if err := k.ensureMember(l, br); err != nil {
		return err
	}
	if err := k.portFlags(l, p); err != nil {
		return err
	}
	return k.ensureEntry(l, p.MAC)
}

// EnsureMember makes the interface a port of the bridge as the kernel makes one: it learns, and floods. Errors: ErrNotFound;
// *ConflictError where it is a port of another bridge.
func (k *Kernel) EnsureMember(name, bridge string) error {
	l, err := k.need(name)
	if err != nil || l == nil {
		return err
	}
	br, err := k.need(bridge)
	if err != nil || br == nil {
		return err
	}
	return k.ensureMember(l, br)
}

func (k *Kernel) ensureMember(l, br netlink.Link) error {
	switch l.Attrs().MasterIndex {
	case br.Attrs().Index:
		return nil
	case 0:
		return k.do(func() error { return k.handle.LinkSetMaster(l, br) }, "put %s on %s", l.Attrs().Name, br.Attrs().Name)
	}
	return &ConflictError{"interface " + l.Attrs().Name, "another bridge, to which it belongs", "free it with: ip link set " + l.Attrs().Name + " nomaster"}
}

func (k *Kernel) portFlags(l netlink.Link, p Port) error {
	have := netlink.Protinfo{Hairpin: false, Learning: true, Flood: true}
	if l.Attrs().MasterIndex != 0 {
		found, err := k.handle.LinkGetProtinfo(l)
		if err != nil {
			return &Error{"read the port settings of " + p.Name, err}
		}
		have = found
	}
	flags := []struct {
		name       string
		have, want bool
		set        func(netlink.Link, bool) error
	}{
		{"learning", have.Learning, false, k.handle.LinkSetLearning},
		{"hairpin", have.Hairpin, false, k.handle.LinkSetHairpin},
		{"flood", have.Flood, false, k.handle.LinkSetFlood},
		{"isolated", have.Isolated, p.Isolated, k.handle.LinkSetIsolated},
	}
	for _, f := range flags {
		if f.have == f.want {
			continue
		}
		if err := k.do(func() error { return f.set(l, f.want) }, "set %s %s %t", p.Name, f.name, f.want); err != nil {
			return err
		}
	}
	return nil
}

// ensureEntry tells the bridge which address is behind the port. The entry goes with the port.
func (k *Kernel) ensureEntry(l netlink.Link, mac net.HardwareAddr) error {
	list, err := k.handle.NeighList(l.Attrs().Index, unix.AF_BRIDGE)
	if err != nil {
		return &Error{"list the bridge's addresses behind " + l.Attrs().Name, err}
	}
	for _, e := range list {
		if e.State == netlink.NUD_NOARP && bytes.Equal(e.HardwareAddr, mac) {
			return nil
		}
	}
	entry := &netlink.Neigh{
		LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_NOARP,
		Flags: netlink.NTF_MASTER, HardwareAddr: mac,
	}
	return k.do(func() error { return k.handle.NeighSet(entry) }, "put address %s behind %s", mac, l.Attrs().Name)
}
