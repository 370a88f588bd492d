package machine

import (
	"context"
	"strconv"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// A removal and a deploy have different scopes, so both may run at once. They meet at the claim of the machine's
// name, which nothing writes but an admission, a removal that begins, and one that ends: a deploy's commit is guarded
// by it, and a removal writes it before it looks for the last time at what the machine holds.

// Tenure is a machine's claim of its name, as a commit that places something on it is guarded by it.
type Tenure struct {
	Check store.Check
	// Leaving is the operation that removes the machine, or "".
	Leaving string

	claim claim
}

// Tenures reads them, by the machines' names. One that has none has left.
func Tenures(ctx context.Context, facts Lister) (map[string]Tenure, error) {
	list, err := facts.List(ctx, store.MachineNames())
	if err != nil {
		return nil, err
	}
	found := map[string]Tenure{}
	for _, fact := range list {
		t := Tenure{Check: store.Check{Key: fact.Key, Expect: fact.Revision}}
		if err := store.Decode(fact, &t.claim); err != nil {
			return nil, err
		}
		t.Leaving = t.claim.Leaving
		found[fact.Key.Last()] = t
	}
	return found, nil
}

// closing is the step after which no deploy commits onto the machine, and everything that did is known.
func (r *Remove) closing() []operation.Step {
	if !r.named {
		return nil // an earlier try freed it
	}
	return []operation.Step{{
		Name: "close " + r.gone.Name + " to deploys", Clear: "ployzctl store voters",
		Do: func(ctx context.Context, act *operation.Act) error {
			if err := r.mark(ctx, act); err != nil {
				return err
			}
			var err error
			if r.holds, err = r.kit.Holds(ctx, r.gone.Name); err != nil {
				return err
			}
			if e := r.holdsNothing(); e != nil {
				return e
			}
			return nil
		},
		Undo: r.reopen,
	}}
}

// mark writes who removes the machine.
func (r *Remove) mark(ctx context.Context, act *operation.Act) error {
	batch, _, err := r.marking(ctx, act, act.Operation)
	if err != nil {
		return err
	}
	r.seen[batch.Puts[0].Key], err = act.Commit(ctx, batch)
	return err
}

// reopen takes the mark back: also where there is none, so that one whose answer was lost cannot land any more. That
// needs no lease, since the mark names the operation: whoever took over has written his own, or took it back.
func (r *Remove) reopen(ctx context.Context, act *operation.Act) error {
	batch, was, err := r.marking(ctx, act, "")
	if store.IsNotFound(err) || err == nil && was != "" && was != act.Operation {
		return nil
	}
	if err != nil {
		return err
	}
	batch.ID += "-unheld"
	_, err = r.kit.Facts.Commit(ctx, batch)
	return err
}

// marking is the batch that writes who removes the machine, and who does so far.
func (r *Remove) marking(ctx context.Context, act *operation.Act, leaving string) (batch store.Batch, was string, err error) {
	fact, err := r.kit.Facts.Get(ctx, store.MachineName(r.gone.Name))
	if err != nil {
		return batch, "", err
	}
	var c claim
	if err := store.Decode(fact, &c); err != nil {
		return batch, "", err
	}
	p, err := put(fact.Key, claim{Machine: r.gone.ID, Leaving: leaving}, fact.Revision)
	id := act.Operation + "-leaving-" + strconv.FormatUint(uint64(fact.Revision), 10)
	return store.Batch{ID: id, Puts: []store.Put{p}}, c.Leaving, err
}

// stayed takes back the marks of removals that did not come to their end, but for that of gone.
func (k Kit) stayed(ctx context.Context, gone string) ([]store.Put, error) {
	tenures, err := Tenures(ctx, k.Facts)
	if err != nil {
		return nil, err
	}
	var list []store.Put
	for name, t := range tenures {
		if t.Leaving == "" || name == gone {
			continue
		}
		p, err := put(t.Check.Key, claim{Machine: t.claim.Machine}, t.Check.Expect)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// Left is what a commit is told that would have placed something on a machine that leaves.
func Left(name string) *api.Error {
	return api.Errorf(api.CodeMachineLeaving, "it left the cluster, or is about to, while this ran").About(name).Again().
		WithHint("repeat: another machine is chosen; ployzctl machine ls shows who is left")
}
