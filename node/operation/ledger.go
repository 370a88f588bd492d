package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// entries is one run's hand on the ledger: it numbers, stamps, stores and shows.
type entries struct {
	log      store.Log
	base     api.Event // operation, kind and scope of every entry
	opened   time.Time
	now      func() time.Time
	audience func(api.Event)

	mu    sync.Mutex // guards the rest, and keeps the audience's events in order
	count int
	// waiting are the entries that go with the next write.
	waiting []api.Event
}

// entry is a record of the ledger: the event that could not wait, after those that could. To make a record durable takes
// the store some milliseconds, and what stops for an operation waits for each.
type entry struct {
	api.Event
	Before []api.Event `json:"before,omitempty"`
}

// write makes entries durable, after those that wait, and then shows them. Errors: operation.ledger-unavailable; then those
// that waited go on waiting.
func (e *entries) write(ctx context.Context, events ...api.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range events {
		e.stamp(&events[i])
	}
	all := slices.Concat(e.waiting, events)
	last := len(all) - 1
	value, err := json.Marshal(entry{Event: all[last], Before: all[:last]})
	if err != nil {
		return api.Errorf(api.CodeInternal, "encoding a ledger entry: %w", err)
	}
	e.count++
	if err := e.append(ctx, fmt.Sprintf("%s/%d", e.base.Operation, e.count), value); err != nil {
		return api.Errorf(api.CodeLedgerDown, "the ledger entry %q could not be written: %w", all[last].Type, err).
			Again().WithHint("look at the store: ployzctl status")
	}
	e.waiting = nil
	for _, event := range all {
		e.audience(event)
	}
	return nil
}

// later has an entry go with the next one that is written. It is for what nothing depends on, and where that next one
// follows at once.
func (e *entries) later(event api.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stamp(&event)
	e.waiting = append(e.waiting, event)
}

// ledgerTimeout bounds the writing of one entry.
const ledgerTimeout = 10 * time.Second

// append is not cut short by the caller: a step that ended well must not look like a broken ledger because
// its operation was cancelled meanwhile. An entry without an answer is sent once more; its id makes it the same one.
func (e *entries) append(ctx context.Context, id string, value []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ledgerTimeout)
	defer cancel()
	_, err := e.log.Append(ctx, e.base.Operation, id, value)
	if store.IsUncertain(err) {
		_, err = e.log.Append(ctx, e.base.Operation, id, value)
	}
	return err
}

// show gives the audience an event that is not kept.
func (e *entries) show(event api.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stamp(&event)
	e.audience(event)
}

func (e *entries) stamp(event *api.Event) {
	event.Operation, event.Kind, event.Scope = e.base.Operation, e.base.Kind, e.base.Scope
	event.Time = e.now().UTC()
	event.Elapsed = api.Duration(event.Time.Sub(e.opened).Round(time.Millisecond))
}

// History reads one operation's entries in order. Errors: operation.not-found, store.*.
func History(ctx context.Context, log store.Log, operation string) ([]api.Event, error) {
	records, err := log.History(ctx, operation)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, api.Errorf(api.CodeOperationAbsent, "no operation %s in the ledger", operation).
			WithHint("list them: ployzctl operation ls")
	}
	var events []api.Event
	for _, r := range records {
		list, err := Entries(r)
		if err != nil {
			return nil, err
		}
		events = append(events, list...)
	}
	return events, nil
}

// Entries are those that one record of the ledger holds, in order: one at least. Errors: internal.error.
func Entries(r store.Record) ([]api.Event, error) {
	var e entry
	if err := json.Unmarshal(r.Value, &e); err != nil {
		return nil, api.Errorf(api.CodeInternal, "the ledger entry %d of %s is damaged: %w", r.Revision, r.Operation, err)
	}
	return append(e.Before, e.Event), nil
}

// Summarise turns an operation's entries into one line. running says whether its lease is held.
func Summarise(events []api.Event, running bool) api.OperationSummary {
	first := events[0]
	sum := api.OperationSummary{
		Operation: first.Operation, Kind: first.Kind, Scope: first.Scope,
		Caller: first.Caller, Opened: first.Time,
	}
	result, err := ending(events)
	sum.State, sum.Error = string(result), err
	if _, closed := outcome(events); running && !closed {
		sum.State, sum.Error = "running", nil
	}
	for _, e := range events {
		if e.Type == api.EventResolved {
			sum.ResolvedBy = e.By
		}
	}
	return sum
}

// ending is how an operation ended, by its entries alone. One that nobody closed was interrupted, unless
// nothing follows its opening: every act has its entry first, so it touched nothing.
func ending(events []api.Event) (api.Result, *api.Error) {
	if out, closed := outcome(events); closed {
		return out.Outcome, out.Error
	}
	for _, e := range events {
		if e.Type != api.EventOpened && e.Type != api.EventResolved {
			return api.Interrupted, nil
		}
	}
	return api.Refused, api.Errorf(api.CodeInterrupted, "its coordinator died before it touched anything").About(events[0].Scope)
}

// outcome is the entry that closed the operation, if there is one.
func outcome(events []api.Event) (api.Outcome, bool) {
	for _, e := range events {
		if e.Type == api.EventOutcome {
			return *e.Outcome, true
		}
	}
	return api.Outcome{}, false
}

// committed reports whether an unfinished operation's commit is in the store, by the
// witness it named before it sent the commit.
func committed(ctx context.Context, facts store.Facts, events []api.Event) (bool, error) {
	for _, e := range events {
		switch e.Type {
		case api.EventCommitted:
			return true, nil
		case api.EventCommitSent:
			fact, err := facts.Get(ctx, store.Key(e.Witness))
			if err != nil && !store.IsNotFound(err) {
				return false, err
			}
			return witnessOf(fact.Value) == e.Operation, nil
		}
	}
	return false, nil
}
