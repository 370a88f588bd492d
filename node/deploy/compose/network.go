package compose

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/ployz/ployz/node/api"
)

func (m *mapper) ports(at string, c types.ServiceConfig) (all []api.Port) {
	for i, p := range c.Ports {
		here := item(at+".ports", i)
		published, err := strconv.ParseUint(p.Published, 10, 16)
		switch {
		case p.Published == "":
			m.bad(here, "no published port is given for %d", p.Target).
				WithHint("choose one, such as %d:%d; services of the namespace reach each other without", p.Target, p.Target)
			continue
		case err != nil || published == 0:
			m.bad(here, "the published port %q is not one port", p.Published).WithHint("one port, or ranges of equal length on both sides")
			continue
		case p.Target == 0 || p.Target > 65535:
			m.bad(here, "the target port %d is out of range", p.Target).WithHint("between 1 and 65535")
			continue
		}
		if p.Protocol != "tcp" && p.Protocol != "udp" && p.Protocol != "" {
			m.refuse(here, p.Protocol, "ports are of tcp or udp", "")
			continue
		}
		if p.Mode != "" && p.Mode != "host" && p.Mode != "ingress" {
			m.bad(here, "%q is no mode of a port", p.Mode).WithHint("host or ingress, to the same effect")
		}
		port := api.Port{Listen: p.HostIP, Published: uint16(published), Target: uint16(p.Target), Protocol: p.Protocol}
		if port.Protocol == "" {
			port.Protocol = "tcp"
		}
		all = append(all, port)
	}
	return all
}

// How Compose asks where a file does not say, and how a readiness probe is asked here: an exec
// probe costs the start of a program, so it is not asked as often as one over the network.
const (
	defaultInterval = 30 * time.Second
	defaultTimeout  = 30 * time.Second
	defaultRetries  = 3
	execInterval    = 500 * time.Millisecond
	leastDeadline   = time.Minute
)

// healthcheck turns Compose's lasting check into a readiness probe: after the start it is asked
// often, and it has as long as Compose would take before calling the instance unhealthy.
func (m *mapper) healthcheck(at string, c types.ServiceConfig) *api.Probe {
	h := c.HealthCheck
	if h == nil || h.Disable || len(h.Test) > 0 && h.Test[0] == "NONE" {
		return nil
	}
	here := at + ".healthcheck"
	command := m.test(here+".test", h.Test)
	interval := m.span(here+".interval", h.Interval, defaultInterval)
	retries := uint64(defaultRetries)
	if h.Retries != nil {
		retries = min(*h.Retries, 10_000)
	}
	deadline := m.span(here+".start_period", h.StartPeriod, 0) + time.Duration(retries)*interval
	asked := min(interval, execInterval)
	if h.StartInterval != nil {
		asked = m.span(here+".start_interval", h.StartInterval, execInterval)
	}
	return &api.Probe{Exec: command, Interval: api.Duration(asked),
		Timeout:  api.Duration(m.span(here+".timeout", h.Timeout, defaultTimeout)),
		Deadline: api.Duration(max(deadline, leastDeadline))}
}

func (m *mapper) test(at string, test []string) []string {
	switch {
	case len(test) == 0:
		m.bad(at, "is missing").WithHint("what an image itself declares as its health check is not used: repeat it here")
	case test[0] != "CMD" && test[0] != "CMD-SHELL":
		m.bad(at, "begins with %q", test[0]).WithHint("[CMD, program, words...], [CMD-SHELL, \"a line\"], [NONE], or a line alone")
	case len(test) == 1 || test[0] == "CMD-SHELL" && len(test) > 2:
		m.bad(at, "%s has %d words after it", test[0], len(test)-1).WithHint("[CMD, program, words...] or [CMD-SHELL, \"a line\"]")
	case test[0] == "CMD":
		return test[1:]
	default:
		return shell(test[1])
	}
	return nil
}

func shell(line string) []string { return []string{"/bin/sh", "-c", line} }

// span is a duration of a health check; 0 means Compose's default, as it does there.
func (m *mapper) span(at string, d *types.Duration, fallback time.Duration) time.Duration {
	if d == nil || *d == 0 {
		return fallback
	}
	if *d < 0 || time.Duration(*d) > 24*time.Hour {
		m.bad(at, "%s is out of range", time.Duration(*d)).WithHint("between 0 and 24h")
		return fallback
	}
	return time.Duration(*d)
}

func conditionOf(word string) (api.Condition, bool) {
	switch word {
	case "", types.ServiceConditionStarted:
		return api.Started, true
	case types.ServiceConditionHealthy:
		return api.Ready, true
	case types.ServiceConditionCompletedSuccessfully:
		return api.Completed, true
	}
	return "", false
}

func (m *mapper) dependsOn(at string, c types.ServiceConfig) map[string]api.Condition {
	needs := map[string]api.Condition{}
	for _, name := range slices.Sorted(maps.Keys(c.DependsOn)) {
		d, here := c.DependsOn[name], at+".depends_on."+name
		if _, active := m.project.Services[name]; !active {
			m.absent(here, name, d.Required)
			continue
		}
		condition, ok := conditionOf(d.Condition)
		if !ok {
			m.bad(here, "%q is no condition", d.Condition).WithHint("service_started, service_healthy or service_completed_successfully")
		}
		if d.Restart {
			m.refuse(here+".restart", "true", "a deploy of one service does not restart another", "ployzctl service restart NAMESPACE/"+c.Name)
		}
		needs[name] = condition
	}
	if len(needs) == 0 {
		return nil
	}
	return needs
}

// absent is a dependency on a service that is not part of the deploy.
func (m *mapper) absent(at, name string, required bool) {
	disabled, known := m.project.DisabledServices[name]
	switch {
	case known && !required:
		m.note(at, "not waited for: the profiles of %s are not active", name)
	case known:
		m.bad(at, "%s is not part of the deploy: its profiles %v are not active", name, disabled.Profiles).
			WithHint("activate one (--profile), or write required: false")
	default:
		m.bad(at, "there is no service %q", name).WithHint("the services are %v", slices.Sorted(maps.Keys(m.project.Services)))
	}
}
