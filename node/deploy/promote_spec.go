package deploy

import (
	"maps"
	"slices"

	"github.com/ployz/ployz/node/api"
)

// targetSpec is what the branch asks for, as the target asks for it.
func (p *Promote) targetSpec(spec api.Spec) api.Spec {
	present := p.presentSpec()
	spec.Namespace = p.ns
	spec.Services = maps.Clone(spec.Services)
	for _, name := range slices.Sorted(maps.Keys(spec.Services)) {
		s, was := spec.Services[name], present.Services[name]
		s.Routes = p.targetRoutes(name, s.Routes, was.Routes)
		s.Ports = targetPorts(s.Ports, was.Ports)
		s.Placement = targetPlacement(s, was)
		spec.Services[name] = s
	}
	return spec
}

// targetRoutes gives the routes of a service the hostnames that the branch's stand for, and adds the gateway ports that
// the target has: a branch cannot have the same. A hostname that stands for none is refused.
func (p *Promote) targetRoutes(service string, routes, was []api.Route) []api.Route {
	var list []api.Route
	for _, r := range routes {
		if r.Host == "" {
			list = append(list, r)
			continue
		}
		host, known := p.fact.Hosts[r.Host]
		if !known {
			p.problems = append(p.problems, api.Errorf(api.CodePromoteUnlike, "the hostname %s is the branch's own: it stands for none of %s, so it is not known what it is there", r.Host, p.ns).
				About("services."+service+".routes").WithHint("take the route away in the branch (ployzctl deploy of %s without it), promote, and add it to %s with a deploy", p.request.Branch, p.ns))
			continue
		}
		r.Host = host
		list = append(list, r)
	}
	for _, r := range was {
		if r.TCP != 0 && !slices.ContainsFunc(list, func(o api.Route) bool { return o.TCP == r.TCP }) {
			list = append(list, r)
		}
	}
	return list
}

// targetPorts are the ports that the branch publishes, and those of the target, which a branch on the same machines
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

// targetPlacement is where the branch's may run, with as many instances as the target has: a branch is often smaller.
func targetPlacement(s, was api.Service) api.Placement {
	placement := s.Placement
	if counted(s) && counted(was) {
		placement.Replicas, placement.Zero = was.Placement.Replicas, was.Placement.Zero
	}
	return placement
}

// counted reports whether a service is there and has a number of instances.
func counted(s api.Service) bool { return s.Image != "" && s.Job == nil && !s.Placement.Global }
