package deploy

import (
	"context"
	"maps"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// publish makes the namespace's published ports on this machine exactly those of the action. A port may
// move from any of its instances to any other, also in a circle, whatever an operation that was
// broken left published.
func (l *Local) publish(ctx context.Context, action Action) error {
	list, err := l.Runtime.List(ctx)
	if err != nil {
		return err
	}
	here := map[string]runtime.Addresses{}
	for _, o := range list {
		if o.Spec.Namespace == action.Namespace {
			here[o.ID] = o.Addresses
		}
	}
	for _, id := range slices.Sorted(maps.Keys(action.Ports)) {
		if _, ok := here[id]; !ok {
			return api.Errorf(api.CodeNotFound, "there is no instance %s on this machine", id).About(action.Namespace)
		}
	}
	p := publisher{l.Network, here, action.Ports}
	return p.publish(ctx)
}

// publisher moves ports between the instances of a namespace.
type publisher struct {
	network runtime.Network
	addrs   map[string]runtime.Addresses
	ports   map[string][]api.Port
}

func (p publisher) publish(ctx context.Context) error {
	var taking []string
	for _, id := range slices.Sorted(maps.Keys(p.addrs)) {
		if len(p.ports[id]) > 0 {
			taking = append(taking, id)
			continue
		}
		if err := p.network.Publish(ctx, id, p.addrs[id], nil); err != nil {
			return err
		}
	}
	blocked, err := p.take(ctx, taking)
	for len(blocked) > 0 && len(blocked) < len(taking) { // some gave up what others wait for
		taking = blocked
		blocked, err = p.take(ctx, taking)
	}
	if len(blocked) == 0 {
		return err
	}
	for _, id := range blocked { // they wait for each other
		if err := p.network.Publish(ctx, id, p.addrs[id], nil); err != nil {
			return err
		}
	}
	_, err = p.take(ctx, blocked)
	return err
}

// take publishes what it can and returns who was blocked by a port that another still holds, with why.
func (p publisher) take(ctx context.Context, ids []string) (blocked []string, why error) {
	for _, id := range ids {
		err := p.network.Publish(ctx, id, p.addrs[id], published(p.ports[id]))
		switch {
		case api.CodeOf(err) == api.CodePortTaken:
			blocked, why = append(blocked, id), err
		case err != nil:
			return nil, err
		}
	}
	return blocked, why
}

func published(ports []api.Port) []runtime.PublishedPort {
	var list []runtime.PublishedPort
	for _, p := range ports {
		list = append(list, runtime.PublishedPort{Listen: p.Listen, Published: p.Published, Target: p.Target, Protocol: p.Protocol})
	}
	return list
}
