package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// pollPause is the pause between two looks at a gateway or resolver; firstPause is the first one after a routing event,
// which is usually applied within a few milliseconds, and each further one is twice as long.
const (
	firstPause = 3 * time.Millisecond
	pollPause  = 25 * time.Millisecond
)

// cleanup is what follows the commit: traffic moves, and the old goes once nobody uses it.
func (c *change) cleanup(l layout) []operation.Step {
	var steps []operation.Step
	for _, m := range c.machines {
		if m.silent == nil && c.publishes() {
			steps = append(steps, c.publishStep(l, m.member.Name))
		}
	}
	first := len(steps)
	for _, m := range c.machines {
		if m.silent == nil {
			step := c.applyStep(m.member.Name)
			step.Beside = len(steps) > first
			steps = append(steps, step)
		}
	}
	if len(c.hold) > 0 {
		steps = append(steps, c.letGo(l))
	}
	if len(l.retired()) > 0 {
		steps = append(steps, c.drainStep(l))
	}
	steps = append(steps, c.retireSteps(l)...)
	steps = append(steps, c.dropVolumes(l)...)
	steps = append(steps, c.forgetAbandoned()...)
	for _, job := range l.early() {
		steps = append(steps, c.act(job.machine, Action{Verb: "retire", Instance: job.spec.ID}, "remove job "+job.slot))
	}
	for _, job := range l.jobList("after") {
		steps = append(steps, c.runAfter(job),
			c.act(job.machine, Action{Verb: "retire", Instance: job.spec.ID}, "remove job "+job.slot))
	}
	return steps
}

// runAfter is a job after the commit: one step, since a run that did not start has no end to wait for.
func (c *change) runAfter(job place) operation.Step {
	start, await := c.launch(job), c.await(job)
	await.Name, await.Clear = "run "+job.slot, fmt.Sprintf("ployzctl service restart %s/%s", c.ns, job.service)
	end := await.Do
	await.Do = func(ctx context.Context, act *operation.Act) error {
		if err := start.Do(ctx, act); err != nil {
			return err
		}
		return end(ctx, act)
	}
	return await
}

// retireSteps remove the old instances, all of a machine at once: each may take its whole grace to end.
func (c *change) retireSteps(l layout) []operation.Step {
	var steps []operation.Step
	for _, m := range c.machines {
		var each []operation.Step
		var names []string
		for _, old := range l.retired() {
			if old.Machine == m.member.Name {
				each = append(each, c.act(old.Machine, Action{Verb: "retire", Instance: old.Instance}, old.Instance))
				names = append(names, old.Name)
			}
		}
		if len(each) == 0 {
			continue
		}
		steps = append(steps, operation.Step{
			Name: "remove the old " + strings.Join(names, ", "), Participant: m.member.Name, Clear: each[0].Clear,
			Timeout: c.longestGrace(l) + time.Minute,
			Do:      func(ctx context.Context, act *operation.Act) error { return allAtOnce(ctx, act, each) },
		})
	}
	return steps
}

// allAtOnce does several small steps as one, and joins what went wrong. Each keeps a name of its own: a machine takes
// a second command of one step for the step's undo, which ends the first and must not come before it.
func allAtOnce(ctx context.Context, act *operation.Act, steps []operation.Step) error {
	var wg sync.WaitGroup
	errs := make([]error, len(steps))
	for i, step := range steps {
		wg.Go(func() {
			own := *act
			own.Step += ": " + step.Name
			if err := step.Do(ctx, &own); err != nil {
				errs[i] = fmt.Errorf("%s: %w", step.Name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// longestGrace is what the slowest of the old may take to end.
func (c *change) longestGrace(l layout) time.Duration {
	longest := time.Duration(0)
	for _, old := range l.retired() {
		longest = max(longest, c.presentSpec().Services[old.Service].Process.StopGrace.D(10*time.Second))
	}
	return longest
}

// publishStep makes the machine's published ports what the release says, whatever they were before.
func (c *change) publishStep(l layout, machineName string) operation.Step {
	ports := map[string][]api.Port{}
	for _, p := range l.places {
		if of := c.next.spec.Services[p.service].Ports; p.machine == machineName && len(of) > 0 {
			ports[p.instance()] = of
		}
	}
	return c.act(machineName, Action{Verb: "publish", Namespace: c.ns, Ports: ports}, "publish ports")
}

// publishes reports whether ports may have to change. After an operation that did not come to its end
// only the machine knows what is published, so it is told in any case.
func (c *change) publishes() bool {
	if c.unfinished != nil || c.kind == api.KindClear {
		return true
	}
	for _, spec := range []api.Spec{c.presentSpec(), c.next.spec} {
		for _, s := range spec.Services {
			if len(s.Ports) > 0 {
				return true
			}
		}
	}
	return false
}

// samePort tells whether two ports cannot be published side by side.
func samePort(a api.Port) func(api.Port) bool {
	return func(b api.Port) bool { return a.Published == b.Published && a.Protocol == b.Protocol }
}

// routingApplied is the name of the steps after which a machine serves the commit.
const routingApplied = "routing applied"

// applyStep waits until a machine's gateway and resolver serve the commit. They are asked, not
// told: the routing event reaches them by itself.
func (c *change) applyStep(machineName string) operation.Step {
	return operation.Step{
		Name: routingApplied, Participant: machineName, Timeout: c.applyDeadline() + 5*time.Second,
		Clear: "ployzctl status",
		Do: func(ctx context.Context, act *operation.Act) error {
			route, err := c.kit.Facts.Get(ctx, store.Route(c.ns))
			if err != nil && !store.IsNotFound(err) {
				return err
			}
			return c.awaitApplied(ctx, machineName, route.Revision)
		},
	}
}

func (c *change) applyDeadline() time.Duration {
	if c.kit.ApplyDeadline == 0 {
		return 15 * time.Second
	}
	return c.kit.ApplyDeadline
}

func (c *change) awaitApplied(ctx context.Context, machineName string, want store.Revision) error {
	m, err := c.kit.Participants.Participant(ctx, machineName)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.applyDeadline())
	defer cancel()
	var late []string
	for wait := firstPause; ; wait = min(2*wait, pollPause) {
		consumers, err := m.Applied(ctx, c.ns)
		switch {
		case err == nil:
			late = lateConsumers(consumers, want)
		case ctx.Err() == nil || late == nil:
			late = []string{fmt.Sprintf("nobody says what is served: %v", err)}
		}
		if len(late) == 0 {
			return nil
		}
		if err := pauseFor(ctx, wait); err != nil {
			return api.Errorf(api.CodeNotApplied, "%s on %s: the commit is durable, but not yet served there",
				strings.Join(late, "; "), machineName).About(c.ns).Again().WithHint("look at it: ployzctl status")
		}
	}
}

func lateConsumers(consumers []Consumer, want store.Revision) []string {
	var late []string
	for _, consumer := range consumers {
		switch {
		case consumer.Err != nil:
			late = append(late, fmt.Sprintf("%s does not answer: %v", consumer.Name, consumer.Err))
		case consumer.Revision < want:
			late = append(late, fmt.Sprintf("%s serves revision %d, not %d", consumer.Name, consumer.Revision, want))
		}
	}
	return late
}

// drainStep lets the old instances finish: at least until those who looked their name up before
// the switch have asked again, at most for the service's drain time.
func (c *change) drainStep(l layout) operation.Step {
	old, longest := map[string]bool{}, time.Duration(0)
	for _, slot := range l.retired() {
		old[slot.Instance] = true
		longest = max(longest, c.drainOf(slot.Service))
	}
	return operation.Step{
		Name: "drain the old", Timeout: longest + c.settle() + 5*time.Second, Clear: "ployzctl operation resolve " + c.operation,
		Do: func(ctx context.Context, act *operation.Act) error {
			settled := time.After(c.settle())
			ctx, cancel := context.WithTimeout(ctx, c.settle()+longest)
			defer cancel()
			c.awaitIdle(ctx, old)
			<-settled
			return nil
		},
	}
}

func (c *change) settle() time.Duration {
	if c.kit.Settle == 0 {
		return 1100 * time.Millisecond
	}
	return c.kit.Settle
}

func (c *change) drainOf(service string) time.Duration {
	return c.presentSpec().Services[service].Update.Drain.D(10 * time.Second)
}

// awaitIdle returns when every gateway says that it has nothing open to the instances, or the deadline has
// passed: then stopping them is what the operator's drain time asked for.
func (c *change) awaitIdle(ctx context.Context, old map[string]bool) {
	for !c.idle(ctx, old) {
		if pause(ctx) != nil {
			return
		}
	}
}

// idle is false also while a gateway does not answer: its silence says nothing about what it has open.
func (c *change) idle(ctx context.Context, old map[string]bool) bool {
	for _, candidate := range c.machines {
		m, err := c.kit.Participants.Participant(ctx, candidate.member.Name)
		if err != nil {
			return false
		}
		consumers, err := m.Applied(ctx, c.ns)
		if err != nil || slices.ContainsFunc(consumers, func(c Consumer) bool { return c.busy(old) }) {
			return false
		}
	}
	return true
}

func (c Consumer) busy(with map[string]bool) bool {
	for instance, open := range c.InFlight {
		if open > 0 && with[instance] {
			return true
		}
	}
	return c.Err != nil
}

func pause(ctx context.Context) error { return pauseFor(ctx, pollPause) }

func pauseFor(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
