package deploy

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
)

// How long a stop takes besides the last changes is what it took before, by the ledger: the middle of the last few times,
// since one that met a machine at its busiest says nothing of the next.

// lastFew is how many times are looked at.
const lastFew = 3

// What is reckoned with where nobody knows better.
const (
	usualStop  = 300 * time.Millisecond // an instance to end
	usualStart = 2 * time.Second        // an instance to start and become ready
	usualRest  = 300 * time.Millisecond // to hand over, to commit and to be routed to
)

// took is how long a slot's instance took, and the rest of that stop.
type took struct{ stop, start, rest time.Duration }

// usuallyTook is the middle of the last few starts of a slot, part by part. An operation that made its volume too, and
// empty, tells nothing: to fill it, such as with a database, takes its time once.
func (m *Migrate) usuallyTook(ctx context.Context, commits []api.Commit, slot api.Slot) (took, error) {
	usual := took{usualStop, usualStart, usualRest}
	var times []took
	for _, id := range m.startedBy(commits, slot) {
		if m.kit.Log == nil || len(times) == lastFew {
			break
		}
		events, err := operation.History(ctx, m.kit.Log, id)
		if api.CodeOf(err) == api.CodeOperationAbsent { // the ledger does not go back so far
			break
		}
		if err != nil {
			return usual, err
		}
		times = append(times, tookIn(events, slot.Name, usual))
	}
	if len(times) == 0 {
		return usual, nil
	}
	return took{
		stop:  middle(times, func(t took) time.Duration { return t.stop }),
		start: middle(times, func(t took) time.Duration { return t.start }),
		rest:  middle(times, func(t took) time.Duration { return t.rest }),
	}, nil
}

// middle is the median, of an even number the longer one.
func middle(times []took, part func(took) time.Duration) time.Duration {
	slices.SortFunc(times, func(a, b took) int { return cmp.Compare(part(a), part(b)) })
	return part(times[len(times)/2])
}

// startedBy are the operations that started an instance of a slot and did not make a volume of it empty, newest first.
func (m *Migrate) startedBy(commits []api.Commit, slot api.Slot) (ids []string) {
	for i, c := range commits {
		is, there := c.Slots[slot.Name]
		if !there || i > 0 && commits[i-1].Slots[slot.Name].Instance == is.Instance || m.filled(c, slot) {
			continue
		}
		ids = append(ids, c.Operation)
	}
	slices.Reverse(ids)
	return ids
}

// filled says that a commit's operation made a volume of the slot, and empty as far as is known.
func (m *Migrate) filled(c api.Commit, slot api.Slot) bool {
	return slices.ContainsFunc(mounted(c.Spec, slot.Service, slot.Name), func(name string) bool {
		id := c.Volumes[name].ID
		clone := slices.ContainsFunc(m.volumes, func(v volumeFact) bool { return v.ID == id && v.Origin != nil })
		return !clone && id == volumeID(c.Operation, m.ns, name)
	})
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
