package dns

import (
	"net/netip"
	"slices"
)

// Domain is the zone of authority, without the final dot.
const Domain = "ployz.internal"

// machineLabel is the label under Domain that machines live under; no namespace may have it.
const machineLabel = "machine"

// Zone is all that a resolver knows of the cluster. It is a value: Server.Apply copies what it
// needs, and the JSON form is the last good view on disk.
type Zone struct {
	// Generation names the history that sequences belong to. A lower sequence is a
	// regression only within one generation.
	Generation string `json:"generation,omitempty"`
	// Machine is the name of the machine that the resolver runs on.
	Machine string `json:"machine"`
	// Self are the machine's own addresses next to loopback: those of the bridge.
	Self []netip.Addr `json:"self,omitempty"`
	// Subnet6 is the machine's /64. A source in it is a workload of the namespace whose id is
	// in bits 64 to 95, unless those are zero.
	Subnet6 netip.Prefix `json:"subnet6,omitzero"`
	// Prefixes are the cluster's address ranges. Reverse lookups in them are answered here
	// and never forwarded; instances must have addresses in them.
	Prefixes []netip.Prefix `json:"prefixes,omitempty"`
	Machines []Machine      `json:"machines,omitempty"`
	// Locals are the v4 addresses of this machine's workloads, also of those that no
	// namespace names yet because their deploy has not committed.
	Locals     []Local     `json:"locals,omitempty"`
	Namespaces []Namespace `json:"namespaces,omitempty"`
}

// Machine is a member of the cluster with its overlay addresses, either of which may be zero.
type Machine struct {
	Name string     `json:"name"`
	V4   netip.Addr `json:"v4,omitzero"`
	V6   netip.Addr `json:"v6,omitzero"`
}

// Local says which namespace a workload's v4 address on this machine belongs to.
type Local struct {
	V4        netip.Addr `json:"v4"`
	Namespace uint32     `json:"namespace"` // id, not zero
}

// Namespace is one namespace's whole view. It is accepted or rejected as a whole.
type Namespace struct {
	ID       uint32    `json:"id"` // not zero: that is in no workload's address
	Name     string    `json:"name"`
	Sequence uint64    `json:"sequence"` // of the routing event it comes from
	Services []Service `json:"services,omitempty"`
	Exports  []Export  `json:"exports,omitempty"`
}

// Service is a name with its instances, of which there may be none.
type Service struct {
	Name      string     `json:"name"`
	Instances []Instance `json:"instances,omitempty"`
}

// Instance is one running copy of a service.
type Instance struct {
	ID string `json:"id"` // unique in the namespace
	// Slot is the instance's label under its service, "web-0". Two instances share a slot
	// while one replaces the other.
	Slot     string     `json:"slot"`
	Machine  string     `json:"machine"`
	V4       netip.Addr `json:"v4,omitzero"`
	V6       netip.Addr `json:"v6,omitzero"` // low 64 bits: namespace id, workload id
	Ports    []Port     `json:"ports,omitempty"`
	Ready    bool       `json:"ready"`
	Draining bool       `json:"draining,omitempty"`
}

// Port is a port with a name, findable by SRV.
type Port struct {
	Name  string `json:"name"`
	Proto string `json:"proto"` // "tcp" or "udp"
	Port  uint16 `json:"port"`
}

// Export makes a service visible to other namespaces.
type Export struct {
	Service string   `json:"service"`
	To      []string `json:"to"` // names of namespaces, or "*" for all
}

// clone returns a deep copy, so that a caller may go on editing what it applied.
func (z Zone) clone() Zone {
	z.Self = slices.Clone(z.Self)
	z.Prefixes = slices.Clone(z.Prefixes)
	z.Machines = slices.Clone(z.Machines)
	z.Locals = slices.Clone(z.Locals)
	z.Namespaces = slices.Clone(z.Namespaces)
	for i := range z.Namespaces {
		z.Namespaces[i] = z.Namespaces[i].clone()
	}
	return z
}

func (n Namespace) clone() Namespace {
	n.Services = slices.Clone(n.Services)
	for i := range n.Services {
		s := &n.Services[i]
		s.Instances = slices.Clone(s.Instances)
		for j := range s.Instances {
			s.Instances[j].Ports = slices.Clone(s.Instances[j].Ports)
		}
	}
	n.Exports = slices.Clone(n.Exports)
	for i := range n.Exports {
		n.Exports[i].To = slices.Clone(n.Exports[i].To)
	}
	return n
}
