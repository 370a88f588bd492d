package deploy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// pollPause is the pause between two looks at a gateway or resolver.
const pollPause = 25 * time.Millisecond

// cleanup is what follows the commit: traffic moves, and the old goes once nobody uses it.
func (c *change) cleanup(l layout) []operation.Step {
	var steps []operation.Step
	for _, p := range l.places {
		ports := c.next.spec.Services[p.service].Ports
		if len(ports) > 0 || (p.keep && c.hadPorts(p.service)) {
			steps = append(steps, c.act(p.machine, Action{Verb: "publish", Instance: p.instance(), Ports: ports}, "publish "+p.slot))
		}
	}
	for _, m := range c.machines {
		if m.silent == nil {
			steps = append(steps, c.applyStep(m.member.Name))
		}
	}
	if len(l.retired()) > 0 {
		steps = append(steps, c.drainStep(l))
	}
	for _, old := range l.retired() {
		steps = append(steps, c.act(old.Machine, Action{Verb: "retire", Instance: old.Instance}, "remove the old "+old.Name))
	}
	for _, job := range l.jobList("before") {
		steps = append(steps, c.act(job.machine, Action{Verb: "retire", Instance: job.spec.ID}, "remove job "+job.slot))
	}
	for _, job := range l.jobList("after") {
		steps = append(steps, c.launch(job), c.await(job),
			c.act(job.machine, Action{Verb: "retire", Instance: job.spec.ID}, "remove job "+job.slot))
	}
	return steps
}

func (c *change) hadPorts(service string) bool {
	return c.now.commit != nil && len(c.now.commit.Spec.Services[service].Ports) > 0
}

// applyStep waits until a machine's gateway and resolver serve the commit. They are asked, not
// told: the routing event reaches them by itself.
func (c *change) applyStep(machineName string) operation.Step {
	return operation.Step{
		Name: "routing applied", Participant: machineName, Timeout: c.applyDeadline() + 5*time.Second,
		Clear: "ployzctl status",
		Do: func(ctx context.Context, act *operation.Act) error {
			route, err := c.kit.Facts.Get(ctx, store.Route(c.ns))
			if err != nil && !store.IsNotFound(err) {
				return err
			}
			m, err := c.kit.Participants.Participant(ctx, machineName)
			if err != nil {
				return err
			}
			return c.awaitApplied(ctx, m, machineName, route.Revision)
		},
	}
}

func (c *change) applyDeadline() time.Duration {
	if c.kit.ApplyDeadline == 0 {
		return 15 * time.Second
	}
	return c.kit.ApplyDeadline
}

func (c *change) awaitApplied(ctx context.Context, m Participant, machineName string, want store.Revision) error {
	ctx, cancel := context.WithTimeout(ctx, c.applyDeadline())
	defer cancel()
	for {
		consumers, err := m.Applied(ctx, c.ns)
		if err != nil {
			return err
		}
		late := lateConsumers(consumers, want)
		if len(late) == 0 {
			return nil
		}
		if err := pause(ctx); err != nil {
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
	old, longest := map[string]string{}, time.Duration(0)
	for _, slot := range l.retired() {
		old[slot.Instance] = slot.Machine
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

// awaitIdle returns when no gateway has anything open to the instances, or the deadline has passed: then
// stopping them is what the operator's drain time asked for.
func (c *change) awaitIdle(ctx context.Context, old map[string]string) {
	for c.inFlight(ctx, old) > 0 {
		if pause(ctx) != nil {
			return
		}
	}
}

func (c *change) inFlight(ctx context.Context, old map[string]string) int {
	open := 0
	for _, candidate := range c.machines {
		m, err := c.kit.Participants.Participant(ctx, candidate.member.Name)
		if err != nil {
			continue
		}
		consumers, err := m.Applied(ctx, c.ns)
		if err != nil {
			continue
		}
		for _, consumer := range consumers {
			for instance := range old {
				open += consumer.InFlight[instance]
			}
		}
	}
	return open
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollPause):
		return nil
	}
}
