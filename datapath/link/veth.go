package link

import (
	"bytes"
	"net"
	"os"

	"github.com/vishvananda/netlink"
)

// Veth describes a pair: one end here, its peer in a pinned network namespace.
type Veth struct {
	// Name is the name of the end here; Alias its identity, "<owner>:<hash>".
	Name, Alias string
	// MAC is the address of the end here, PeerMAC that of the peer.
	MAC, PeerMAC net.HardwareAddr
	// Netns is the path of the pinned namespace, PeerName the interface's name in it.
	Netns, PeerName string
	// MTU of both ends, in bytes.
	MTU int
}

// EnsureVeth makes the pair exist, joined, with both MTUs, and this end up (the peer is the
// business of the code that runs in its namespace). A pair whose peer went elsewhere is made
// anew. Errors: *ConflictError for a foreign interface under either name.
func (k *Kernel) EnsureVeth(v Veth) error {
	here, err := k.find(v.Name)
	if err != nil {
		return err
	}
	if here != nil && !ours(here, "veth", v.Alias, v.MAC) {
		return &ConflictError{"interface " + v.Name, describe(here), "remove it with: ip link delete " + v.Name}
	}
	joined, err := k.joined(v, here)
	if err != nil {
		return err
	}
	if here != nil && !joined {
		if err := k.do(func() error { return k.handle.LinkDel(here) }, "delete %s, whose peer is not %s in %s", v.Name, v.PeerName, v.Netns); err != nil {
			return err
		}
	}
	if !joined {
		if here, err = k.createVeth(v); err != nil || here == nil {
			return err
		}
	}
	return k.settle(here, v.Alias, v.MTU, v.MAC)
}

// joined tells whether the end here and the wanted peer point at each other. A different
// interface under the peer's name in the namespace is a conflict.
func (k *Kernel) joined(v Veth, here netlink.Link) (bool, error) {
	peer, err := peerIn(v)
	if err != nil || peer == nil {
		return false, err
	}
	if here != nil && here.Attrs().ParentIndex == peer.Attrs().Index && peer.Attrs().ParentIndex == here.Attrs().Index {
		return bytes.Equal(peer.Attrs().HardwareAddr, v.PeerMAC), nil
	}
	return false, &ConflictError{"interface " + v.PeerName + " in " + v.Netns, describe(peer), "remove it with: nsenter --net=" + v.Netns + " ip link delete " + v.PeerName}
}

func peerIn(v Veth) (peer netlink.Link, err error) {
	if pinned, err := NetnsPinned(v.Netns); err != nil || !pinned {
		return nil, err
	}
	err = InNetns(v.Netns, func() error {
		in, err := Open()
		if err != nil {
			return err
		}
		defer in.Close()
		peer, err = in.find(v.PeerName)
		return err
	})
	return peer, err
}

func (k *Kernel) createVeth(v Veth) (netlink.Link, error) {
	err := k.do(func() error {
		ns, err := os.Open(v.Netns)
		if err != nil {
			return err
		}
		defer ns.Close()
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.HardwareAddr = v.Name, v.MTU, v.MAC
		pair := netlink.NewVeth(attrs)
		pair.PeerName, pair.PeerHardwareAddr, pair.PeerMTU = v.PeerName, v.PeerMAC, uint32(v.MTU)
		pair.PeerNamespace = netlink.NsFd(int(ns.Fd()))
		return k.handle.LinkAdd(pair)
	}, "create veth %s with peer %s in %s", v.Name, v.PeerName, v.Netns)
	if err != nil {
		return nil, err
	}
	return k.need(v.Name)
}

// EnsureDevice gives an interface that exists its MTU and brings it up: for the peer of a
// veth, inside. Errors: ErrNotFound.
func (k *Kernel) EnsureDevice(name string, mtu int) error {
	l, err := k.need(name)
	if err != nil || l == nil {
		return err
	}
	return k.settle(l, "", mtu, nil)
}
