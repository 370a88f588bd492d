package deploy

import (
	"maps"
	"slices"

	"github.com/ployz/ployz/node/api"
)

// asTarget is what a branch asks for as its target asks for it, where present is what that asks for now: with the
// hostnames that the branch's stand for, and what is the target's own.
func asTarget(spec, present api.Spec, hosts map[string]string) api.Spec {
	spec.Namespace = present.Namespace
	spec.Services = maps.Clone(spec.Services)
	for name, s := range spec.Services {
		was := present.Services[name]
		s.Routes = targetRoutes(s.Routes, was.Routes, hosts)
		s.Ports = targetPorts(s.Ports, was.Ports)
		s.Placement = targetPlacement(s, was)
		spec.Services[name] = s
	}
	return spec
}

// targetRoutes are a branch's routes and the gateway ports that the target has: a branch cannot have the same.
func targetRoutes(routes, was []api.Route, hosts map[string]string) []api.Route {
	list := slices.Clone(routes)
	for i, r := range list {
		if host, known := hosts[r.Host]; known {
			list[i].Host = host
		}
	}
	for _, r := range was {
		if r.TCP != 0 && !slices.ContainsFunc(list, func(o api.Route) bool { return o.TCP == r.TCP }) {
			list = append(list, r)
		}
	}
	return list
}

// targetPorts are the ports that a branch publishes, and those of the target, which a branch on the same machines
// cannot have.
func targetPorts(ports, was []api.Port) []api.Port {
	list := slices.Clone(ports)
	for _, port := range was {
		if !slices.ContainsFunc(list, samePort(port)) {
			list = append(list, port)
		}
	}
	return list
}

// targetPlacement is where a branch's may run, with as many instances as the target has: a branch is often smaller.
func targetPlacement(s, was api.Service) api.Placement {
	placement := s.Placement
	if counted(s) && counted(was) {
		placement.Replicas, placement.Zero = was.Placement.Replicas, was.Placement.Zero
	}
	return placement
}

// counted reports whether a service is there and has a number of instances.
func counted(s api.Service) bool { return s.Image != "" && s.Job == nil && !s.Placement.Global }

// withoutOwnHosts is the branch's spec without the routes of hostnames that stand for none of the target's, which are
// refused.
func (p *Promote) withoutOwnHosts(spec api.Spec) api.Spec {
	spec.Services = maps.Clone(spec.Services)
	for _, name := range slices.Sorted(maps.Keys(spec.Services)) {
		s := spec.Services[name]
		s.Routes = slices.DeleteFunc(slices.Clone(s.Routes), func(r api.Route) bool {
			own := r.Host != "" && p.hosts[r.Host] == ""
			if own {
				p.problems = append(p.problems, p.ownHost(name, r.Host))
			}
			return own
		})
		spec.Services[name] = s
	}
	return spec
}

func (p *Promote) ownHost(service, host string) *api.Error {
	return api.Errorf(api.CodePromoteUnlike, "the hostname %s is the branch's own: it stands for none of %s, so it is not known what it is there", host, p.ns).
		About("services."+service+".routes").
		WithHint("take the route away in the branch (ployzctl deploy of %s without it), promote, and add it to %s with a deploy", p.request.Branch, p.ns)
}
