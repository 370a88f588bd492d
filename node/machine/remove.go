package machine

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// Remove takes a machine out of the cluster: its vote in the store moves first, then the membership goes, and
// with it every right that its keys had. It is never coordinated by the machine that leaves.
type Remove struct {
	kit     Kit
	request api.MachineRemoveRequest

	cluster  Cluster
	members  []Member
	gone     Member
	holds    []string
	from, to []Member
	seen     map[store.Key]store.Revision
	stayed   []store.Put
	named    bool // the machine has its name still
	problems []operation.Requirement
}

// NewRemove removes a machine.
func NewRemove(kit Kit, request api.MachineRemoveRequest) *Remove {
	return &Remove{kit: kit, request: request}
}

// Kind implements operation.Operation.
func (r *Remove) Kind() string { return api.KindMachineRemove }

// Scope implements operation.Operation.
func (r *Remove) Scope() string { return "cluster" }

// Inspect implements operation.Operation.
func (r *Remove) Inspect(ctx context.Context, before operation.Situation) error {
	members, err := r.kit.read(ctx, &r.cluster)
	if err != nil {
		return err
	}
	if r.gone, err = Named(members, r.request.Machine); err != nil && !r.landed() {
		return err
	}
	r.members = slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.ID == r.gone.ID })
	if err := r.look(ctx); err != nil {
		return err
	}
	if r.stayed, err = r.kit.stayed(ctx, r.gone.Name); err != nil {
		return err
	}
	if r.holds, err = r.kit.Holds(ctx, r.gone.Name); err != nil {
		return err
	}
	if err := r.kit.takeOver(ctx, members, r.Scope(), before); err != nil {
		return err
	}
	r.to = seating(r.members, r.cluster.Voters, votersFor(len(r.members), len(r.cluster.Voters)))
	if r.from, err = r.kit.seated(ctx, append(slices.Clone(r.members), r.gone), r.cluster, r.to, before.Unfinished); err != nil {
		return err
	}
	r.problems = []operation.Requirement{
		operation.Met("another machine coordinates", r.otherCoordinates()),
		operation.Met("another machine is left", r.anotherLeft()),
		operation.Met("it holds nothing alone", r.holdsNothing()),
		operation.Met("nobody is reached by it", relaysNobody(r.members, r.gone)),
	}
	if slices.Equal(ids(r.from), ids(r.to)) || len(r.members) == 0 {
		return nil
	}
	leaving := r.gone
	if len(r.to) >= len(r.from) { // another is seated before it goes
		leaving = Member{}
	}
	unmet, err := r.kit.Seats.Check(ctx, leaving, r.request.Lost)
	r.problems = append(r.problems, metAll("the store can change its voters", unmet)...)
	r.problems = append(r.problems, r.kit.newcomersObey(ctx, r.from, r.to, r.Scope(), before)...)
	return err
}

// landed recognises a removal that committed before: what is left of it, if anything, is cleaning up.
func (r *Remove) landed() bool {
	gone, err := Named(r.cluster.Gone, r.request.Machine)
	if err != nil {
		return false
	}
	r.gone = gone
	return true
}

func (r *Remove) keys() []store.Key {
	return []store.Key{
		store.Cluster(), store.Machine(r.gone.ID), store.MachineName(r.gone.Name), store.MachineSubnet(r.gone.Number),
	}
}

// look notes the revisions that the commit expects. A name or subnet that another machine has claimed since, as
// when the removal is repeated, is that one's: it is not noted, and not freed.
func (r *Remove) look(ctx context.Context) error {
	r.seen = map[store.Key]store.Revision{}
	for _, key := range r.keys() {
		fact, err := r.kit.Facts.Get(ctx, key)
		if err != nil && !store.IsNotFound(err) {
			return err
		}
		var c claim
		if err == nil && json.Unmarshal(fact.Value, &c) == nil && c.Machine != "" && c.Machine != r.gone.ID {
			continue
		}
		r.seen[key] = fact.Revision
		r.named = r.named || key == store.MachineName(r.gone.Name) && err == nil
	}
	return nil
}

func (r *Remove) otherCoordinates() *api.Error {
	if r.kit.Machine != r.gone.Name {
		return nil
	}
	return api.Errorf(api.CodeMachineLast, "the machine that leaves cannot coordinate its own removal").About(r.gone.Name).
		WithHint("ask another: ployzctl --host ssh://root@OTHER machine remove %s", r.gone.Name)
}

func (r *Remove) anotherLeft() *api.Error {
	if len(r.members) > 0 {
		return nil
	}
	return api.Errorf(api.CodeMachineLast, "it is the cluster's last machine").About(r.gone.Name).
		WithHint("to give the whole cluster up: apt purge ployz")
}

func (r *Remove) holdsNothing() *api.Error {
	if len(r.holds) == 0 || r.request.Lost {
		return nil
	}
	return api.Errorf(api.CodeMachineHolds, "it holds %d instances and volumes: %s", len(r.holds), strings.Join(r.holds, ", ")).About(r.gone.Name).
		WithHint("move them: ployzctl machine drain %s, then deploy their namespaces again, and those with volumes: ployzctl migrate --all --from %s; or, if it is gone for good: --lost", r.gone.Name, r.gone.Name)
}

// Plan implements operation.Operation.
func (r *Remove) Plan() operation.Plan {
	return operation.Plan{
		Requirements: r.problems,
		Changes:      r.changes(),
		Phases:       []operation.Phase{{Name: "close", Steps: r.closing()}, {Name: "seats", Steps: r.kit.reseat(r.from, r.to, r.request.Lost)}},
		Commit: operation.Commit{
			Witness: store.Cluster(), Expect: r.seen[store.Cluster()], Content: r.request, Batch: r.batch,
		},
		Cleanup:  r.cleanup(),
		Resolves: true,
	}
}

func (r *Remove) changes() []api.Change {
	list := []api.Change{{Action: "remove", Subject: "machine " + r.gone.Name, Machine: r.gone.Name, From: r.gone.Subnet4.String()}}
	for _, held := range r.holds {
		list = append(list, api.Change{Action: "remove", Subject: held, Machine: r.gone.Name, Reason: "lost with the machine; deploy its namespace to place it anew"})
	}
	return append(list, seatChanges(r.from, r.to)...)
}

// batch frees everything that was claimed in the machine's name.
func (r *Remove) batch(op string) ([]store.Put, error) {
	c := r.cluster
	c.Operation, c.Voters, c.Gone = op, ids(r.to), []Member{r.gone}
	p, err := put(store.Cluster(), c, r.seen[store.Cluster()])
	list := append([]store.Put{p}, r.stayed...)
	for _, key := range r.keys()[1:] {
		if seen, its := r.seen[key]; its {
			list = append(list, store.Put{Key: key, Remove: true, Expect: store.Expect(seen)})
		}
	}
	return list, err
}

// cleanup tells the machine first, while it is still listened to, and then makes sure that its keys
// open nothing any more.
func (r *Remove) cleanup() []operation.Step {
	var steps []operation.Step
	if !r.request.Lost {
		steps = append(steps, operation.Step{
			Name: "leave", Participant: r.gone.Name, Timeout: time.Minute, Clear: "on " + r.gone.Name + ": apt purge ployz",
			Do: func(ctx context.Context, act *operation.Act) error { return r.kit.Fleet.Leave(ctx, act, r.gone) },
		})
	}
	for _, m := range r.members {
		steps = append(steps, r.kit.follow(m, store.Cluster()))
	}
	return append(steps, operation.Step{
		Name: "revoke the keys of " + r.gone.Name, Timeout: time.Minute, Clear: "ployzctl store status",
		Do: func(ctx context.Context, _ *operation.Act) error { return r.kit.Fleet.Revoke(ctx, r.gone) },
	})
}
