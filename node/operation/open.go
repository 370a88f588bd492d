package operation

import (
	"context"
	"encoding/json"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// openFact marks a scope while an operation is on its way, and after it if it never reached a clean end.
type openFact struct {
	Operation string `json:"operation"`
	// Before are the unfinished operations that this one found, newest first. It owes their
	// clearing too: should it be interrupted in turn, the next one finds all of them here.
	Before []Unfinished `json:"before,omitempty"`
}

// ReadFact returns why an open fact cannot be read, or nil; of every other it says nothing.
func ReadFact(fact store.Fact) error {
	if !fact.Key.Under(store.Opens()) {
		return nil
	}
	return json.Unmarshal(fact.Value, &openFact{})
}

// unfinished finds the operations that left the scope open, newest first, and the fact that says so.
func (r *Runner) unfinished(ctx context.Context, scope string) ([]Unfinished, store.Fact, error) {
	fact, err := r.Facts.Get(ctx, store.Open(scope))
	if store.IsNotFound(err) {
		return nil, fact, nil
	}
	if err != nil {
		return nil, fact, err
	}
	var open openFact
	if err := store.Decode(fact, &open); err != nil {
		return nil, fact, err
	}
	events, err := History(ctx, r.Log, open.Operation)
	if err != nil {
		return nil, fact, err
	}
	switch result, _ := ending(events); result {
	case api.Committed, api.CommittedLeftovers: // only the giving back failed; what was before it is cleared
		return nil, fact, nil
	case api.Refused, api.RolledBack: // only the giving back failed; what was before it is as it was
		return open.Before, fact, nil
	}
	landed, err := committed(ctx, r.Facts, events)
	last := Unfinished{Operation: open.Operation, Kind: events[0].Kind, Committed: landed}
	return append([]Unfinished{last}, open.Before...), fact, err
}

// newest is the first of a chain, or nil.
func newest(chain []Unfinished) *Unfinished {
	if len(chain) == 0 {
		return nil
	}
	return &chain[0]
}

// earlier is a chain without its first.
func earlier(chain []Unfinished) []Unfinished { return chain[min(1, len(chain)):] }

// mark makes the scope's open fact name this run.
func (x *run) mark(ctx context.Context) error {
	key := store.Open(x.req.Operation.Scope())
	value, err := json.Marshal(openFact{Operation: x.id, Before: x.unfinished})
	if err != nil {
		return api.Errorf(api.CodeInternal, "encoding the fact %s: %w", key, err)
	}
	_, err = x.lease.Commit(ctx, store.Batch{ID: x.id + "-open", Puts: []store.Put{{
		Key: key, Value: value, Expect: store.Expect(x.before.Revision),
	}}})
	// One without an answer is taken back as if it had landed: the batch that gives the lease back
	// also keeps it from landing later.
	x.marked = err == nil || store.IsUncertain(err)
	return err
}

// reopen is what puts the open fact back to what this run found.
func (x *run) reopen() []store.Put {
	if !x.marked {
		return nil
	}
	if len(x.unfinished) == 0 {
		return []store.Put{x.unmark()}
	}
	return []store.Put{{Key: store.Open(x.req.Operation.Scope()), Value: x.before.Value}}
}

// unmark takes the open fact away. The removal stays: one that is forgotten would leave the fact
// for ever in a mirror that was away meanwhile.
func (x *run) unmark() store.Put {
	return store.Put{Key: store.Open(x.req.Operation.Scope()), Remove: true}
}

// resolve closes the ledger entries of the unfinished operations that this one cleared.
func (x *run) resolve() {
	for _, left := range x.unfinished {
		old := &entries{
			log: x.runner.Log, base: api.Event{Operation: left.Operation, Kind: left.Kind, Scope: x.req.Operation.Scope()},
			opened: x.runner.Now(), now: x.runner.Now, audience: func(api.Event) {}, count: resolvedEntry,
		}
		message := "its commit had not landed"
		if left.Committed {
			message = "its commit had landed"
		}
		if err := old.write(x.detached, api.Event{Type: api.EventResolved, By: x.id, Message: message}); err != nil {
			x.ledger.show(api.Event{Type: api.EventNote, Message: "the ledger of " + left.Operation + " could not be closed", Error: api.AsError(err)})
		}
	}
}

// resolvedEntry numbers the entry that another operation adds, far above the operation's own.
const resolvedEntry = 1_000_000
