package machine

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// Withdraw takes back an admission whose machine did not come to an end with joining. It never served and
// never voted, so there is nothing to move: names, keys and subnet are free again, and the token too.
type Withdraw struct {
	kit     Kit
	request api.AdmitRequest

	members []Member
	was     *Member
	token   Token
	seen    map[store.Key]store.Revision
}

// NewWithdraw takes the admission of the machine with the request's keys back.
func NewWithdraw(kit Kit, request api.AdmitRequest) *Withdraw {
	return &Withdraw{kit: kit, request: request}
}

// Kind implements operation.Operation.
func (w *Withdraw) Kind() string { return api.KindMachineWithdraw }

// Scope implements operation.Operation.
func (w *Withdraw) Scope() string { return "machine/" + w.request.Name }

// Inspect implements operation.Operation.
func (w *Withdraw) Inspect(ctx context.Context, _ operation.Situation) error {
	tokens, err := Tokens(ctx, w.kit.Facts)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t.Address == w.request.Address {
			w.token = t
		}
	}
	if w.token.Key == "" || w.token.Admits != "" && w.token.Admits != w.request.MeshKey {
		return api.Errorf(api.CodeTokenUsed, "the token did not admit this machine").About(w.request.Name).
			WithHint("on a member: ployzctl machine remove %s --lost", w.request.Name)
	}
	if w.members, err = Members(ctx, w.kit.Facts); err != nil {
		return err
	}
	for i, m := range w.members {
		if m.Name == w.request.Name && m.MeshKey == w.request.MeshKey {
			w.was = &w.members[i]
		}
	}
	return w.look(ctx)
}

func (w *Withdraw) look(ctx context.Context) error {
	w.seen = map[store.Key]store.Revision{}
	for _, key := range w.keys() {
		fact, err := w.kit.Facts.Get(ctx, key)
		if err != nil && !store.IsNotFound(err) {
			return err
		}
		w.seen[key] = fact.Revision
	}
	return nil
}

func (w *Withdraw) keys() []store.Key {
	keys := []store.Key{store.Token(TokenHash(w.token.Key))}
	if w.was != nil {
		keys = append(keys, store.Machine(w.was.ID), store.MachineName(w.was.Name), store.MachineSubnet(w.was.Number))
	}
	return keys
}

// Plan implements operation.Operation.
func (w *Withdraw) Plan() operation.Plan {
	plan := operation.Plan{
		Changes: []api.Change{{Action: "remove", Subject: "machine " + w.request.Name, Reason: "it did not come to an end with joining"}},
		Commit: operation.Commit{
			Witness: w.keys()[0], Expect: w.seen[w.keys()[0]], Content: w.request.Name, Batch: w.batch,
		},
		Resolves: true,
	}
	for _, m := range w.members {
		if w.was == nil || m.ID != w.was.ID {
			plan.Cleanup = append(plan.Cleanup, w.kit.follow(m, w.keys()[0]))
		}
	}
	return plan
}

// batch leaves the token as it was before it was used: its time goes on running.
func (w *Withdraw) batch(op string) ([]store.Put, error) {
	token := w.token
	token.Operation, token.Admits = op, ""
	p, err := put(w.keys()[0], token, w.seen[w.keys()[0]])
	p.TTL = token.lasts(w.kit.Now())
	list := []store.Put{p}
	for _, key := range w.keys()[1:] {
		list = append(list, store.Put{Key: key, Remove: true, Expect: store.Expect(w.seen[key])})
	}
	return list, err
}
