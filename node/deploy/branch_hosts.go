package deploy

import (
	"maps"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// nameHosts gives the branch's routes hostnames of their own and returns them, branch's → original's. Errors:
// branch.hostname-invalid.
func (b *Branch) nameHosts() (map[string]string, []*api.Error) {
	named, errs := map[string]string{}, b.unknownHosts()
	for _, name := range slices.Sorted(maps.Keys(b.next.spec.Services)) {
		s := b.next.spec.Services[name]
		s.Routes = slices.Clone(s.Routes)
		for i, r := range s.Routes {
			host, err := b.hostFor(r.Host)
			if err == nil && named[host] != "" && named[host] != r.Host {
				err = b.badHost(r.Host, "%s and %s would both be %s", named[host], r.Host, host)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			named[host], s.Routes[i].Host = r.Host, host
		}
		b.next.spec.Services[name] = s
	}
	return named, slices.CompactFunc(errs, func(a, b *api.Error) bool { return a.Message == b.Message })
}

// hostFor is the branch's name for a hostname of the original. A wildcard stays in front.
func (b *Branch) hostFor(host string) (string, *api.Error) {
	if named, ok := b.request.HostNames[host]; ok {
		return named, b.checkHost(host, named)
	}
	rest, wild := strings.CutPrefix(host, "*.")
	made := strings.NewReplacer("{branch}", b.ns, "{host}", rest).Replace(b.template())
	if wild {
		made = "*." + made
	}
	return made, b.checkHost(host, made)
}

func (b *Branch) template() string {
	if b.request.Hosts == "" {
		return api.DefaultBranchHosts
	}
	return b.request.Hosts
}

func (b *Branch) checkHost(of, host string) *api.Error {
	if !hostShape.MatchString(host) || len(host) > 253 || slices.ContainsFunc(strings.Split(host, "."), func(label string) bool { return len(label) > 63 }) {
		return b.badHost(of, "%q, for %s, is not a hostname in lower case", host, of)
	}
	return nil
}

// unknownHosts are names that were given for what the original does not route.
func (b *Branch) unknownHosts() (errs []*api.Error) {
	for _, host := range slices.Sorted(maps.Keys(b.request.HostNames)) {
		routes := false
		for _, s := range b.next.spec.Services {
			routes = routes || slices.ContainsFunc(s.Routes, func(r api.Route) bool { return r.Host == host })
		}
		if !routes {
			errs = append(errs, b.badHost(host, "%s does not route %s", b.request.From, host))
		}
	}
	return errs
}

func (b *Branch) badHost(host, format string, args ...any) *api.Error {
	return api.Errorf(api.CodeBranchHosts, format, args...).About("host "+host).
		WithHint("name it: ployzctl branch %s %s --hostname %s=%s.example.com, or give another template: --hostname '{branch}-{host}'", b.request.From, b.ns, host, b.ns)
}
