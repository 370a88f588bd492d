package bridge

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ployz/ployz/datapath/link"
)

// Picture returns the machine's network as found, as text to compare: the bridge, its
// neighbours, and each workload's link with what is inside. Nothing in it changes from one
// boot to the next (no interface numbers).
func Picture(c Config, workloads ...Workload) (string, error) {
	k, err := link.Inspect()
	if err != nil {
		return "", err
	}
	defer k.Close()
	var b strings.Builder
	if err := drawBridge(&b, k, c); err != nil {
		return "", err
	}
	for _, w := range workloads {
		if err := drawWorkload(&b, k, w); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

func drawBridge(b *strings.Builder, k *link.Kernel, c Config) error {
	if err := drawDevice(b, k, c.name(), ""); err != nil {
		return err
	}
	neighbours, err := k.Neighbours(c.name())
	for _, n := range neighbours {
		fmt.Fprintf(b, "  neighbour %s at %s\n", n.Addr, n.MAC)
	}
	return err
}

func drawWorkload(b *strings.Builder, k *link.Kernel, w Workload) error {
	if err := drawDevice(b, k, w.HostLink(), ""); err != nil {
		return err
	}
	flags, err := k.PortFlags(w.HostLink())
	if err != nil {
		return err
	}
	if flags != "" {
		fmt.Fprintf(b, "  port %s\n", flags)
	}
	return k.Inside(w.NetnsPath, func(in *link.Kernel) error {
		for _, name := range []string{"lo", insideName} {
			if err := drawDevice(b, in, name, "  inside "); err != nil {
				return err
			}
		}
		return nil
	})
}

func drawDevice(b *strings.Builder, k *link.Kernel, name, indent string) error {
	d, err := k.Device(name)
	if errors.Is(err, link.ErrNotFound) {
		fmt.Fprintf(b, "%s%s: none\n", indent, name)
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "%s%s: %s mtu %d mac %s up %t alias %q\n", indent, name, d.Kind, d.MTU, d.MAC, d.Up, d.Alias)
	for _, a := range d.Addresses {
		fmt.Fprintf(b, "%s  address %s\n", indent, a)
	}
	routes, err := k.Routes(name)
	for _, r := range routes {
		fmt.Fprintf(b, "%s  %s\n", indent, r)
	}
	return err
}
