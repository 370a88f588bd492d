package compose

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/ployz/ployz/node/api"
)

func (m *mapper) placement(at string, c types.ServiceConfig, s *api.Service) {
	p := &s.Placement
	m.replicas(at+".scale", c.Scale, p)
	d := c.Deploy
	if d == nil {
		return
	}
	here := at + ".deploy"
	if c.Scale != nil && d.Replicas != nil && *c.Scale != *d.Replicas {
		m.bad(here+".replicas", "is %d, but scale is %d", *d.Replicas, *c.Scale).WithHint("take one of them away")
	}
	m.replicas(here+".replicas", d.Replicas, p)
	switch d.Mode {
	case "", "replicated":
	case "global":
		p.Global = true
	default:
		m.refuse(here+".mode", d.Mode, "instances are replicated or global", "x-ployz.job: before or after, for one-shot runs")
	}
	if d.EndpointMode != "" && d.EndpointMode != "dnsrr" {
		m.refuse(here+".endpoint_mode", d.EndpointMode, "a service's name stands for its instances' own addresses", "endpoint_mode: dnsrr, or nothing")
	}
	m.constraints(here+".placement.constraints", d.Placement.Constraints, p)
	if u := d.UpdateConfig; u != nil {
		m.update(here+".update_config", u, s)
	}
}

func (m *mapper) replicas(at string, n *int, p *api.Placement) {
	switch {
	case n == nil:
	case *n < 0 || *n > 1000:
		m.bad(at, "%d is out of range", *n).WithHint("between 0 and 1000")
	default:
		p.Replicas, p.Zero = *n, *n == 0
	}
}

var hostnameConstraint = regexp.MustCompile(`^node\.hostname\s*==\s*(\S+)$`)

func (m *mapper) constraints(at string, all []string, p *api.Placement) {
	for i, text := range all {
		match := hostnameConstraint.FindStringSubmatch(strings.TrimSpace(text))
		switch {
		case match == nil:
			m.refuse(item(at, i), text, "only node.hostname == MACHINE is understood", "x-ployz.placement with machines, regions or zones")
		case len(p.Machines) > 0 && p.Machines[0] != match[1]:
			m.bad(item(at, i), "no machine is both %s and %s", p.Machines[0], match[1]).WithHint("x-ployz.placement.machines lists several to choose from")
		default:
			p.Machines = []string{match[1]}
		}
	}
}

func (m *mapper) update(at string, u *types.UpdateConfig, s *api.Service) {
	s.Update.Order = m.order(at+".order", u.Order)
	if u.FailureAction != "" && u.FailureAction != "rollback" {
		m.refuse(at+".failure_action", u.FailureAction, "a deploy that fails leaves the old serving", "failure_action: rollback, or nothing")
	}
	if u.Parallelism == nil || *u.Parallelism == 0 {
		return
	}
	if s.Update.Order == "stop-first" {
		m.refuse(at+".parallelism", strconv.FormatUint(*u.Parallelism, 10), "with stop-first all instances are replaced at one moment", "order: start-first, or no parallelism")
		return
	}
	m.note(at+".parallelism", "all new instances start beside the old, and none of the old stops before they serve")
}

func (m *mapper) order(at, order string) string {
	if order != "" && order != "start-first" && order != "stop-first" {
		m.bad(at, "%q is no order", order).WithHint("start-first or stop-first")
	}
	return order
}

var onFailure = regexp.MustCompile(`^on-failure(:([0-9]{1,6}))?$`)

// restart is Compose's own word, or deploy.restart_policy, which outranks it. Where neither says
// anything the spec's default stands: what was deployed keeps running.
func (m *mapper) restart(at string, c types.ServiceConfig) (r api.Restart) {
	match := onFailure.FindStringSubmatch(c.Restart)
	switch {
	case match != nil:
		r.Policy = "on-failure"
		r.MaxAttempts, _ = strconv.Atoi(match[2]) // "" is no limit; digits by the pattern
	case c.Restart == "unless-stopped":
		r.Policy = "always"
	case slices.Contains([]string{"", "no", "always"}, c.Restart):
		r.Policy = c.Restart
	default:
		m.bad(at+".restart", "%q is no policy", c.Restart).WithHint("no, always, unless-stopped, on-failure or on-failure:5")
	}
	if c.Deploy == nil || c.Deploy.RestartPolicy == nil {
		return r
	}
	if c.Restart != "" {
		m.note(at+".restart", "deploy.restart_policy outranks it")
	}
	return m.restartPolicy(at+".deploy.restart_policy", *c.Deploy.RestartPolicy)
}

func (m *mapper) restartPolicy(at string, p types.RestartPolicy) (r api.Restart) {
	policy, ok := map[string]string{"": "always", "any": "always", "on-failure": "on-failure", "none": "no"}[p.Condition]
	if !ok {
		m.bad(at+".condition", "%q is no condition", p.Condition).WithHint("any, on-failure or none")
	}
	r.Policy = policy
	if p.Delay != nil {
		r.Delay = m.duration(at+".delay", *p.Delay)
	}
	if p.Window != nil {
		r.Window = m.duration(at+".window", *p.Window)
	}
	if p.MaxAttempts != nil {
		r.MaxAttempts = int(min(*p.MaxAttempts, 1_000_000))
	}
	return r
}
