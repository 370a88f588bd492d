package machine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// Refounder forms the store anew on this machine, which is a member and goes on serving meanwhile.
type Refounder interface {
	// Standing looks at what there is to go on from. Reads only.
	Standing(ctx context.Context) (Standing, error)
	// Check returns what stands in the way: one that is given up answers, another one does not, or the source is not
	// what to go on from.
	Check(ctx context.Context, gone, stay []Member) ([]*api.Error, error)
	// Fence has a machine that stays refuse those that are gone, whatever they say, or let them in again.
	Fence(ctx context.Context, act *operation.Act, on Member, gone []Member, fenced bool) error
	// Found puts this machine's core and identity aside, and founds and fills a core for who it is next, which lets in
	// those of the roster. Safe to repeat.
	Found(ctx context.Context, act *operation.Act, next Identity, roster Roster) error
	// Unfound puts back what Found put aside. Safe when nothing was done.
	Unfound(ctx context.Context) error
	// Move has a machine follow the generation, whose only voter next is, and returns once its copy is of that.
	Move(ctx context.Context, act *operation.Act, m Member, next Identity) error
	// Settle has this machine itself live in its new generation, and removes what Found put aside.
	Settle(ctx context.Context, next Identity) error
}

// Standing is what a store may be formed anew from, as this machine sees it now.
type Standing struct {
	// Self is this machine now. Was is who it was before an earlier try that did not end, or the same.
	Self, Was Identity
	Roster    Roster
	Source    Source
}

// Refound forms the store anew on a member, from its own copy of the facts or from a backup, as the next generation of
// the same cluster. Memberships are those of now, whatever the source says: keys and addresses are what machines have.
// Lease and ledger are in the machine's own journal: there is no store that could be asked.
type Refound struct {
	kind      string
	facts     store.Facts
	refounder Refounder
	abandon   []string
	content   any
	now       func() time.Time

	standing Standing
	next     Identity
	self     Member
	heirs    succession
	problems []*api.Error
	// landed says that an earlier try committed and did not end; then nothing is founded again.
	landed bool
}

// NewReform forms the store anew from the machine's own copy; facts are those of the new generation.
func NewReform(facts store.Facts, refounder Refounder, request api.ReformRequest, now func() time.Time) *Refound {
	return &Refound{kind: api.KindStoreReform, facts: facts, refounder: refounder, abandon: request.Abandon, content: request, now: now}
}

// NewRewind forms the store anew from a backup; facts are those of the new generation.
func NewRewind(facts store.Facts, refounder Refounder, request api.RestoreRequest, now func() time.Time) *Refound {
	return &Refound{kind: api.KindStoreRestore, facts: facts, refounder: refounder, abandon: request.Abandon, content: request, now: now}
}

// Kind implements operation.Operation.
func (r *Refound) Kind() string { return r.kind }

// Scope implements operation.Operation.
func (r *Refound) Scope() string { return "cluster" }

// Inspect implements operation.Operation.
func (r *Refound) Inspect(ctx context.Context, before operation.Situation) error {
	var err error
	if r.standing, err = r.refounder.Standing(ctx); err != nil {
		return err
	}
	r.landed = before.Unfinished != nil && before.Unfinished.Committed
	if err := r.succeed(); err != nil {
		return err
	}
	var facts Reader = r.standing.Source.Facts
	if r.landed {
		facts = r.facts
	}
	if err := r.heirs.look(ctx, facts); err != nil {
		return err
	}
	r.problems, err = r.refounder.Check(ctx, r.heirs.gone, r.heirs.stay)
	return err
}

// succeed says who will be there, and who this machine will be.
func (r *Refound) succeed() error {
	was, cluster := r.standing.Was, r.standing.Roster.Cluster
	gone, stay, err := split(r.standing.Roster.Members, cluster.Gone, r.abandon)
	if err != nil {
		return err
	}
	self, in := Roster{Members: stay}.Self(was.ID)
	if !in {
		return api.Errorf(api.CodeBadRequest, "the machine that answers is not gone").About("--abandon " + was.Name)
	}
	r.next, r.self = was, self
	r.next.Generation, r.next.Incarnation = max(was.Generation, r.standing.Source.Generation)+1, int(r.now().Unix())
	if r.landed {
		r.next = r.standing.Self
	}
	r.next.Voters = append(r.next.Voters[:0:0], was.Overlay)
	cluster.Generation, cluster.Voters = r.next.Generation, []string{was.ID}
	r.heirs = succession{cluster: cluster, stay: stay, gone: gone}
	return nil
}

// Plan implements operation.Operation.
func (r *Refound) Plan() operation.Plan {
	plan := operation.Plan{
		Requirements: metAll("the store can be formed anew here", r.problems),
		Changes:      r.changes(),
		Commit: operation.Commit{
			Witness: store.Cluster(), Expect: r.heirs.seen[store.Cluster()], Content: r.content, Batch: r.heirs.batch,
		},
		Cleanup:  r.cleanup(),
		Resolves: true,
	}
	if !r.landed {
		plan.Phases = []operation.Phase{{Name: "fence", Steps: r.fences()}, {Name: "store", Steps: []operation.Step{r.found()}}}
	}
	return plan
}

func (r *Refound) changes() []api.Change {
	was := r.standing
	list := []api.Change{{
		Action: "update", Subject: "store", Machine: r.next.Name, From: generation(was.Was.Generation), To: generation(r.next.Generation), Reason: was.Source.ends(),
	}, {
		Action: "update", Subject: "store voters", From: names(voters(was.Roster.Members, was.Roster.Cluster)), To: r.next.Name,
		Reason: MayBeLost(1) + " beside the other machines' mirrors; give others a seat after: ployzctl store voters",
	}}
	return append(list, r.heirs.changes("given up: what it alone held is lost, and it must not come back before it is purged")...)
}

func generation(n uint64) string { return fmt.Sprintf("generation %d", n) }

// fences are one step per machine that stays: those that are gone might still be a majority of the old generation.
func (r *Refound) fences() []operation.Step {
	var steps []operation.Step
	for _, m := range r.heirs.stay {
		set := func(fenced bool) func(context.Context, *operation.Act) error {
			return func(ctx context.Context, act *operation.Act) error {
				return r.refounder.Fence(ctx, act, m, r.heirs.gone, fenced)
			}
		}
		steps = append(steps, operation.Step{
			Name: "fence them off on " + m.Name, Participant: m.Name, Clear: "systemctl restart ployzd", Do: set(true), Undo: set(false),
		})
	}
	if len(r.heirs.gone) == 0 {
		return nil
	}
	return steps
}

func (r *Refound) found() operation.Step {
	return operation.Step{
		Name: "form the store anew", Participant: r.next.Name, Timeout: fillTimeout, Clear: r.again(),
		Do: func(ctx context.Context, act *operation.Act) error {
			return r.refounder.Found(ctx, act, r.next, Roster{Cluster: r.heirs.cluster, Members: r.heirs.stay})
		},
		Undo: func(ctx context.Context, _ *operation.Act) error { return r.refounder.Unfound(ctx) },
	}
}

// cleanup moves everybody over. A machine that does not come can only be given up: it is of the old side.
func (r *Refound) cleanup() []operation.Step {
	steps := []operation.Step{{
		Name: "live in the new generation", Participant: r.next.Name, Timeout: time.Minute, Clear: r.again(),
		Do: func(ctx context.Context, _ *operation.Act) error { return r.refounder.Settle(ctx, r.next) },
	}}
	for _, m := range r.heirs.stay {
		if m.ID == r.next.ID {
			continue
		}
		steps = append(steps, operation.Step{
			Name: "move " + m.Name + " over", Participant: m.Name, Timeout: time.Minute, Clear: "ployzctl machine remove " + m.Name + " --lost",
			Do: func(ctx context.Context, act *operation.Act) error { return r.refounder.Move(ctx, act, m, r.next) },
		})
	}
	return steps
}

// again is the command that goes on after a try that did not end.
func (r *Refound) again() string {
	command := "ployzctl store reform"
	if r.kind == api.KindStoreRestore {
		command = restoreAgain
	}
	if len(r.abandon) > 0 {
		command += " --abandon " + strings.Join(r.abandon, ",")
	}
	return command
}

// Result implements operation.Resulter.
func (r *Refound) Result() any {
	return api.RestoreResult{Machine: r.next.Name, Cluster: r.next.ClusterName, Generation: r.next.Generation, Revision: uint64(r.standing.Source.Last)}
}
