package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// The stop is stated before it begins, and measured. What it takes besides the last changes is known from the ledger: how
// long the instances took to stop and to become ready the last time.

// What is reckoned with where nobody knows better.
const (
	usualStop  = 300 * time.Millisecond // an instance to end
	usualStart = 2 * time.Second        // an instance to start and become ready
	usualRest  = 500 * time.Millisecond // to hand over, to commit and to be routed to
)

// fixed is what the stop takes with nothing left to carry.
func (m *Migrate) fixed(ctx context.Context) (time.Duration, error) {
	slots := m.slotsThatMove()
	if len(slots) == 0 {
		return 0, nil
	}
	order, _ := layers(m.next.spec) // a circle is refused elsewhere
	var stops, rest time.Duration
	starts := make([]time.Duration, len(order))
	for _, slot := range slots {
		took, err := m.lastTook(ctx, slot)
		if err != nil {
			return 0, err
		}
		stops, rest = max(stops, took.stop), max(rest, took.rest)
		for i, layer := range order {
			if slices.Contains(layer, slot.Service) {
				starts[i] = max(starts[i], took.start)
			}
		}
	}
	all := stops + rest
	for _, layer := range starts {
		all += layer
	}
	return all, nil
}

// took is how long a slot's instance took the last time, and the rest of that stop.
type took struct{ stop, start, rest time.Duration }

// lastTook reads it from the ledger of the operation that started the slot's instance. One that made its volume too, and
// empty, tells nothing: to fill it, such as with a database, takes its time once.
func (m *Migrate) lastTook(ctx context.Context, slot api.Slot) (took, error) {
	usual := took{usualStop, usualStart, usualRest}
	fact, err := m.kit.Facts.Get(ctx, store.Instance(m.ns, slot.Instance))
	if store.IsNotFound(err) || m.kit.Log == nil {
		return usual, nil
	}
	if err != nil {
		return usual, err
	}
	var is instanceFact
	if err := store.Decode(fact, &is); err != nil {
		return usual, err
	}
	for _, name := range mounted(m.presentSpec(), slot.Service, slot.Name) {
		if v := m.live(name); v != nil && v.Origin == nil && v.ID == volumeID(is.Operation, m.ns, name) {
			return usual, nil
		}
	}
	events, err := operation.History(ctx, m.kit.Log, is.Operation)
	if api.CodeOf(err) == api.CodeOperationAbsent { // the ledger does not go back so far
		return usual, nil
	}
	return tookIn(events, slot.Name, usual), err
}

// tookIn adds up the steps that were about a slot. A migration tells the rest, too.
func tookIn(events []api.Event, slot string, usual took) took {
	done := map[string]time.Duration{}
	var outcome json.RawMessage
	for _, e := range events {
		if e.Type == api.EventStepDone {
			done[e.Step] = e.Took.D(0)
		}
		if e.Type == api.EventOutcome && e.Outcome != nil {
			outcome = e.Outcome.Value
		}
	}
	is := usual
	var moved api.MigrateResult
	if json.Unmarshal(outcome, &moved) == nil && moved.StopParts.Rest > 0 { // an older one has no parts
		is.rest = moved.StopParts.Rest.D(0)
	}
	if stop, known := done["stop the old "+slot]; known {
		is.stop = stop
	}
	if ready, known := done["ready "+slot]; known {
		is.start = done["start "+slot] + ready
	}
	return is
}

// state tells the operator what the stop will take, before it begins.
func (m *Migrate) state(act *operation.Act, plan storage.RoundPlan) {
	m.timing.Lock()
	m.stated = plan.Stop.Round(time.Millisecond)
	m.timing.Unlock()
	var names []string
	for _, slot := range m.slotsThatMove() {
		names = append(names, slot.Name)
	}
	if len(names) == 0 {
		act.Note(fmt.Sprintf("nobody mounts %s, and nobody is stopped", strings.Join(slices.Sorted(maps.Keys(m.moves)), ", ")))
		return
	}
	act.Note(fmt.Sprintf("the stop of %s will take about %s: %s for the last changes, at %.1f MB/s, and %s to stop, start and be routed to",
		strings.Join(names, ", "), api.Rounded(m.stated), api.Rounded(m.stated-m.pre.Fixed), plan.BytesPerSecond/1e6, api.Rounded(m.pre.Fixed)))
}

// span is from the first of some steps' beginning to the last one's end; zero where none was.
type span struct{ from, to time.Time }

func (s span) took() time.Duration { return s.to.Sub(s.from) }

// timed notes when a step begins and ends.
func (m *Migrate) timed(s *span, do func(context.Context, *operation.Act) error) func(context.Context, *operation.Act) error {
	return func(ctx context.Context, act *operation.Act) error {
		m.timing.Lock()
		if s.from.IsZero() {
			s.from = time.Now()
		}
		m.timing.Unlock()
		err := do(ctx, act)
		m.timing.Lock()
		defer m.timing.Unlock()
		s.to = time.Now()
		return err
	}
}

// timePhase notes how long one of a layer's phases takes.
func (m *Migrate) timePhase(phase operation.Phase) {
	if phase.Name != "start" && phase.Name != "ready" {
		return
	}
	s := &span{}
	m.starting = append(m.starting, s)
	for i := range phase.Steps {
		phase.Steps[i].Do = m.timed(s, phase.Steps[i].Do)
	}
}

// measured is the stop as it was; zero where nobody was stopped. The caller holds timing.
func (m *Migrate) measured() (api.Duration, api.StopParts) {
	if m.stopping.from.IsZero() || m.routing.to.IsZero() {
		return 0, api.StopParts{}
	}
	all := m.routing.to.Sub(m.stopping.from)
	var start time.Duration
	for _, s := range m.starting {
		start += s.took()
	}
	ms := func(d time.Duration) api.Duration { return api.Duration(d.Round(time.Millisecond)) }
	return ms(all), api.StopParts{
		Stop: ms(m.stopping.took()), LastChanges: ms(m.carrying.took()), Start: ms(start),
		Rest: ms(all - m.stopping.took() - m.carrying.took() - start),
	}
}
