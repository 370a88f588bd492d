package link

import (
	"bytes"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
)

// Bridge describes a bridge device.
type Bridge struct {
	// Name is the interface name, at most 15 bytes.
	Name string
	// MTU is in bytes.
	MTU int
	// MAC is set at creation. A bridge without it takes the lowest one of its ports, and so
	// changes its address under the workloads that have it cached.
	MAC net.HardwareAddr
	// Alias is the identity that is written on the interface.
	Alias string
}

// EnsureBridge makes the bridge exist, with its MTU, MAC and alias, and up. Errors:
// *ConflictError where the name is held by an interface that is not ours.
func (k *Kernel) EnsureBridge(b Bridge) error {
	found, err := k.find(b.Name)
	if err != nil {
		return err
	}
	if found == nil {
		if found, err = k.createBridge(b); err != nil || found == nil {
			return err
		}
	}
	if !ours(found, "bridge", b.Alias, b.MAC) {
		return &ConflictError{"interface " + b.Name, describe(found), "remove it with: ip link delete " + b.Name}
	}
	return k.settle(found, b.Alias, b.MTU, b.MAC)
}

// createBridge turns multicast snooping off: there is no querier on a machine's own bridge,
// and without one snooping forgets who listens. The MTU is made one less, since only an MTU
// that changed counts as chosen; else the bridge follows its ports, and 1500 without any.
func (k *Kernel) createBridge(b Bridge) (netlink.Link, error) {
	off := false
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = b.Name, b.MTU-1, b.MAC
	err := k.do(func() error {
		return k.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off})
	}, "create bridge %s", b.Name)
	if err != nil {
		return nil, err
	}
	return k.need(b.Name)
}

// ours tells whether an interface is the one we made: by its alias, or, where the alias was
// not written yet because we died in between, by the MAC that is set in the same message
// that creates it.
func ours(l netlink.Link, kind, alias string, mac net.HardwareAddr) bool {
	if l.Type() != kind {
		return false
	}
	a := l.Attrs()
	if a.Alias == "" {
		return bytes.Equal(a.HardwareAddr, mac)
	}
	return a.Alias == alias || owner(alias) != "" && strings.HasPrefix(a.Alias, owner(alias))
}

// owner returns what names the owner in an alias, "ployz:web-1:" of "ployz:web-1:ab12". One
// with no hash has no owner part and must match whole.
func owner(alias string) string {
	if strings.Count(alias, ":") < 2 {
		return ""
	}
	return alias[:strings.LastIndexByte(alias, ':')+1]
}

// CheckOwn returns a *ConflictError where the name is held by an interface that is not the
// one of this kind, alias and MAC. A name that is free is no error.
func (k *Kernel) CheckOwn(name, kind, alias string, mac net.HardwareAddr) error {
	l, err := k.find(name)
	if err != nil || l == nil || ours(l, kind, alias, mac) {
		return err
	}
	return &ConflictError{"interface " + name, describe(l), "remove it with: ip link delete " + name}
}

// settle writes alias, MAC, MTU and up where they differ.
func (k *Kernel) settle(l netlink.Link, alias string, mtu int, mac net.HardwareAddr) error {
	a := l.Attrs()
	if alias != "" && a.Alias != alias {
		if err := k.do(func() error { return k.handle.LinkSetAlias(l, alias) }, "mark %s as %s", a.Name, alias); err != nil {
			return err
		}
	}
	if mac != nil && !bytes.Equal(a.HardwareAddr, mac) {
		if err := k.do(func() error { return k.handle.LinkSetHardwareAddr(l, mac) }, "set %s address %s", a.Name, mac); err != nil {
			return err
		}
	}
	if mtu != 0 && a.MTU != mtu {
		if err := k.do(func() error { return k.handle.LinkSetMTU(l, mtu) }, "set %s mtu %d", a.Name, mtu); err != nil {
			return err
		}
	}
	return k.up(l)
}

func (k *Kernel) up(l netlink.Link) error {
	if l.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	return k.do(func() error { return k.handle.LinkSetUp(l) }, "set %s up", l.Attrs().Name)
}

// EnsureUp brings an interface up. Errors: ErrNotFound.
func (k *Kernel) EnsureUp(name string) error {
	l, err := k.need(name)
	if err != nil || l == nil {
		return err
	}
	return k.up(l)
}

// EnsureGone deletes an interface whose alias has the prefix. Errors: *ConflictError where the
// interface is there but is not marked so. One that is not there is no error.
func (k *Kernel) EnsureGone(name, aliasPrefix string, mac net.HardwareAddr) error {
	l, err := k.find(name)
	if err != nil || l == nil {
		return err
	}
	if !ours(l, l.Type(), aliasPrefix, mac) {
		return &ConflictError{"interface " + name, describe(l), "it is left alone; remove it with: ip link delete " + name}
	}
	return k.do(func() error { return k.handle.LinkDel(l) }, "delete %s", name)
}
