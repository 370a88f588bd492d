package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
)

// Plan implements operation.Operation.
func (m *Migrate) Plan() operation.Plan {
	plan := m.change.Plan()
	if m.from == "" {
		return plan
	}
	for i, change := range plan.Changes {
		if name, is := strings.CutPrefix(change.Subject, "volume "); is {
			plan.Changes[i].Reason += m.alongText(name)
		}
	}
	plan.Phases = m.phases(m.layout())
	for i, step := range plan.Cleanup {
		if step.Name == routingApplied || step.Name == letGoName {
			plan.Cleanup[i].Do = m.timed(&m.routing, step.Do)
		}
	}
	plan.Cleanup = append(plan.Cleanup, m.forget())
	return plan
}

// phases are the steps before the commit; the layers of a start are those of any change.
func (m *Migrate) phases(l layout) []operation.Phase {
	phases := []operation.Phase{
		{Name: "clear leftovers", Steps: m.clearSteps(l)},
		{Name: "images", Steps: m.imageSteps(l), Width: width},
		{Name: "volumes", Steps: m.volumeSteps(l)},
		{Name: "copy", Steps: []operation.Step{m.copy()}},
		m.holdPhase(l),
		{Name: "stop the writers", Steps: m.stopSteps(l), Width: width},
		{Name: "last changes", Steps: []operation.Step{m.lastChanges()}},
	}
	phases = append(phases, m.handOver(l)...)
	for i, layer := range l.order {
		for _, phase := range m.layerPhases(l, layer) {
			m.timePhase(phase)
			if phase.Name == "start" {
				m.noteLaunches(phase.Steps)
			}
			phases = append(phases, phase)
		}
		phases = append(phases, m.announcePhase(l, i))
	}
	return phases
}

// carryTime is what the copy gets: a link that is lost shows by its silence, long before.
const carryTime = fetchTime

// copy carries everything while it is written, and says at its end what the stop will take. Its undo leaves the copies:
// nobody can have written them.
func (m *Migrate) copy() operation.Step {
	return operation.Step{
		Name: "copy to " + m.to, Participant: m.from, Timeout: carryTime, Clear: "ployzctl operation resolve " + m.operation,
		Do: func(ctx context.Context, act *operation.Act) error {
			m.pre.Arrived = func(ctx context.Context) error { return m.holdCopies(ctx, act) }
			m.pre.Settle = func(ctx context.Context) { m.settle(ctx, act) }
			plan, err := m.run(ctx, act)
			if err != nil {
				return err
			}
			m.state(act, plan)
			return nil
		},
		Undo: func(ctx context.Context, act *operation.Act) error { return m.pre.Forget(ctx, fenced(act)) },
	}
}

// run makes the rounds. A copy that went another way, since an instance wrote to it once, is destroyed, and sent anew.
func (m *Migrate) run(ctx context.Context, act *operation.Act) (storage.RoundPlan, error) {
	dropped := map[string]bool{}
	for {
		plan, err := m.pre.Run(ctx, fenced(act), m.tell(act))
		if api.CodeOf(err) != api.CodeVolumeBaseMissing || len(m.pre.Rounds) > 0 {
			return plan, err
		}
		id := api.AsError(err).Subject
		if m.names[id] == "" || dropped[id] {
			return plan, err
		}
		dropped[id] = true
		act.Note(fmt.Sprintf("the copy of %s on %s went another way, and is sent anew: %v", m.names[id], m.to, err))
		if err := m.actOn(ctx, act, m.to, Action{Verb: "drop-copy", Volume: id}); err != nil {
			return plan, err
		}
	}
}

// settle has who will stop write out what it has in memory, where its service says how (api.Quiesce). It only makes the
// stop shorter, so that a failure ends nothing.
func (m *Migrate) settle(ctx context.Context, act *operation.Act) {
	var writers []QuiesceInstance
	for _, slot := range m.slotsThatMove() {
		if q := m.presentSpec().Services[slot.Service].Quiesce; q != nil && len(q.Before) > 0 {
			writers = append(writers, QuiesceInstance{Instance: slot.Instance, Mode: api.QuiesceNone, Before: q.Before, After: q.After, Timeout: q.Timeout})
		}
	}
	if len(writers) == 0 {
		return
	}
	if err := m.actOn(ctx, act, m.from, Action{Verb: "settle", Quiesce: writers}); err != nil {
		act.Note(fmt.Sprintf("the stop may be longer than it has to be: %v", err))
	}
}

// actOn has a machine do one of the small things, as a part of a step.
func (c *change) actOn(ctx context.Context, act *operation.Act, machineName string, action Action) error {
	p, err := c.kit.Participants.Participant(ctx, machineName)
	if err != nil {
		return err
	}
	by := fenced(act)
	by.Step += ": " + action.Verb + " " + action.Volume
	return p.Act(ctx, by, action)
}

// tell has an operation show the way of what moves.
func (m *Migrate) tell(act *operation.Act) Telling {
	m.pre.Again = func(volume string, err error, pause time.Duration) { noteAgain(act, m.names[volume], err, pause) }
	return func(volume string, p storage.Progress) {
		act.Progress("volume "+m.names[volume], p.Bytes, p.TotalBytes)
	}
}

// holdCopies holds the snapshots of the copies as they are held here, such as by the commits that can be gone back to: a
// stream does not bring holds.
func (m *Migrate) holdCopies(ctx context.Context, act *operation.Act) error {
	ids := make([]string, len(m.pre.Volumes))
	for i, v := range m.pre.Volumes {
		ids[i] = v.ID
	}
	here, there, err := m.snapshotsOfBoth(ctx, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if holds := holdsToo(here[id], there[id]); len(holds) > 0 {
			if err := m.actOn(ctx, act, m.to, Action{Verb: "hold-snapshots", Volume: id, Holds: holds}); err != nil {
				return err
			}
		}
	}
	return nil
}

// snapshotsOfBoth are the snapshots on the old machine and on the new one.
func (m *Migrate) snapshotsOfBoth(ctx context.Context, ids []string) (here, there map[string][]storage.Snapshot, err error) {
	if here, err = m.snapshotsOn(ctx, m.from, ids); err == nil {
		there, err = m.snapshotsOn(ctx, m.to, ids)
	}
	return here, there, err
}

func (c *change) snapshotsOn(ctx context.Context, machineName string, ids []string) (map[string][]storage.Snapshot, error) {
	p, err := c.kit.Participants.Participant(ctx, machineName)
	if err != nil {
		return nil, err
	}
	return p.ListSnapshots(ctx, ids)
}

// holdsToo are the tags of snapshots that a copy has as well; what operations hold for themselves is not among them.
func holdsToo(own, copied []storage.Snapshot) map[string][]string {
	holds := map[string][]string{}
	for _, s := range own {
		tags := slices.DeleteFunc(slices.Clone(s.Holds), func(tag string) bool { return storage.IsOperationSnapshot(tag, s.Name) })
		same := func(c storage.Snapshot) bool { return c.Name == s.Name && c.GUID == s.GUID }
		if len(tags) > 0 && slices.ContainsFunc(copied, same) {
			holds[s.Name] = tags
		}
	}
	return holds
}

// stopSteps stop all who mount what moves; the first of them begins the stop. None is started again before its data sets
// have their names back here.
func (m *Migrate) stopSteps(l layout) []operation.Step {
	steps := m.writerSteps(l)
	for i := range steps {
		do := steps[i].Do
		steps[i].Do = m.timed(&m.stopping, do)
		if undo := steps[i].Undo; undo != nil {
			steps[i].Undo = func(ctx context.Context, act *operation.Act) error {
				if err := m.heldBack(m.away); err != nil {
					return err
				}
				return undo(ctx, act)
			}
		}
	}
	return steps
}

// heldBack is why something is not done while data sets may be where they should not: two machines would write one.
func (m *Migrate) heldBack(where map[string]bool, names ...string) error {
	m.timing.Lock()
	defer m.timing.Unlock()
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(where))
	}
	for _, name := range names {
		if where[name] {
			return api.Errorf(api.CodeVolumeInUse, "the volume %s may still have its name on %s, or not have it on %s again", name, m.to, m.from).
				About(m.ns+"/"+name).Again().WithHint("once both machines answer: ployzctl operation resolve %s", m.operation)
		}
	}
	return nil
}

// mark notes where a data set's name may be from now on.
func (m *Migrate) mark(where map[string]bool, name string, is bool) {
	m.timing.Lock()
	defer m.timing.Unlock()
	where[name] = is
}

// lastChanges carries what was written since the last round. It is not waited for much longer than was said.
func (m *Migrate) lastChanges() operation.Step {
	return operation.Step{
		Name: "carry the last changes to " + m.to, Participant: m.from, Timeout: carryTime,
		Do: m.timed(&m.carrying, func(ctx context.Context, act *operation.Act) error {
			ctx, stop := m.bounded(ctx)
			defer stop()
			if err := m.pre.Finish(ctx, fenced(act), m.tell(act)); err != nil {
				return err
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			m.moved = map[string]api.VolumeMove{}
			for i, v := range m.pre.Volumes {
				m.moved[m.names[v.ID]] = evidence(m.from, m.to, m.pre.Carried, i)
			}
			return nil
		}),
	}
}

// The least that the last changes get, and how many times the stop that was stated.
const (
	leastPatience = 30 * time.Second
	patience      = 5
)

func (m *Migrate) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	m.timing.Lock()
	defer m.timing.Unlock()
	most := max(leastPatience, patience*m.stated)
	return context.WithTimeoutCause(ctx, most, storage.TransferCut(fmt.Errorf("the last changes did not come over within %s", api.Rounded(most))))
}

// handOver takes the name of every data set here before any of them gets it there: at no moment do two have it. The commit's
// snapshots get their names, or are taken, meanwhile: of what moves nobody writes anything, neither here nor there.
func (m *Migrate) handOver(l layout) []operation.Phase {
	here, there := operation.Phase{Name: "hand over"}, operation.Phase{Name: "take over"}
	for _, d := range l.sets {
		if d.from == "" {
			continue
		}
		here.Steps, there.Steps = append(here.Steps, m.take(d)), append(there.Steps, m.give(d))
	}
	if len(here.Steps) > 0 {
		here.Steps = append(here.Steps, m.nameThere())
	}
	return append(m.snapshotPhasesBeside(l, here), there)
}

// take takes a data set's name here. Its undo gives it back once the copy does not have it.
func (m *Migrate) take(d dataset) operation.Step {
	step := m.act(d.from, Action{Verb: "retire-volume", Volume: d.spec.ID}, "retire volume "+d.name)
	do, back := step.Do, m.act(d.from, Action{Verb: "restore-volume", Volume: d.spec.ID}, "").Do
	step.Do = func(ctx context.Context, act *operation.Act) error {
		m.mark(m.away, d.name, true)
		return do(ctx, act)
	}
	step.Undo = func(ctx context.Context, act *operation.Act) error {
		err := m.heldBack(m.given, d.name)
		if err == nil {
			err = back(ctx, act)
		}
		m.mark(m.away, d.name, err != nil)
		return err
	}
	return step
}

// give gives the copy the name. Its undo takes it, and the copy where an instance may have written to it.
func (m *Migrate) give(d dataset) operation.Step {
	step := m.restoreVolume(d.machine, d.spec.ID, d.name)
	do := step.Do
	step.Do = func(ctx context.Context, act *operation.Act) error {
		m.mark(m.given, d.name, true)
		return do(ctx, act)
	}
	step.Undo = func(ctx context.Context, act *operation.Act) error {
		verb := "retire-volume"
		if m.mayBeWritten() {
			verb = "drop-copy"
		}
		err := m.actOn(ctx, act, d.machine, Action{Verb: verb, Volume: d.spec.ID})
		m.mark(m.given, d.name, err != nil)
		return err
	}
	return step
}

func (m *Migrate) mayBeWritten() bool {
	m.timing.Lock()
	defer m.timing.Unlock()
	return m.launched
}

func (m *Migrate) noteLaunches(steps []operation.Step) {
	for i := range steps {
		do := steps[i].Do
		steps[i].Do = func(ctx context.Context, act *operation.Act) error {
			m.timing.Lock()
			m.launched = true
			m.timing.Unlock()
			return do(ctx, act)
		}
	}
}

// forget ends what the rounds held, on both machines. What they both have in the end is the commit's.
func (m *Migrate) forget() operation.Step {
	return operation.Step{
		Name: "forget the snapshots of the move", Participant: m.from, Clear: "ployzctl operation resolve " + m.operation,
		Do: func(ctx context.Context, act *operation.Act) error {
			return errors.Join(m.nameHere(ctx, act), m.pre.Forget(ctx, fenced(act)))
		},
	}
}
