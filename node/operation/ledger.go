package operation

import (
	"context"
	"encoding/json"
	"fmt"
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

	mu    sync.Mutex // guards count, and keeps the audience's events in order
	count int
}

// write makes an entry durable and then shows it. Errors: operation.ledger-unavailable.
func (e *entries) write(ctx context.Context, event api.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stamp(&event)
	value, err := json.Marshal(event)
	if err != nil {
		return api.Errorf(api.CodeInternal, "encoding a ledger entry: %w", err)
	}
	e.count++
	id := fmt.Sprintf("%s/%d", e.base.Operation, e.count)
	if _, err := e.log.Append(ctx, e.base.Operation, id, value); err != nil {
		return api.Errorf(api.CodeLedgerDown, "the ledger entry %q could not be written: %w", event.Type, err).
			Again().WithHint("look at the store: ployzctl status")
	}
	e.audience(event)
	return nil
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
	events := make([]api.Event, len(records))
	for i, r := range records {
		if err := json.Unmarshal(r.Value, &events[i]); err != nil {
			return nil, api.Errorf(api.CodeInternal, "ledger entry %d of %s is damaged: %w", i, operation, err)
		}
	}
	return events, nil
}

// Summarise turns an operation's entries into one line. running says whether its lease is held.
func Summarise(events []api.Event, running bool) api.OperationSummary {
	first := events[0]
	sum := api.OperationSummary{
		Operation: first.Operation, Kind: first.Kind, Scope: first.Scope,
		Caller: first.Caller, Opened: first.Time, State: string(api.Interrupted),
	}
	if running {
		sum.State = "running"
	}
	for _, e := range events {
		switch e.Type {
		case api.EventOutcome:
			sum.State, sum.Error = string(e.Outcome.Outcome), e.Outcome.Error
		case api.EventResolved:
			sum.ResolvedBy = e.By
		}
	}
	return sum
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
