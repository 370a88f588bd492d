package dns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// maxInstances of one service: the AAAA records of this many fit a TCP answer with room to spare.
const maxInstances = 1000

// fault is a PartError before its part is known.
type fault struct {
	field, value string
	err          error
}

func bad(err error, value any, format string, args ...any) *fault {
	return &fault{fmt.Sprintf(format, args...), fmt.Sprint(value), err}
}

// isLabel accepts lower-case host labels (RFC 1123).
func isLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// namespaceID returns the namespace that a v6 workload address carries.
func namespaceID(a netip.Addr) uint32 {
	b := a.As16()
	return binary.BigEndian.Uint32(b[8:12])
}

// checkFrame validates what belongs to no namespace.
func (z *Zone) checkFrame() *fault {
	if !isLabel(z.Machine) {
		return bad(ErrName, z.Machine, "machine")
	}
	if p := z.Subnet6; p.IsValid() && (!p.Addr().Is6() || p.Bits() != 64) {
		return bad(ErrAddress, p, "subnet6")
	}
	for i, p := range z.Prefixes {
		if !p.IsValid() || p.Bits() == 0 || p.Addr().Is4In6() {
			return bad(ErrAddress, p, "prefixes[%d]", i)
		}
	}
	for i, l := range z.Locals {
		if !l.V4.Is4() {
			return bad(ErrAddress, l.V4, "locals[%d].v4", i)
		}
		if l.Namespace == 0 {
			return bad(ErrID, l.Namespace, "locals[%d].namespace", i)
		}
	}
	return z.checkMachines()
}

func (z *Zone) checkMachines() *fault {
	seen := map[string]bool{}
	for i, m := range z.Machines {
		switch {
		case !isLabel(m.Name):
			return bad(ErrName, m.Name, "machines[%d].name", i)
		case seen[m.Name]:
			return bad(ErrDuplicate, m.Name, "machines[%d].name", i)
		case m.V4.IsValid() && !m.V4.Is4():
			return bad(ErrAddress, m.V4, "machines[%d].v4", i)
		case m.V6.IsValid() && (!m.V6.Is6() || m.V6.Is4In6()):
			return bad(ErrAddress, m.V6, "machines[%d].v6", i)
		}
		seen[m.Name] = true
	}
	return nil
}

// Check validates the namespace by itself, as Server.Apply does before it looks at the others.
// Errors: *PartError.
func (n Namespace) Check(prefixes []netip.Prefix) error {
	if f := n.check(prefixes); f != nil {
		return &PartError{n.Name, n.Sequence, f.field, f.value, f.err}
	}
	return nil
}

// CheckFrame validates what belongs to no namespace, which is accepted or rejected as one part.
// Errors: *PartError.
func (z Zone) CheckFrame() error {
	if f := z.checkFrame(); f != nil {
		return &PartError{"", 0, f.field, f.value, f.err}
	}
	return nil
}

// checker walks one namespace. seen holds ids and addresses, which have disjoint spellings by
// their prefix.
type checker struct {
	prefixes []netip.Prefix
	ns       *Namespace
	seen     map[string]bool
}

// check validates the namespace by itself, without a look at others.
func (n *Namespace) check(prefixes []netip.Prefix) *fault {
	c := checker{prefixes, n, map[string]bool{}}
	switch {
	case n.ID == 0:
		return bad(ErrID, n.ID, "id")
	case !isLabel(n.Name):
		return bad(ErrName, n.Name, "name")
	case n.Name == machineLabel:
		return bad(ErrReserved, n.Name, "name")
	}
	for i := range n.Services {
		if f := c.service(&n.Services[i]); f != nil {
			f.field = "services[" + strconv.Itoa(i) + "]." + f.field
			return f
		}
	}
	return c.exports()
}

func (c *checker) service(s *Service) *fault {
	switch {
	case !isLabel(s.Name):
		return bad(ErrName, s.Name, "name")
	case !c.first("service " + s.Name):
		return bad(ErrDuplicate, s.Name, "name")
	case len(s.Instances) > maxInstances:
		return bad(ErrTooLarge, len(s.Instances), "instances")
	}
	for i := range s.Instances {
		if f := c.instance(&s.Instances[i]); f != nil {
			f.field = "instances[" + strconv.Itoa(i) + "]." + f.field
			return f
		}
	}
	return nil
}

func (c *checker) instance(in *Instance) *fault {
	switch {
	case in.ID == "":
		return bad(ErrID, in.ID, "id")
	case !c.first("id " + in.ID):
		return bad(ErrDuplicate, in.ID, "id")
	case !isLabel(in.Slot):
		return bad(ErrName, in.Slot, "slot")
	case !isLabel(in.Machine):
		return bad(ErrName, in.Machine, "machine")
	case !in.V4.IsValid() && !in.V6.IsValid():
		return bad(ErrAddress, "none", "v4")
	}
	if f := c.address(in.V4, in.V4.Is4(), "v4"); f != nil {
		return f
	}
	own := in.V6.Is6() && namespaceID(in.V6) == c.ns.ID
	if f := c.address(in.V6, own, "v6"); f != nil {
		return f
	}
	return checkPorts(in.Ports)
}

// address checks one that may be absent; fits says that it is of the right kind.
func (c *checker) address(a netip.Addr, fits bool, field string) *fault {
	if !a.IsValid() {
		return nil
	}
	inside := func(p netip.Prefix) bool { return p.Contains(a) }
	if !fits || a.Zone() != "" || !slices.ContainsFunc(c.prefixes, inside) {
		return bad(ErrAddress, a, "%s", field)
	}
	if !c.first("address " + a.String()) {
		return bad(ErrDuplicate, a, "%s", field)
	}
	return nil
}

func checkPorts(ports []Port) *fault {
	for i, p := range ports {
		same := func(q Port) bool { return q.Name == p.Name && q.Proto == p.Proto }
		switch {
		case p.Port == 0:
			return bad(ErrPort, p.Port, "ports[%d].port", i)
		case p.Proto != "tcp" && p.Proto != "udp":
			return bad(ErrPort, p.Proto, "ports[%d].proto", i)
		case p.Name != "" && (!isLabel(p.Name) || len(p.Name) > 62): // "_" goes in front
			return bad(ErrPort, p.Name, "ports[%d].name", i)
		case p.Name != "" && slices.IndexFunc(ports, same) != i:
			return bad(ErrDuplicate, p.Name, "ports[%d].name", i)
		}
	}
	return nil
}

func (c *checker) exports() *fault {
	for i, e := range c.ns.Exports {
		if !c.seen["service "+e.Service] {
			return bad(ErrExport, e.Service, "exports[%d].service", i)
		}
		if len(e.To) == 0 {
			return bad(ErrExport, "nobody", "exports[%d].to", i)
		}
		for j, to := range e.To {
			if to != "*" && !isLabel(to) {
				return bad(ErrName, to, "exports[%d].to[%d]", i, j)
			}
		}
	}
	return nil
}

func (c *checker) first(key string) bool {
	again := c.seen[key]
	c.seen[key] = true
	return !again
}
