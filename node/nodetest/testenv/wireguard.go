package testenv

import "github.com/ployz/ployz/datapath/link"

// WireGuard is for tests of the kernel's WireGuard device.
var WireGuard = Feature{"wireguard", missingWireGuard}

func missingWireGuard() string {
	has, err := link.KernelHasWireGuard()
	switch {
	case err != nil:
		return err.Error()
	case !has:
		return "the kernel has no WireGuard device"
	}
	return ""
}
