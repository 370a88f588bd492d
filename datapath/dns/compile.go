package dns

import (
	"net/netip"
	"slices"
)

// compiler makes a view. Its zone must have passed merge.
type compiler struct {
	*view
	ids map[string]uint32 // of the namespaces by name
}

func compile(z Zone) *view {
	c := compiler{&view{
		zone:     z,
		nodes:    map[string]*node{},
		zones:    map[string]string{domainKey: Domain + "."},
		self:     map[netip.Addr]bool{},
		locals:   map[netip.Addr]uint32{},
		searches: map[uint32][]string{},
		apex:     fqdn(machineLabel),
	}, map[string]uint32{}}
	c.frame()
	for i := range z.Namespaces {
		c.namespace(&z.Namespaces[i])
	}
	// Last, so that the machine's own word on an address has precedence.
	for _, l := range z.Locals {
		c.locals[l.V4] = l.Namespace
	}
	return c.view
}

// fqdn joins labels under Domain.
func fqdn(labels ...string) string {
	out := ""
	for _, l := range labels {
		out += l + "."
	}
	return out + Domain + "."
}

// at returns the node of a name, new if there is none.
func (c *compiler) at(name string) *node {
	key := keyOf(name)
	n := c.nodes[key]
	if n == nil {
		n = &node{}
		c.nodes[key] = n
	}
	return n
}

func (c *compiler) frame() {
	z := &c.zone
	c.at(fqdn()).authority = true
	c.at(fqdn(machineLabel))
	if z.Machine != "" {
		c.apex = fqdn(z.Machine, machineLabel)
	}
	for _, p := range z.Prefixes {
		for _, name := range reverseZones(p) {
			c.zones[keyOf(name)] = name
			c.at(name).authority = true
		}
	}
	for _, a := range z.Self {
		c.self[a] = true
	}
	for _, m := range z.Machines {
		c.machine(m)
	}
	for _, n := range z.Namespaces {
		c.ids[n.Name] = n.ID
		c.serial = max(c.serial, uint32(n.Sequence))
	}
}

func (c *compiler) machine(m Machine) {
	name := fqdn(m.Name, machineLabel)
	n := c.at(name)
	local := m.Name == c.zone.Machine
	n.v4.add(m.V4, local)
	n.v6.add(m.V6, local)
	for _, a := range []netip.Addr{m.V4, m.V6} {
		if a.IsValid() {
			c.reverse(a, name, 0, audience{})
		}
		if a.IsValid() && local {
			c.self[a] = true
		}
	}
}

// reverse adds a PTR. An address that is a machine's is never in a namespace too, but would
// then be the namespace's business.
func (c *compiler) reverse(a netip.Addr, name string, space uint32, exports audience) {
	n := c.at(reverseName(a, reverseLabels(a)))
	n.space, n.exports = space, exports
	if !slices.Contains(n.ptr, name) {
		n.ptr = append(n.ptr, name)
	}
}

func (c *compiler) namespace(ns *Namespace) {
	c.searches[ns.ID] = []string{keyOf(fqdn(ns.Name)), domainKey}
	top := c.at(fqdn(ns.Name))
	top.space = ns.ID
	for i := range ns.Services {
		s := &ns.Services[i]
		exports := c.audience(ns, s.Name)
		top.exports.add(exports)
		c.service(ns, s, exports)
	}
}

// audience resolves the names that a service is exported to. Names of no namespace here have
// no callers here.
func (c *compiler) audience(ns *Namespace, service string) audience {
	var out audience
	for _, e := range ns.Exports {
		if e.Service != service {
			continue
		}
		for _, to := range e.To {
			if to == "*" {
				out.all = true
			} else if id, ok := c.ids[to]; ok {
				out.add(audience{ids: map[uint32]bool{id: true}})
			}
		}
	}
	return out
}

func (c *compiler) service(ns *Namespace, s *Service, exports audience) {
	put := func(labels ...string) *node {
		n := c.at(fqdn(append(labels, s.Name, ns.Name)...))
		n.space, n.exports = ns.ID, exports
		return n
	}
	c.addInstances(put(), best(s.Instances))
	slots := map[string][]Instance{}
	for _, in := range s.Instances {
		slots[in.Slot] = append(slots[in.Slot], in)
		c.instance(ns, s, in, exports)
	}
	for slot, instances := range slots {
		c.addInstances(put(slot), best(instances))
	}
	for _, in := range best(s.Instances) {
		for _, p := range in.Ports {
			if p.Name == "" {
				continue
			}
			put("_" + p.Proto)
			put("_"+p.Name, "_"+p.Proto).addTarget(
				target{fqdn(in.Slot, s.Name, ns.Name), p.Port, in.V4, in.V6, c.here(in)})
		}
	}
}

// addTarget adds one unless a second instance of the slot has the same port.
func (n *node) addTarget(t target) {
	same := func(o target) bool { return o.host == t.host && o.port == t.port }
	if !slices.ContainsFunc(n.srv, same) {
		n.srv = append(n.srv, t)
	}
}

func (c *compiler) here(in Instance) bool { return in.Machine == c.zone.Machine }

// instance adds what every instance has, whatever its state: a draining one still asks and is
// still asked about.
func (c *compiler) instance(ns *Namespace, s *Service, in Instance, exports audience) {
	name := fqdn(in.Slot, s.Name, ns.Name)
	for _, a := range []netip.Addr{in.V4, in.V6} {
		if a.IsValid() {
			c.reverse(a, name, ns.ID, exports)
		}
	}
	if in.V4.IsValid() && c.here(in) {
		c.locals[in.V4] = ns.ID
	}
}

func (c *compiler) addInstances(n *node, instances []Instance) {
	for _, in := range instances {
		n.v4.add(in.V4, c.here(in))
		n.v6.add(in.V6, c.here(in))
	}
}

func (s *addresses) add(a netip.Addr, local bool) {
	switch {
	case !a.IsValid():
	case local:
		s.list = slices.Insert(s.list, s.local, a)
		s.local++
	default:
		s.list = append(s.list, a)
	}
}

// best returns the instances that a service's name stands for; see the package comment.
func best(all []Instance) []Instance {
	var serving, draining []Instance
	for _, in := range all {
		switch {
		case in.Ready && !in.Draining:
			serving = append(serving, in)
		case in.Ready:
			draining = append(draining, in)
		}
	}
	switch {
	case len(serving) > 0:
		return serving
	case len(draining) > 0:
		return draining
	}
	return all
}
