package deploy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
)

// The stop is stated before it begins, and measured. What it takes besides the last changes is known from the ledger, see
// migrate_past.go.

// fixed is what the stop takes with nothing left to carry.
func (m *Migrate) fixed(ctx context.Context) (time.Duration, error) {
	slots := m.slotsThatMove()
	if len(slots) == 0 {
		return 0, nil
	}
	commits, err := readCommits(ctx, m.kit.Facts, m.ns)
	if err != nil {
		return 0, err
	}
	order, _ := layers(m.next.spec) // a circle is refused elsewhere
	var stops, rest time.Duration
	starts := make([]time.Duration, len(order))
	for _, slot := range slots {
		took, err := m.usuallyTook(ctx, commits, slot)
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
	us := func(d time.Duration) api.Duration { return api.Duration(d.Round(time.Microsecond)) }
	return us(all), api.StopParts{
		Stop: us(m.stopping.took()), LastChanges: us(m.carrying.took()), Start: us(start),
		Rest: us(all - m.stopping.took() - m.carrying.took() - start),
	}
}
