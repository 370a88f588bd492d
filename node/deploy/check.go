package deploy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// nameShape is what fits into a DNS label and, three of them together, into an instance id.
var nameShape = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,22}[a-z0-9])?$`)

// hostShape is a hostname, optionally with one wildcard label in front.
var hostShape = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// CheckNamespace returns deploy.spec-invalid for a name that cannot be a namespace.
func CheckNamespace(ns string) *api.Error {
	if nameShape.MatchString(ns) {
		return nil
	}
	return invalid("namespace", "%q: lower-case letters, digits and dashes, a letter first, at most 24", ns)
}

// Check returns everything that is impossible in a spec, each with its place.
func Check(spec api.Spec) []*api.Error {
	c := checker{spec: spec}
	c.add(CheckNamespace(spec.Namespace))
	for _, name := range slices.Sorted(maps.Keys(spec.Services)) {
		c.service(name, spec.Services[name])
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Volumes)) {
		c.volume(name, spec.Volumes[name])
	}
	if len(spec.Services) == 0 {
		c.add(invalid("services", "there is none; to take a namespace away use: ployzctl rm %s", spec.Namespace))
	}
	c.retention(spec.Retention)
	c.crossings()
	if _, err := layers(spec); err != nil {
		c.add(err)
	}
	return c.errs
}

type checker struct {
	spec api.Spec
	errs []*api.Error
}

func (c *checker) add(err *api.Error) {
	if err != nil {
		c.errs = append(c.errs, err)
	}
}

func (c *checker) bad(place, format string, args ...any) { c.add(invalid(place, format, args...)) }

func invalid(place, format string, args ...any) *api.Error {
	return api.Errorf(api.CodeSpecInvalid, format, args...).About(place)
}

func (c *checker) service(name string, s api.Service) {
	at := "services." + name
	if !nameShape.MatchString(name) {
		c.bad(at, "%q cannot be a service name: lower-case letters, digits and dashes, at most 24", name)
	}
	if s.Image == "" {
		c.bad(at+".image", "is missing")
	}
	if s.Placement.Replicas < 0 || s.Placement.Replicas > 1000 {
		c.bad(at+".placement.replicas", "%d is not between 0 and 1000", s.Placement.Replicas)
	}
	for _, dep := range slices.Sorted(maps.Keys(s.DependsOn)) {
		c.dependency(at+".dependsOn."+dep, s, dep)
	}
	c.enums(at, s)
	c.files(at, s)
	c.mounts(at, s)
	c.quiesce(at+".quiesce", s)
	c.network(at, s)
	c.probe(at+".ready", s.Ready)
}

// dependency refuses an order that cannot come about. What a service waits for is always the
// strongest condition that its dependency can reach, so the weaker ones need no look.
func (c *checker) dependency(place string, s api.Service, dep string) {
	other, known := c.spec.Services[dep]
	condition := s.DependsOn[dep]
	switch {
	case !known:
		c.bad(place, "there is no service %q", dep)
	case condition == api.Completed && other.Job == nil:
		c.bad(place, "%s is no job, so it never completes", dep)
	case onlyInBranches(other) && !onlyInBranches(s):
		c.bad(place, "%s runs in new branches only, so nothing else can wait for it", dep)
	case after(other) && !after(s):
		c.bad(place, "%s runs after the commit, when this has long started", dep)
	default:
		c.oneOf(place, string(condition), string(api.Started), string(api.Ready), string(api.Completed))
	}
}

func onlyInBranches(s api.Service) bool { return s.Job != nil && s.Job.When == "branch" }

func after(s api.Service) bool { return s.Job != nil && s.Job.When == "after" }

func (c *checker) enums(at string, s api.Service) {
	c.oneOf(at+".restart.policy", s.Restart.Policy, "", "no", "on-failure", "always")
	c.oneOf(at+".update.order", s.Update.Order, "", "start-first", "stop-first")
	if s.Job != nil {
		c.oneOf(at+".job.when", s.Job.When, "before", "after", whenBranch)
		if len(s.Routes)+len(s.Ports) > 0 {
			c.bad(at+".job", "a job ends, so it can have neither routes nor ports")
		}
		if s.Placement.Global || s.Placement.Zero || s.Placement.Replicas > 1 {
			c.bad(at+".placement", "a job runs once, on one machine")
		}
	}
	if w := s.Resources.IOWeight; w < 0 || w > 10000 {
		c.bad(at+".resources.ioWeight", "%d is not between 1 and 10000", w)
	}
}

func (c *checker) oneOf(place, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.bad(place, "%q is none of %s", value, strings.Join(allowed, ", "))
	}
}

func (c *checker) files(at string, s api.Service) {
	for i, f := range s.Files {
		place := fmt.Sprintf("%s.files[%d]", at, i)
		_, secret := c.spec.Secrets[f.Secret]
		_, config := c.spec.Configs[f.Config]
		switch {
		case (f.Secret == "") == (f.Config == ""):
			c.bad(place, "exactly one of secret and config must be set")
		case f.Secret != "" && !secret:
			c.bad(place, "the spec has no secret %q", f.Secret)
		case f.Config != "" && !config:
			c.bad(place, "the spec has no config %q", f.Config)
		}
		if !strings.HasPrefix(f.Target, "/") {
			c.bad(place+".target", "%q is not an absolute path", f.Target)
		}
	}
	for variable, name := range s.Process.SecretEnv {
		if _, ok := c.spec.Secrets[name]; !ok {
			c.bad(at+".process.secretEnv."+variable, "the spec has no secret %q", name)
		}
	}
}

func (c *checker) network(at string, s api.Service) {
	for i, p := range s.Ports {
		place := fmt.Sprintf("%s.ports[%d]", at, i)
		if p.Published == 0 || p.Target == 0 {
			c.bad(place, "published port %d and target port %d must be between 1 and 65535", p.Published, p.Target)
		}
		c.oneOf(place+".protocol", p.Protocol, "tcp", "udp")
	}
	for i, r := range s.Routes {
		place := fmt.Sprintf("%s.routes[%d]", at, i)
		switch {
		case (r.Host == "") == (r.TCP == 0):
			c.bad(place, "exactly one of host and tcp must be set")
		case r.Host != "" && !hostShape.MatchString(r.Host):
			c.bad(place+".host", "%q is not a hostname in lower case", r.Host)
		case r.Path != "" && !strings.HasPrefix(r.Path, "/"):
			c.bad(place+".path", "%q does not begin with /", r.Path)
		}
		if r.Port == 0 {
			c.bad(place+".port", "the service's port is missing")
		}
		c.oneOf(place+".protocol", r.Protocol, "", "http", "h2c")
		c.oneOf(place+".proxyProtocol", r.ProxyProtocol, "", "v1", "v2")
	}
}

func (c *checker) probe(at string, p *api.Probe) {
	if p == nil {
		return
	}
	kinds := 0
	for _, set := range []bool{p.HTTP != nil, p.TCP != nil, len(p.Exec) > 0} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		c.bad(at, "exactly one of http, tcp and exec must be set")
	case p.HTTP != nil && (p.HTTP.Port == 0 || !strings.HasPrefix(p.HTTP.Path, "/")):
		c.bad(at+".http", "needs a port and a path that begins with /")
	case p.TCP != nil && p.TCP.Port == 0:
		c.bad(at+".tcp.port", "is missing")
	}
}

// crossings finds what two services of the spec both claim.
func (c *checker) crossings() {
	held := map[string]string{}
	claim := func(what, service string) {
		if other, taken := held[what]; taken {
			c.bad("services."+service, "%s is also claimed by service %s", what, other)
		}
		held[what] = service
	}
	for _, name := range slices.Sorted(maps.Keys(c.spec.Services)) {
		s := c.spec.Services[name]
		for _, p := range s.Ports {
			claim(fmt.Sprintf("port %d/%s", p.Published, p.Protocol), name)
		}
		for _, r := range s.Routes {
			if r.TCP != 0 {
				claim(fmt.Sprintf("gateway port %d", r.TCP), name)
			} else {
				claim("route "+r.Host+cleanPath(r.Path), name)
			}
		}
	}
}

func cleanPath(p string) string {
	if p == "" {
		return "/"
	}
	return p
}
