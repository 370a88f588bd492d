package main

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/ployz/ployz/datapath/dns"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
)

// convert turns a namespace's routing view into what the resolver answers from. Every instance in
// a committed view is ready, and those that a commit retired are not in it.
func convert(v routing.View, at store.Revision) dns.Namespace {
	n := dns.Namespace{ID: v.NamespaceID, Name: v.Namespace, Sequence: uint64(at)}
	for _, name := range slices.Sorted(maps.Keys(v.Services)) {
		service := v.Services[name]
		ports := convertPorts(service.Ports)
		s := dns.Service{Name: name}
		for _, i := range service.Instances {
			s.Instances = append(s.Instances, dns.Instance{
				ID: i.ID, Slot: i.Slot, Machine: i.Machine, V4: i.V4, V6: i.V6, Ports: ports, Ready: true,
			})
		}
		n.Services = append(n.Services, s)
		if len(service.Exports) > 0 {
			n.Exports = append(n.Exports, dns.Export{Service: name, To: service.Exports})
		}
	}
	return n
}

// convertPorts keeps each name for its first port and gives the others their number's: a service
// may well route two ports that are both called "http".
func convertPorts(ports []routing.Port) []dns.Port {
	var out []dns.Port
	for _, p := range ports {
		port := dns.Port{Name: p.Name, Proto: p.Protocol, Port: p.Number}
		if port.Proto == "" {
			port.Proto = "tcp"
		}
		taken := func(o dns.Port) bool { return o.Name == port.Name && o.Proto == port.Proto }
		if slices.ContainsFunc(out, taken) {
			port.Name = strconv.Itoa(int(p.Number))
		}
		if !slices.ContainsFunc(out, taken) {
			out = append(out, port)
		}
	}
	return out
}

// frame is what a zone has beside its namespaces, as far as the machine's identity says it.
func frame(self machine.Identity) dns.Zone {
	z := dns.Zone{Machine: self.Name, Subnet6: self.Subnet6, Self: []netip.Addr{self.Gateway4(), self.Overlay}}
	for _, p := range []netip.Prefix{self.CIDR, self.Prefix} {
		if p.IsValid() {
			z.Prefixes = append(z.Prefixes, p.Masked())
		}
	}
	return z
}

// machineOf is a member as the resolver names it: its addresses on bridge and overlay.
func machineOf(name string, subnet4 netip.Prefix, overlay netip.Addr) dns.Machine {
	m := dns.Machine{Name: name, V6: overlay}
	if subnet4.IsValid() {
		m.V4 = subnet4.Masked().Addr().Next()
	}
	return m
}

// namespaceIn is the namespace id that a workload's IPv6 address carries.
func namespaceIn(v6 netip.Addr) uint32 {
	b := v6.As16()
	return binary.BigEndian.Uint32(b[8:12])
}
