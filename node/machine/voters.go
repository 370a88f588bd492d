package machine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// seat gives a machine a vote; its undo takes it away again.
func (k Kit) seat(m Member, beside []Member, copies int) operation.Step {
	return operation.Step{
		Name: "seat " + m.Name, Participant: m.Name, Timeout: time.Duration(seatTimeout), Clear: "ployzctl store voters",
		Do:   func(ctx context.Context, act *operation.Act) error { return k.Seats.Add(ctx, act, m, beside, copies) },
		Undo: func(ctx context.Context, act *operation.Act) error { return k.Seats.Take(ctx, act, m, beside, false) },
	}
}

// unseat takes a vote away; its undo gives it back, to a core that starts anew.
func (k Kit) unseat(m Member, rest []Member, lost bool, copies int) operation.Step {
	step := operation.Step{
		Name: "unseat " + m.Name, Participant: m.Name, Timeout: time.Duration(seatTimeout), Clear: "ployzctl store voters",
		Do: func(ctx context.Context, act *operation.Act) error { return k.Seats.Take(ctx, act, m, rest, lost) },
	}
	if !lost { // who is lost cannot be given it back
		step.Undo = func(ctx context.Context, act *operation.Act) error { return k.Seats.Add(ctx, act, m, rest, copies) }
	}
	return step
}

// Voters changes how many machines vote in the store.
type Voters struct {
	kit     Kit
	request api.VotersRequest

	cluster  Cluster
	seen     store.Revision
	members  []Member
	from, to []Member
	stayed   []store.Put
	problems []operation.Requirement
}

// NewVoters changes the number of voters.
func NewVoters(kit Kit, request api.VotersRequest) *Voters {
	return &Voters{kit: kit, request: request}
}

// Kind implements operation.Operation.
func (v *Voters) Kind() string { return api.KindStoreVoters }

// Scope implements operation.Operation.
func (v *Voters) Scope() string { return "cluster" }

// Inspect implements operation.Operation.
func (v *Voters) Inspect(ctx context.Context, before operation.Situation) error {
	if !slices.Contains([]int{0, 1, 2, 3, 5}, v.request.Count) {
		return api.Errorf(api.CodeBadRequest, "%d machines cannot vote: 1, 2, 3 or 5 can; with 4 no more may be lost than with 3", v.request.Count).
			About("voters")
	}
	var err error
	if v.seen, err = v.kit.readCluster(ctx, &v.cluster); err != nil {
		return err
	}
	if v.members, err = Members(ctx, v.kit.Facts); err != nil {
		return err
	}
	count := v.request.Count
	if count == 0 {
		count = votersFor(len(v.members), len(v.cluster.Voters))
	}
	if count > len(v.members) {
		return api.Errorf(api.CodeBadRequest, "%d voters need as many machines, and there are %d", count, len(v.members)).About("voters").
			WithHint("add one: ployzctl machine add root@HOST")
	}
	if err := v.kit.takeOver(ctx, v.members, v.Scope(), before); err != nil {
		return err
	}
	if v.stayed, err = v.kit.stayed(ctx, ""); err != nil {
		return err
	}
	v.to = seating(v.members, v.cluster.Voters, count)
	if v.from, err = v.kit.seated(ctx, v.members, v.cluster, v.to, before.Unfinished); err != nil {
		return err
	}
	unmet, err := v.kit.Seats.Check(ctx, Member{}, false)
	v.problems = append(metAll("the store can change its voters", unmet), v.kit.newcomersObey(ctx, v.from, v.to, v.Scope(), before)...)
	return err
}

// Plan implements operation.Operation.
func (v *Voters) Plan() operation.Plan {
	plan := operation.Plan{
		Requirements: v.problems,
		Phases:       []operation.Phase{{Name: "seats", Steps: v.kit.reseat(v.from, v.to, false)}},
		Changes:      v.changes(),
		Commit: operation.Commit{
			Witness: store.Cluster(), Expect: v.seen, Content: ids(v.to),
			Batch: func(op string) ([]store.Put, error) {
				c := v.cluster
				c.Operation, c.Voters = op, ids(v.to)
				p, err := put(store.Cluster(), c, v.seen)
				return append([]store.Put{p}, v.stayed...), err
			},
		},
		Resolves: true,
	}
	for _, m := range v.members {
		plan.Cleanup = append(plan.Cleanup, v.kit.follow(m, store.Cluster()))
	}
	return plan
}

func metAll(name string, problems []*api.Error) []operation.Requirement {
	var needs []operation.Requirement
	for _, p := range problems {
		needs = append(needs, operation.Met(name, p))
	}
	return needs
}

// changes are told from the facts, too: seats that an operation has moved and not committed may be moved back.
func (v *Voters) changes() []api.Change {
	if slices.Equal(ids(v.from), ids(v.to)) {
		return seatChanges(voters(v.members, v.cluster), v.to)
	}
	return seatChanges(v.from, v.to)
}

func seatChanges(from, to []Member) []api.Change {
	if slices.Equal(ids(from), ids(to)) {
		return nil
	}
	return []api.Change{{
		Action: "update", Subject: "store voters", From: names(from), To: names(to), Reason: MayBeLost(len(to)),
	}}
}

// MayBeLost says in plain words what a number of voters is worth.
func MayBeLost(count int) string {
	switch count {
	case 1:
		return "its disk holds the only copy"
	case 2:
		return "either may be lost with nothing committed lost, but writes stop until it is back or removed"
	case 3:
		return "any one may be lost, and writes go on"
	}
	return fmt.Sprintf("any %d may be lost, and writes go on", (count-1)/2)
}

func names(members []Member) string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = m.Name
	}
	return strings.Join(list, " ")
}
