package memruntime

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// Network implements runtime.Network in memory. Safe for concurrent use.
type Network struct {
	Faults
	mu    sync.Mutex
	links map[string]link // guarded by mu
}

type link struct {
	namespace uint32
	addrs     runtime.Addresses
	ports     []runtime.PublishedPort
}

// NewNetwork returns a network without links.
func NewNetwork() *Network { return &Network{links: map[string]link{}} }

// Attach implements runtime.Network.
func (n *Network) Attach(ctx context.Context, id string, namespace uint32, addrs runtime.Addresses) error {
	return n.around("Attach", id, func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		l := n.links[id]
		l.namespace, l.addrs = namespace, addrs
		n.links[id] = l
		return nil
	})
}

// Publish implements runtime.Network.
func (n *Network) Publish(ctx context.Context, id string, addrs runtime.Addresses, ports []runtime.PublishedPort) error {
	return n.around("Publish", id, func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, p := range ports {
			if holder := n.holderLocked(id, p); holder != "" {
				return api.Errorf(api.CodePortTaken, "port %d/%s is published by instance %s", p.Published, p.Protocol, holder).About("instance " + id)
			}
		}
		l := n.links[id]
		l.addrs, l.ports = addrs, slices.Clone(ports)
		n.links[id] = l
		return nil
	})
}

// holderLocked returns which other instance holds the port on an overlapping address.
func (n *Network) holderLocked(id string, p runtime.PublishedPort) string {
	for _, other := range sortedKeys(n.links) {
		if other == id {
			continue
		}
		for _, q := range n.links[other].ports {
			if q.Published == p.Published && q.Protocol == p.Protocol && (q.Listen == p.Listen || q.Listen == "" || p.Listen == "") {
				return other
			}
		}
	}
	return ""
}

// Detach implements runtime.Network.
func (n *Network) Detach(ctx context.Context, id string) error {
	return n.around("Detach", id, func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.links, id)
		return nil
	})
}

// Taken implements runtime.Network.
func (n *Network) Taken(ctx context.Context) (map[string]runtime.Addresses, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := map[string]runtime.Addresses{}
	for id, l := range n.links {
		taken[id] = l.addrs
	}
	return taken, nil
}

// World is every link and published port as text, sorted.
func (n *Network) World() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	for id, l := range maps.All(n.links) {
		lines = append(lines, fmt.Sprintf("link %s namespace=%08x v4=%s v6=%s", id, l.namespace, l.addrs.V4, l.addrs.V6))
		for _, p := range l.ports {
			lines = append(lines, fmt.Sprintf("port %s:%d/%s -> %s:%d", p.Listen, p.Published, p.Protocol, id, p.Target))
		}
	}
	slices.Sort(lines)
	return lines
}
