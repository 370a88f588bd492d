package link

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// WireGuard describes a WireGuard device. One that the kernel makes is of kind "wireguard"; one that a
// process makes, where the kernel has none, is a TUN device that ends with its process.
type WireGuard struct {
	// Name is the interface name, at most 15 bytes.
	Name string
	// MTU is in bytes.
	MTU int
	// Alias is the identity that is written on the interface.
	Alias string
}

// EnsureWireGuard makes the device exist, with its MTU and alias, and up. A TUN device that a process
// made under the name is taken as found. Errors: *ConflictError where the name is held by something else;
// ErrKernelLacks where there is none and the kernel cannot make one.
func (k *Kernel) EnsureWireGuard(w WireGuard) error {
	found, err := k.find(w.Name)
	if err != nil {
		return err
	}
	if found == nil {
		if found, err = k.createWireGuard(w); err != nil || found == nil {
			return err
		}
	}
	if !w.owns(found) {
		return &ConflictError{"interface " + w.Name, describe(found), "remove it with: ip link delete " + w.Name}
	}
	return k.settle(found, w.Alias, w.MTU, nil)
}

// owns tells whether an interface is the device. One without an alias is: neither the kernel nor a
// process can mark it in the moment in which it is made.
func (w WireGuard) owns(l netlink.Link) bool {
	return ours(l, "wireguard", w.Alias, nil) || ours(l, "tuntap", w.Alias, nil)
}

func (k *Kernel) createWireGuard(w WireGuard) (netlink.Link, error) {
	if k.inspecting {
		has, err := KernelHasWireGuard()
		if err != nil || !has {
			return nil, errors.Join(err, lacksWireGuard(w.Name))
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = w.Name, w.MTU
	err := k.do(func() error { return k.handle.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs}) }, "create WireGuard device %s", w.Name)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, lacksWireGuard(w.Name)
	}
	if err != nil {
		return nil, err
	}
	return k.need(w.Name)
}

func lacksWireGuard(name string) error {
	return &Error{"create WireGuard device " + name, fmt.Errorf("%w wireguard", ErrKernelLacks)}
}

// KernelHasWireGuard tells whether the kernel has WireGuard devices, loading its module where it is one.
func KernelHasWireGuard() (bool, error) {
	_, err := netlink.GenlFamilyGet("wireguard")
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &Error{"ask the kernel for WireGuard", err}
	}
	return true, nil
}

// RemoveWireGuard deletes the device. One that is not there is no error. Errors: *ConflictError where the
// interface is not ours. A process that made it ends by that.
func (k *Kernel) RemoveWireGuard(w WireGuard) error {
	l, err := k.find(w.Name)
	if err != nil || l == nil {
		return err
	}
	if !w.owns(l) {
		return &ConflictError{"interface " + w.Name, describe(l), "it is left alone; remove it with: ip link delete " + w.Name}
	}
	return k.do(func() error { return k.handle.LinkDel(l) }, "delete %s", w.Name)
}
