package compose

import (
	"maps"
	"slices"

	"github.com/ployz/ployz/node/api"
)

// inferJobs makes a job of each service that another one waits to see completed: Compose has no
// other word for it, and something that is to end cannot be a service.
func (m *mapper) inferJobs() {
	for _, name := range slices.Sorted(maps.Keys(m.spec.Services)) {
		for _, dep := range slices.Sorted(maps.Keys(m.spec.Services[name].DependsOn)) {
			s, known := m.spec.Services[dep]
			if m.spec.Services[name].DependsOn[dep] != api.Completed || !known || s.Job != nil {
				continue
			}
			s.Job = &api.Job{When: "before"}
			m.spec.Services[dep] = s
			m.note("services."+dep, "it runs once, before the services switch over (x-ployz.job: before), as %s waits for its end", name)
		}
	}
}

// finish checks what only the whole service tells.
func (m *mapper) finish(name string) {
	s, at := m.spec.Services[name], "services."+name
	if s.Job != nil {
		m.finishJob(at, &s)
	}
	m.finishQuiesce(at, s)
	if s.Placement.Global && (s.Placement.Replicas > 1 || s.Placement.Zero) {
		m.bad(at+".deploy.replicas", "a global service has one instance on every machine").WithHint("take mode: global or replicas away")
	}
	m.spec.Services[name] = s
}

// finishJob refuses what a job cannot have: it runs once, on one machine, and nobody connects to it.
func (m *mapper) finishJob(at string, s *api.Service) {
	if len(s.Ports) > 0 {
		m.bad(at+".ports", "a job ends, so it cannot publish ports").WithHint("take them away, or the job")
	}
	if len(s.Routes) > 0 {
		m.bad(at+".x-ployz.routes", "a job ends, so nothing can be routed to it").WithHint("take them away, or the job")
	}
	if s.Restart.Policy != "" && s.Restart.Policy != "no" {
		m.bad(at+".restart", "a job runs once, so it cannot restart %s", s.Restart.Policy).WithHint("restart: \"no\", or nothing")
	}
	if s.Placement.Global || s.Placement.Replicas > 1 || s.Placement.Zero {
		m.bad(at+".deploy", "a job runs once, on one machine").WithHint("take mode and replicas away")
	}
	s.Restart.Policy = "no"
}
