package firewall

import (
	"fmt"
	"net/netip"

	"github.com/ployz/ployz/datapath/state"
)

// Config is everything that the table depends on.
type Config struct {
	// Bridge is the name of the workloads' bridge.
	Bridge string
	// V4 and V6 are the workloads' subnets on this machine.
	V4, V6 netip.Prefix
	// Overlay names the interfaces to other machines: not masquerading, and open to workloads.
	Overlay []string
	// Cluster are the prefixes of all machines' subnets, each machine's of one size, with the machine at its first
	// address. What is between two of them and takes the overlay is not tracked, and other machines' workloads reach
	// on this machine what its own do. With none, all of it is tracked, and open.
	Cluster []netip.Prefix
	// Published is what operators opened.
	Published
}

// Published is the part of the configuration that is kept in ports.json.
type Published struct {
	// GatewayPorts are reachable on the machine from workloads, TCP and UDP, besides 80 and 443.
	GatewayPorts []uint16 `json:"gateway_ports,omitempty"`
	// Ports are published ports of workloads.
	Ports []Port `json:"ports,omitempty"`
}

// Port is one port of the machine that leads to a workload.
type Port struct {
	// Protocol is "tcp" or "udp".
	Protocol string `json:"protocol"`
	// Listen is the machine's address; unset means all of them.
	Listen netip.Addr `json:"listen,omitzero"`
	// Port on the machine.
	Port uint16 `json:"port"`
	// Workload is the ID, for people who read the table.
	Workload string `json:"workload"`
	// V4 and V6 are the workload's addresses; one unset is not published to.
	V4 netip.Addr `json:"v4,omitzero"`
	V6 netip.Addr `json:"v6,omitzero"`
	// Target is the port in the workload.
	Target uint16 `json:"target"`
}

// InvalidError says which part of a Config cannot be.
type InvalidError struct {
	// Field is the part, Value what it holds, Why the rule it breaks.
	Field, Value, Why string
}

// Error returns the part, the value seen and the rule.
func (e *InvalidError) Error() string { return fmt.Sprintf("%s %q: %s", e.Field, e.Value, e.Why) }

// PublishedTwiceError says that two workloads want one port of the machine.
type PublishedTwiceError struct {
	// First has the port, Second wants it too.
	First, Second Port
}

// Error names the port and both workloads.
func (e *PublishedTwiceError) Error() string {
	return fmt.Sprintf("port %s of workload %s is published already, by workload %s as %s",
		e.Second, e.Second.Workload, e.First.Workload, e.First)
}

// String returns the port as an operator would write it: "tcp 8080", "udp [fd00::1]:53".
func (p Port) String() string {
	if !p.Listen.IsValid() {
		return fmt.Sprintf("%s %d", p.Protocol, p.Port)
	}
	return p.Protocol + " " + netip.AddrPortFrom(p.Listen, p.Port).String()
}

// Validate returns an *InvalidError or a *PublishedTwiceError for the first thing that cannot be.
func (c Config) Validate() error {
	switch {
	case c.Bridge == "" || len(c.Bridge) > 15:
		return &InvalidError{"bridge", c.Bridge, "must be an interface name of at most 15 bytes"}
	case !c.V4.IsValid() || !c.V4.Addr().Is4():
		return &InvalidError{"v4", c.V4.String(), "must be the workloads' IPv4 subnet"}
	case !c.V6.IsValid() || !c.V6.Addr().Is6():
		return &InvalidError{"v6", c.V6.String(), "must be the workloads' IPv6 subnet"}
	}
	for _, name := range c.Overlay {
		if name == "" || len(name) > 15 {
			return &InvalidError{"overlay", name, "must be an interface name of at most 15 bytes"}
		}
	}
	for _, p := range c.Cluster {
		if !p.IsValid() || p.Bits() == 0 {
			return &InvalidError{"cluster", p.String(), "must be a prefix of the machines' subnets"}
		}
	}
	for i, p := range c.Ports {
		if err := p.validate(c); err != nil {
			return err
		}
		for _, earlier := range c.Ports[:i] {
			if earlier.clashes(p) {
				return &PublishedTwiceError{earlier, p}
			}
		}
	}
	return nil
}

// exempt are the overlay's interfaces whose traffic is not tracked.
func (c Config) exempt() []string {
	if len(c.Cluster) == 0 {
		return nil
	}
	return c.Overlay
}

// gateway is a machine's own address in its subnet.
func gateway(subnet netip.Prefix) netip.Prefix {
	first := subnet.Masked().Addr().Next()
	return netip.PrefixFrom(first, first.BitLen())
}

func (p Port) validate(c Config) error {
	switch {
	case p.Protocol != "tcp" && p.Protocol != "udp":
		return &InvalidError{"protocol", p.Protocol, "must be tcp or udp"}
	case p.Port == 0 || p.Target == 0:
		return &InvalidError{"port", fmt.Sprintf("%d:%d", p.Port, p.Target), "must be between 1 and 65535 on both sides"}
	case !p.V4.IsValid() && !p.V6.IsValid():
		return &InvalidError{"workload", p.Workload, "has no address to publish port " + p.String() + " to"}
	case p.V4.IsValid() && !c.V4.Contains(p.V4):
		return &InvalidError{"v4", p.V4.String(), "must be in the workloads' subnet " + c.V4.String()}
	case p.V6.IsValid() && !c.V6.Contains(p.V6):
		return &InvalidError{"v6", p.V6.String(), "must be in the workloads' subnet " + c.V6.String()}
	case p.Listen == netip.IPv6Loopback():
		return &InvalidError{"listen", p.Listen.String(), "cannot be published on, the kernel does not translate it; use 127.0.0.1"}
	case p.Listen.IsValid() && !p.target(p.Listen.Unmap().Is4()).IsValid():
		return &InvalidError{"listen", p.Listen.String(), "is of a family in which workload " + p.Workload + " has no address"}
	}
	return nil
}

func (p Port) clashes(q Port) bool {
	if p.Protocol != q.Protocol || p.Port != q.Port {
		return false
	}
	return !p.everywhere() && !q.everywhere() && p.Listen == q.Listen ||
		p.everywhere() && q.covers(p) || q.everywhere() && p.covers(q)
}

// everywhere tells whether the port is published on all addresses (of a family).
func (p Port) everywhere() bool { return !p.Listen.IsValid() || p.Listen.IsUnspecified() }

// covers tells whether p listens in a family in which q listens too.
func (p Port) covers(q Port) bool {
	return p.in(true) && q.in(true) || p.in(false) && q.in(false)
}

// in tells whether the port is published in IPv4 (or IPv6).
func (p Port) in(v4 bool) bool {
	if p.Listen.IsValid() && p.Listen.Is4() != v4 {
		return false
	}
	return p.target(v4).IsValid()
}

func (p Port) target(v4 bool) netip.Addr {
	if v4 {
		return p.V4
	}
	return p.V6
}

// LoadPublished reads ports.json. Errors: fs.ErrNotExist; content is checked by Ensure.
func LoadPublished(path string) (Published, error) {
	var p Published
	return p, state.Load(path, &p)
}

// Save writes ports.json, so that it is all there after a power cut.
func (p Published) Save(path string) error { return state.Save(path, p) }
