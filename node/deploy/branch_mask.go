package deploy

import (
	"maps"

	"github.com/ployz/ployz/node/api"
)

// whenBranch is the Job.When of what runs in a new branch and never else: it masks what the branch must not have of the
// original's data. It sees what it depends on, and nothing else of the branch starts before it has ended well.
const whenBranch = "branch"

func masking(s api.Service) bool { return s.Job != nil && s.Job.When == whenBranch }

// whenText says in a preview when a job runs.
func (p place) whenText() string {
	if p.when == whenBranch {
		return "job of branches: nothing that it does not depend on starts before it has ended well"
	}
	return "job " + p.when
}

// ordered is the next release with the dependencies that its start is ordered by. In a new branch whatever no masking
// job needs waits for all of them: they wait for each other only as they say themselves, so no circle comes of it.
func (c *change) ordered() api.Spec {
	spec := c.next.spec
	if !c.masks {
		return spec
	}
	needed, jobs := map[string]bool{}, map[string]api.Condition{}
	for name, s := range spec.Services {
		if masking(s) {
			jobs[name] = api.Completed
			need(spec, name, needed)
		}
	}
	spec.Services = maps.Clone(spec.Services)
	for name, s := range spec.Services {
		if needed[name] {
			continue
		}
		waits := maps.Clone(jobs)
		maps.Copy(waits, s.DependsOn)
		s.DependsOn = waits
		spec.Services[name] = s
	}
	return spec
}

// need collects a service and all that it depends on, also through others.
func need(spec api.Spec, name string, into map[string]bool) {
	if into[name] {
		return
	}
	into[name] = true
	for dep := range spec.Services[name].DependsOn {
		need(spec, dep, into)
	}
}
