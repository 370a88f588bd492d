package deploy

import (
	"context"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// runDeadline is what a run gets when it does not say.
const runDeadline = time.Hour

// Run runs a command once in a service's image, with its environment, files, secrets and volumes, in
// an instance of its own that is removed afterwards. What is deployed stays as it is; the scope is the
// namespace's all the same, since a deploy would take the instance for something left behind.
type Run struct {
	change
	request  api.RunRequest
	service  api.Service
	revision store.Revision
}

// NewRun prepares a run.
func NewRun(kit Kit, request api.RunRequest) *Run {
	return &Run{change: change{kit: kit, ns: request.Namespace, kind: api.KindRun}, request: request}
}

// Inspect implements operation.Operation.
func (r *Run) Inspect(ctx context.Context, before operation.Situation) error {
	if len(r.request.Command) == 0 {
		return invalid("command", "there is none")
	}
	if err := r.inspect(ctx, before); err != nil {
		return err
	}
	if err := r.needService(r.request.Service); err != nil {
		return err
	}
	fact, err := r.kit.Facts.Get(ctx, store.LastRun(r.ns))
	if err != nil && !store.IsNotFound(err) {
		return err
	}
	r.revision = fact.Revision
	r.next = r.present()
	r.service = r.once(r.next.spec.Services[r.request.Service])
	if err := r.mountVolumes(ctx); err != nil {
		return err
	}
	r.next.spec.Services = map[string]api.Service{r.request.Service: r.service}
	r.complete(ctx)
	return nil
}

// once is the service as a job of this command: nothing of how it is found, probed or restarted.
func (r *Run) once(s api.Service) api.Service {
	s.Job = &api.Job{When: "before", Deadline: api.Duration(r.request.Deadline.D(runDeadline))}
	s.Routes, s.Ports, s.Ready, s.DependsOn, s.Placement = nil, nil, nil, nil, api.Placement{
		Machines: s.Placement.Machines, Regions: s.Placement.Regions, Zones: s.Placement.Zones,
	}
	s.Process.Entrypoint, s.Process.Command = r.request.Command, nil
	env := map[string]string{}
	for _, from := range []map[string]string{s.Process.Env, r.request.Env} {
		for name, value := range from {
			env[name] = value
		}
	}
	s.Process.Env = env
	return s
}

// Plan implements operation.Operation.
func (r *Run) Plan() operation.Plan {
	placed := placeAll(r.next.spec, nil, r.machines, r.pins())
	l := layout{strays: r.strays(r.slots()), errs: placed.errs, sets: r.sets()}
	for _, c := range placed.choices[r.request.Service] {
		c.slot = r.request.Service + "-run"
		l.places = append(l.places, r.fill(l, r.request.Service, c, api.Slot{}))
	}
	plan := operation.Plan{
		Requirements: r.requirements(l), Phases: r.phases(l), Commit: r.commit(),
		// What another kind left may need more than taking a stray away.
		Resolves: r.unfinished == nil || r.unfinished.Kind == r.kind,
	}
	for _, p := range l.places {
		plan.Changes = append(plan.Changes, api.Change{
			Action: "run", Subject: p.slot, Machine: p.machine, To: r.imageOf(p.service), Reason: strings.Join(r.request.Command, " "),
		})
		plan.Cleanup = append(plan.Cleanup, r.act(p.machine, Action{Verb: "retire", Instance: p.spec.ID}, "remove "+p.slot))
	}
	return plan
}

func (r *Run) slots() map[string]api.Slot {
	if r.now.commit == nil {
		return nil
	}
	return r.now.commit.Slots
}

func (r *Run) phases(l layout) []operation.Phase {
	phases := []operation.Phase{
		{Name: "clear leftovers", Steps: r.clearSteps(l)},
		{Name: "images", Steps: r.imageSteps(l)},
	}
	for _, p := range l.places {
		start := r.launch(p)
		launch := start.Do
		start.Do = func(ctx context.Context, act *operation.Act) error {
			act.Note(RunningAs + p.spec.ID)
			return launch(ctx, act)
		}
		phases = append(phases, operation.Phase{Name: "run", Steps: []operation.Step{start, r.await(p)}})
	}
	return phases
}

// RunningAs begins the note in which a run names its instance, for those who follow its output.
const RunningAs = "running as "

// lastRun is the value of the fact that a run commits.
type lastRun struct {
	Operation string   `json:"operation"`
	Service   string   `json:"service"`
	Command   []string `json:"command"`
}

// commit records that the command ended well; there is no other intent in a run.
func (r *Run) commit() operation.Commit {
	key := store.LastRun(r.ns)
	return operation.Commit{
		Witness: key, Expect: r.revision, Content: []any{r.request.Command, r.request.Env, r.service.Digest},
		Batch: func(op string) ([]store.Put, error) {
			put, err := encode(key, lastRun{op, r.request.Service, r.request.Command}, store.Expect(r.revision))
			return []store.Put{put}, err
		},
	}
}

// Result implements operation.Resulter.
func (r *Run) Result() any {
	return api.RunResult{Instance: instanceID(r.operation, r.ns, r.request.Service+"-run")}
}
