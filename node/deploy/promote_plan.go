package deploy

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
)

// maxSince is how many of the target's commits a plan names one by one.
const maxSince = 10

// Plan implements operation.Operation: that of a deploy, and what is the promotion's own.
func (p *Promote) Plan() operation.Plan {
	plan := p.change.Plan()
	plan.Changes = append(p.said(), plan.Changes...)
	return plan
}

// said is what a promotion says that a deploy does not.
func (p *Promote) said() []api.Change {
	list := []api.Change{{
		Action: "promote", Subject: fmt.Sprintf("commit %d of %s", p.branch.commit.Number, p.request.Branch),
		Reason: "its images by digest, and its configuration",
	}}
	list = append(list, p.undone()...)
	for _, name := range p.copied {
		list = append(list, api.Change{Action: "copy", Subject: "secret " + name, Reason: p.ns + " has none of that name"})
	}
	return append(list, p.otherNumbers()...)
}

// undone names the target's own commits since the branch began: what they configured, the promotion takes back.
func (p *Promote) undone() []api.Change {
	var list []api.Change
	for _, c := range p.since {
		what := c.Kind
		if c.Of != 0 {
			what += fmt.Sprintf(" of commit %d", c.Of)
		}
		action, goes := "undo", "what it changed goes, unless the branch has it too"
		if outlasts(c.Kind) {
			action, goes = "keep", "it stays"
		}
		list = append(list, api.Change{
			Action: action, Subject: fmt.Sprintf("commit %d", c.Number),
			Reason: fmt.Sprintf("%s at %s, after the branch began at commit %d: %s", what, c.Time.UTC().Format(time.RFC3339), p.fact.Commit, goes),
		})
	}
	if more := p.sinceAll - len(p.since); more > 0 {
		list = append(list, api.Change{
			Action: "undo", Subject: fmt.Sprintf("%d commits before those", more), Reason: "likewise; see them: ployzctl history " + p.ns,
		})
	}
	return list
}

// outlasts reports whether what commits of a kind do is the target's own: how many instances there are, how often they
// were restarted, where its data is.
func outlasts(kind string) bool {
	return slices.Contains([]string{api.KindScale, api.KindRestart, api.KindClear, api.KindMigrate}, kind)
}

// otherNumbers are the services of which the branch has another number of instances than the target keeps.
func (p *Promote) otherNumbers() []api.Change {
	var list []api.Change
	for _, name := range slices.Sorted(maps.Keys(p.next.spec.Services)) {
		next, in := p.next.spec.Services[name], p.branch.commit.Spec.Services[name]
		if counted(next) && replicas(next) != replicas(in) {
			list = append(list, api.Change{
				Action: "keep", Subject: "service " + name,
				Reason: fmt.Sprintf("%d instances as before, where the branch has %d; another number: ployzctl service scale %s/%s N", replicas(next), replicas(in), p.ns, name),
			})
		}
	}
	return list
}

// replicas is how many instances a service asks for.
func replicas(s api.Service) int {
	if s.Placement.Zero {
		return 0
	}
	return max(1, s.Placement.Replicas)
}
