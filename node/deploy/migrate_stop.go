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
	var stops time.Duration
	starts := make([]time.Duration, len(order))
	for _, slot := range slots {
		took, err := m.lastTook(ctx, slot)
		if err != nil {
			return 0, err
		}
		stops = max(stops, took.stop)
		for i, layer := range order {
			if slices.Contains(layer, slot.Service) {
				starts[i] = max(starts[i], took.start)
			}
		}
	}
	all := stops + usualRest
	for _, layer := range starts {
		all += layer
	}
	return all, nil
}

// took is how long a slot's instance took the last time.
type took struct{ stop, start time.Duration }

// lastTook reads it from the ledger of the operation that started the slot's instance. One that made its volume too, and
// empty, tells nothing: to fill it, such as with a database, takes its time once.
func (m *Migrate) lastTook(ctx context.Context, slot api.Slot) (took, error) {
	usual := took{usualStop, usualStart}
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

// tookIn adds up the steps that were about a slot.
func tookIn(events []api.Event, slot string, usual took) took {
	done := map[string]time.Duration{}
	for _, e := range events {
		if e.Type == api.EventStepDone {
			done[e.Step] = e.Took.D(0)
		}
	}
	is := usual
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
		strings.Join(names, ", "), m.stated, (m.stated - m.pre.Fixed).Round(time.Millisecond), plan.BytesPerSecond/1e6, m.pre.Fixed))
}

func (m *Migrate) begins() {
	m.timing.Lock()
	defer m.timing.Unlock()
	if m.began.IsZero() {
		m.began = time.Now()
	}
}

// timed notes when a machine routes to the new instances.
func (m *Migrate) timed(do func(context.Context, *operation.Act) error) func(context.Context, *operation.Act) error {
	return func(ctx context.Context, act *operation.Act) error {
		err := do(ctx, act)
		m.timing.Lock()
		defer m.timing.Unlock()
		m.served = time.Now()
		return err
	}
}
