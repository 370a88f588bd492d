package deploy

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
)

// width is how many instances start at once; more only makes each of them slower to be ready.
const width = 4

// readyDeadline is what an instance gets to become ready when its probe does not say.
const readyDeadline = 60 * time.Second

// jobDeadline is what a job gets when it does not say.
const jobDeadline = 5 * time.Minute

// phases are the steps before the commit.
func (c *change) phases(l layout) []operation.Phase {
	phases := []operation.Phase{
		{Name: "clear leftovers", Steps: c.clearSteps(l)},
		{Name: "images", Steps: c.imageSteps(l), Width: width},
		{Name: "volumes", Steps: c.volumeSteps(l)},
		c.holdPhase(l),
		{Name: "stop the writers", Steps: c.writerSteps(l), Width: width},
	}
	phases = append(phases, c.snapshotPhases(l)...)
	phases = append(phases,
		operation.Phase{Name: originPhase, Steps: c.originSteps(l), Width: width},
		operation.Phase{Name: clonePhase, Steps: c.cloneSteps(l), Width: width},
		operation.Phase{Name: "swap", Steps: c.swapSteps(l)},
	)
	for i, layer := range l.order {
		phases = append(phases, c.layerPhases(l, layer)...)
		phases = append(phases, c.announcePhase(l, i))
	}
	return phases
}

// clearSteps remove what an unfinished operation left. There is no undo: nobody was using it.
func (c *change) clearSteps(l layout) []operation.Step {
	var steps []operation.Step
	for _, s := range l.strays {
		steps = append(steps, c.act(s.machine, Action{Verb: "retire", Instance: s.instance}, "clear "+s.instance))
	}
	return append(steps, c.clearVolumes(l)...)
}

func (c *change) imageSteps(l layout) []operation.Step {
	var steps []operation.Step
	done := map[string]bool{}
	for _, p := range slices.Concat(l.places, l.early(), l.jobList("after")) {
		s := c.next.spec.Services[p.service]
		key := p.machine + " " + s.Digest
		if !c.pushed[s.Image].IsZero() {
			key += " " + s.Image
		}
		if p.keep || done[key] || !c.absent[p.machine][s.Digest] && !c.unnamed[s.Image][p.machine] {
			continue
		}
		done[key] = true
		steps = append(steps, operation.Step{
			Name: "pull " + s.Image, Participant: p.machine, Timeout: 30 * time.Minute,
			Do: func(ctx context.Context, act *operation.Act) error {
				m, err := c.kit.Participants.Participant(ctx, p.machine)
				if err != nil {
					return err
				}
				pull := runtime.Pull{Auth: authFor(s.Image, c.auths), Progress: act.Progress, Named: c.pushed[s.Image]}
				return m.EnsureImage(ctx, fenced(act), pinned(s.Image, s.Digest), pull)
			},
		})
	}
	return steps
}

// pinned is the reference with the digest that the plan was made for, in place of one that it came with.
func pinned(reference, digest string) string {
	name, _, _ := strings.Cut(reference, "@")
	return name + "@" + digest
}

// stopsFirst reports whether a place's old instance stops before the new one starts because that was asked for.
func (c *change) stopsFirst(p place) bool {
	return c.next.spec.Services[p.service].Update.Order == "stop-first" && p.old.Instance != "" && c.isMember(p.old.Machine)
}

// layerPhases start one layer's instances, wait until they are ready, and run its jobs.
func (c *change) layerPhases(l layout, layer []string) []operation.Phase {
	var stop, start, ready []operation.Step
	stopped := c.oldWriters(l)
	for _, p := range l.places {
		if p.keep || !slices.Contains(layer, p.service) {
			continue
		}
		if c.stopsFirst(p) && stopped[p.old.Instance] == "" {
			stop = append(stop, c.stopOld(p.old))
		}
		start = append(start, c.launch(p))
		ready = append(ready, c.await(p))
	}
	for _, job := range l.early() {
		if slices.Contains(layer, job.service) {
			start = append(start, c.launch(job))
			ready = append(ready, c.await(job))
		}
	}
	return []operation.Phase{
		{Name: "stop first", Steps: stop, Width: width},
		{Name: "start", Steps: start, Width: width},
		{Name: "ready", Steps: ready, Width: len(ready)},
	}
}

// early are the jobs that run before the commit.
func (l layout) early() []place { return slices.Concat(l.jobList("before"), l.jobList(whenBranch)) }

// jobList is the jobs of one kind, each after those it depends on.
func (l layout) jobList(when string) []place {
	var jobs []place
	for _, name := range slices.Concat(l.order...) {
		if job, runs := l.jobs[name]; runs && job.when == when {
			jobs = append(jobs, job)
		}
	}
	return jobs
}

// isMember says that a machine can be asked for anything: what a removed one held is gone with it.
func (c *change) isMember(machineName string) bool {
	return slices.ContainsFunc(c.machines, func(m candidate) bool { return m.member.Name == machineName })
}

func (c *change) stopOld(old api.Slot) operation.Step {
	step := c.act(old.Machine, Action{Verb: "stop", Instance: old.Instance}, "stop the old "+old.Name)
	if c.stateOf(old) == runtime.StateRunning { // what did not run is not started by giving up
		step.Undo = c.act(old.Machine, Action{Verb: "start", Instance: old.Instance}, "").Do
	}
	return step
}

func (c *change) launch(p place) operation.Step {
	return operation.Step{
		Name: "start " + p.slot, Participant: p.machine, Clear: "ployzctl operation resolve " + c.operation,
		Do: func(ctx context.Context, act *operation.Act) error {
			m, err := c.kit.Participants.Participant(ctx, p.machine)
			if err != nil {
				return err
			}
			addrs, err := m.Launch(ctx, fenced(act), p.spec)
			if err != nil {
				return err
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.addrs[p.spec.ID] = addrs
			return nil
		},
		Undo: c.act(p.machine, Action{Verb: "retire", Instance: p.spec.ID}, "").Do,
	}
}

// await changes nothing, so it has nothing to undo.
func (c *change) await(p place) operation.Step {
	s := c.next.spec.Services[p.service]
	deadline := readyDeadline
	if s.Ready != nil {
		deadline = s.Ready.Deadline.D(readyDeadline)
	}
	if s.Job != nil {
		deadline = s.Job.Deadline.D(jobDeadline)
	}
	return operation.Step{
		Name: "ready " + p.slot, Participant: p.machine, Timeout: deadline,
		Do: func(ctx context.Context, act *operation.Act) error {
			m, err := c.kit.Participants.Participant(ctx, p.machine)
			if err != nil {
				return err
			}
			return m.Await(ctx, p.spec, s.Ready)
		},
	}
}

// act is a step that does one small thing to an instance.
func (c *change) act(machineName string, action Action, name string) operation.Step {
	return operation.Step{
		Name: name, Participant: machineName, Clear: "ployzctl operation resolve " + c.operation,
		Do: func(ctx context.Context, act *operation.Act) error {
			m, err := c.kit.Participants.Participant(ctx, machineName)
			if err != nil {
				return err
			}
			return m.Act(ctx, fenced(act), action)
		},
	}
}

func fenced(act *operation.Act) Fenced {
	return Fenced{Operation: act.Operation, Step: act.Step, Scope: act.Scope, Fence: act.Fence}
}
