package machine

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// Rescuer lets the store go on without voters that are gone for good.
type Rescuer interface {
	// Check returns what stands in the way: a majority is there, an abandoned voter answers, another one does
	// not, or a machine holds facts that no voter that is left holds.
	Check(ctx context.Context, abandoned, rest []Member) ([]*api.Error, error)
	// Fence has a machine that stays refuse those that are gone, whatever they say, or let them in again.
	Fence(ctx context.Context, act *operation.Act, on Member, gone []Member, fenced bool) error
}

// Recover gives machines up that the store cannot be written without. Lease and ledger are in this machine's own
// journal. The rescue of the core cannot be undone, so it is a part of the commit: whoever carries that out makes
// the core one that can be written, by Given, and writes it.
type Recover struct {
	kit     Kit
	view    Reader
	rescuer Rescuer
	request api.RecoverRequest

	cluster    Cluster
	gone, rest []Member
	left       []Member // the voters that stay
	seen       map[store.Key]store.Revision
	problems   []*api.Error
}

// NewRecover gives machines up; view is the machine's own mirror.
func NewRecover(kit Kit, view Reader, rescuer Rescuer, request api.RecoverRequest) *Recover {
	return &Recover{kit: kit, view: view, rescuer: rescuer, request: request}
}

// Kind implements operation.Operation.
func (r *Recover) Kind() string { return api.KindStoreRecover }

// Scope implements operation.Operation.
func (r *Recover) Scope() string { return "cluster" }

// Inspect implements operation.Operation.
func (r *Recover) Inspect(ctx context.Context, before operation.Situation) error {
	fact, err := r.view.Get(ctx, store.Cluster())
	if err != nil {
		return err
	}
	if err := store.Decode(fact, &r.cluster); err != nil {
		return err
	}
	members, err := Members(ctx, r.view)
	if err != nil {
		return err
	}
	if err := r.split(members); err != nil {
		return err
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	if before.Unfinished != nil {
		return nil // it may have made a majority already
	}
	r.problems, err = r.rescuer.Check(ctx, voters(r.gone, r.cluster), r.left)
	return err
}

// split tells those that are given up from those that stay.
func (r *Recover) split(members []Member) error {
	if len(r.request.Abandon) == 0 {
		return api.Errorf(api.CodeBadRequest, "name the machines that are gone for good").About("--abandon")
	}
	for _, name := range r.request.Abandon {
		m, err := Named(members, name)
		if err != nil {
			m, err = Named(r.cluster.Gone, name) // an earlier try committed
		}
		if err != nil {
			return err
		}
		if m.Name == r.kit.Machine {
			return api.Errorf(api.CodeBadRequest, "the machine that answers is not gone").About("--abandon " + name)
		}
		r.gone = append(r.gone, m)
	}
	for _, m := range members {
		if !containsMember(r.gone, m) {
			r.rest = append(r.rest, m)
		}
	}
	r.left = voters(r.rest, r.cluster)
	if len(r.left) == 0 {
		return api.Errorf(api.CodeStoreNotRescuable, "no voter would be left").About("store").
			WithHint("go on from a machine's own copy: ployzctl store reform --abandon %s", strings.Join(r.request.Abandon, ","))
	}
	return nil
}

func (r *Recover) keys() []store.Key {
	keys := []store.Key{store.Cluster()}
	for _, m := range r.gone {
		keys = append(keys, store.Machine(m.ID), store.MachineName(m.Name), store.MachineSubnet(m.Number))
	}
	return keys
}

func (r *Recover) look(ctx context.Context) error {
	r.seen = map[store.Key]store.Revision{}
	for _, key := range r.keys() {
		fact, err := r.view.Get(ctx, key)
		if store.IsNotFound(err) {
			continue // an earlier try freed it
		}
		if err != nil {
			return err
		}
		r.seen[key] = fact.Revision
	}
	return nil
}

// Given are the machines that are given up, and the voters that stay. Known once the plan is made.
func (r *Recover) Given() (gone, left []Member) { return r.gone, r.left }

// Plan implements operation.Operation.
func (r *Recover) Plan() operation.Plan {
	return operation.Plan{
		Requirements: metAll("the store can go on without them", r.problems),
		Changes:      r.changes(),
		Phases:       []operation.Phase{{Name: "fence", Steps: r.fences()}},
		Commit: operation.Commit{
			Witness: store.Cluster(), Expect: r.seen[store.Cluster()], Content: r.request, Batch: r.batch,
		},
		Cleanup:  r.cleanup(),
		Resolves: true,
	}
}

func (r *Recover) changes() []api.Change {
	var list []api.Change
	for _, m := range r.gone {
		list = append(list, api.Change{
			Action: "remove", Subject: "machine " + m.Name, Machine: m.Name, From: m.Subnet4.String(),
			Reason: "given up: what it alone held is lost, and it must not come back",
		})
	}
	return append(list, seatChanges(append(slices.Clone(r.left), voters(r.gone, r.cluster)...), r.left)...)
}

// fences are one step per machine that stays: together the others might still be a majority.
func (r *Recover) fences() []operation.Step {
	var steps []operation.Step
	for _, m := range r.rest {
		set := func(fenced bool) func(context.Context, *operation.Act) error {
			return func(ctx context.Context, act *operation.Act) error {
				return r.rescuer.Fence(ctx, act, m, r.gone, fenced)
			}
		}
		steps = append(steps, operation.Step{
			Name: "fence them off on " + m.Name, Participant: m.Name, Clear: "systemctl restart ployzd", Do: set(true), Undo: set(false),
		})
	}
	return steps
}

func (r *Recover) batch(op string) ([]store.Put, error) {
	c := r.cluster
	c.Operation, c.Voters, c.Gone = op, ids(r.left), r.gone
	p, err := put(store.Cluster(), c, r.seen[store.Cluster()])
	list := []store.Put{p}
	for _, key := range r.keys()[1:] {
		if seen, its := r.seen[key]; its {
			list = append(list, store.Put{Key: key, Remove: true, Expect: store.Expect(seen)})
		}
	}
	return list, err
}

func (r *Recover) cleanup() []operation.Step {
	var steps []operation.Step
	for _, m := range r.rest {
		steps = append(steps, r.kit.follow(m, store.Cluster()))
	}
	for _, m := range r.gone {
		steps = append(steps, operation.Step{
			Name: "revoke the keys of " + m.Name, Timeout: time.Minute, Clear: "ployzctl store status",
			Do: func(ctx context.Context, _ *operation.Act) error { return r.kit.Fleet.Revoke(ctx, m) },
		})
	}
	return steps
}
