package main

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/ployz/ployz/datapath/gateway"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
)

// convert turns a namespace's routing view into what the gateway serves. Instances that a commit
// retired are not in the view; what they have in flight is known to the gateway's own counters.
func convert(v routing.View, at store.Revision) gateway.Namespace {
	n := gateway.Namespace{Name: v.Namespace, Sequence: uint64(at)}
	for _, name := range slices.Sorted(maps.Keys(v.Services)) {
		service := v.Services[name]
		for _, r := range service.Routes {
			if r.TCP != 0 {
				n.TCP = append(n.TCP, tcpRoute(name, r, service))
			} else {
				n.HTTP = append(n.HTTP, httpRoute(name, r, service))
			}
		}
	}
	return n
}

func httpRoute(name string, r api.Route, service routing.Service) gateway.HTTPRoute {
	return gateway.HTTPRoute{
		Host: strings.ToLower(r.Host), Path: r.Path, Service: name, Protocol: gateway.Protocol(r.Protocol),
		RedirectHTTPS: r.RedirectHTTPS, StripPrefix: r.StripPrefix, Hold: service.Hold, HoldFor: service.HoldFor.D(0),
		Upstreams: upstreams(service.Instances, r.Port),
	}
}

func tcpRoute(name string, r api.Route, service routing.Service) gateway.TCPRoute {
	return gateway.TCPRoute{
		Port: r.TCP, Service: name, ProxyProtocol: proxyProtocol(r.ProxyProtocol), Hold: service.Hold, HoldFor: service.HoldFor.D(0),
		Upstreams: upstreams(service.Instances, r.Port),
	}
}

// proxyProtocol maps a word that it does not know to a version that the gateway refuses.
func proxyProtocol(word string) gateway.ProxyProtocol {
	switch word {
	case "":
		return gateway.NoProxyHeader
	case "v1":
		return gateway.ProxyV1
	case "v2":
		return gateway.ProxyV2
	}
	return -1
}

func upstreams(instances []routing.Instance, port uint16) []gateway.Upstream {
	out := make([]gateway.Upstream, 0, len(instances))
	for _, i := range instances {
		out = append(out, gateway.Upstream{ID: i.ID, Address: netip.AddrPortFrom(i.V4, port)})
	}
	return out
}
