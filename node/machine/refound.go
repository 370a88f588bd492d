package machine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
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
	// Better returns why the store should not be formed anew from what Standing saw, with what to do instead: a
	// majority is there, or another machine or voter holds more. gone are given up.
	Better(ctx context.Context, gone []Member) ([]*api.Error, error)
	// Fence has a machine that stays refuse those that are gone, whatever they say, or let them in again.
	Fence(ctx context.Context, act *operation.Act, on Member, gone []Member, fenced bool) error
	// Found puts this machine's core and identity aside, and founds and fills a core for who it is next, which lets in
	// those of the roster. Safe to repeat.
	Found(ctx context.Context, act *operation.Act, next Identity, roster Roster) error
	// Unfound puts back what Found put aside. Safe when nothing was done.
	Unfound(ctx context.Context) error
	// Move has a machine follow the generation, whose only voter next is, and returns once its copy is of that.
	Move(ctx context.Context, m Member, next Identity) error
	// Settle has this machine itself live in its new generation, and removes what Found put aside.
	Settle(ctx context.Context, next Identity) error
}

// Standing is what a store may be formed anew from, as this machine sees it now.
type Standing struct {
	// Self is this machine now. Was is who it was before an earlier try that did not end, or the same.
	Self, Was Identity
	// Roster is the membership as it is now, of the new generation if that is committed.
	Roster Roster
	Source Source
	// Answer are the machines that answer, this one too, by name, and the generation of their copy.
	Answer map[string]uint64
}

// Refound forms the store anew on a member, from its own copy of the facts or from a backup, as the next generation of
// the same cluster. Memberships are those of now, whatever the source says: keys and addresses are what machines have.
// Lease and ledger are in the machine's own journal: there is no store that could be asked.
type Refound struct {
	kind      string
	facts     store.Facts
	refounder Refounder
	abandon   []string
	again     bool
	content   any
	now       func() time.Time

	standing Standing
	next     Identity
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
	return &Refound{kind: api.KindStoreRestore, facts: facts, refounder: refounder, abandon: request.Abandon, again: request.Again, content: request, now: now}
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
	if r.problems = r.answers(); !r.landed {
		unmet, err := r.better(ctx)
		if err != nil {
			return err
		}
		r.problems = append(r.problems, unmet...)
	}
	var facts Reader = r.standing.Source.Facts
	if r.landed {
		facts = r.facts
	}
	return r.heirs.look(ctx, facts)
}

// left reports that a try before has committed, and something of it is still to be done.
func (r *Refound) left(stay []Member) bool {
	s := r.standing
	if s.Self.Generation != s.Roster.Cluster.Generation || s.Roster.Cluster.Formed != r.formed() {
		return false
	}
	behind := func(m Member) bool {
		g, answers := s.Answer[m.Name]
		return answers && g < s.Self.Generation
	}
	return s.Was.Generation != s.Self.Generation || slices.ContainsFunc(stay, behind)
}

// formed is what the generation in which this machine is remembers, if it was formed by this very request.
func (r *Refound) formed() string {
	source := r.standing.Source
	if source.Digest == "" && source.Generation == r.standing.Self.Generation {
		source.Generation--
	}
	return source.id()
}

// answers compares what the operator said with who answers.
func (r *Refound) answers() []*api.Error {
	var unmet []*api.Error
	add := func(m Member, format string, args ...any) {
		e := api.Errorf(api.CodeStoreNotRescuable, format, args...).About(m.Name)
		unmet = append(unmet, e.WithHint("look at it: ployzctl --host ssh://root@%s status", m.Name))
	}
	for _, m := range r.heirs.gone {
		if _, answers := r.standing.Answer[m.Name]; answers {
			add(m, "%s answers: it is not gone", m.Name)
		}
	}
	for _, m := range r.heirs.stay {
		switch g, answers := r.standing.Answer[m.Name]; {
		case !answers:
			add(m, "%s does not answer: bring it back, or abandon it too", m.Name)
		case g > r.standing.Self.Generation:
			add(m, "%s is in generation %d of the store, this machine in %d: it was formed anew without this one", m.Name, g, r.standing.Self.Generation)
		}
	}
	return unmet
}

// better refuses what need not be done.
func (r *Refound) better(ctx context.Context) ([]*api.Error, error) {
	if r.standing.Source.Digest != "" && r.standing.Roster.Cluster.Formed == r.standing.Source.Digest && !r.again {
		return []*api.Error{api.Errorf(api.CodeStoreNotRescuable, "the store was formed from this very backup").About("store").
			WithHint("to give up all that was committed since: --again")}, nil
	}
	return r.refounder.Better(ctx, r.heirs.gone)
}

// succeed says who will be there, and who this machine will be.
func (r *Refound) succeed() error {
	was, cluster := r.standing.Was, r.standing.Roster.Cluster
	gone, stay, err := split(r.standing.Roster.Members, cluster.Gone, r.abandon)
	if err != nil {
		return err
	}
	if _, in := (Roster{Members: stay}).Self(was.ID); !in {
		return api.Errorf(api.CodeBadRequest, "the machine that answers is not gone").About("--abandon " + was.Name)
	}
	r.next = r.standing.Self
	if r.landed = r.landed || r.left(stay); !r.landed {
		r.next = was
		r.next.Generation, r.next.Incarnation = max(was.Generation, r.standing.Source.Generation)+1, int(r.now().Unix())
		r.next.Voters = []netip.Addr{was.Overlay}
	}
	if cluster.Generation != r.next.Generation { // else it is written already, and who votes may have changed since
		cluster.Generation, cluster.Voters, cluster.Formed = r.next.Generation, []string{was.ID}, r.standing.Source.id()
	}
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
	if len(r.heirs.gone) == 0 {
		return nil
	}
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
	return steps
}

func (r *Refound) found() operation.Step {
	return operation.Step{
		Name: "form the store anew", Participant: r.next.Name, Timeout: fillTimeout, Clear: r.repeat(),
		Do: func(ctx context.Context, act *operation.Act) error {
			return r.refounder.Found(ctx, act, r.next, Roster{Cluster: r.heirs.cluster, Members: r.heirs.stay})
		},
		Undo: func(ctx context.Context, _ *operation.Act) error { return r.refounder.Unfound(ctx) },
	}
}

// cleanup moves everybody over. The same command goes on with a machine that did not come.
func (r *Refound) cleanup() []operation.Step {
	steps := []operation.Step{{
		Name: "live in the new generation", Participant: r.next.Name, Timeout: time.Minute, Clear: r.repeat(),
		Do: func(ctx context.Context, _ *operation.Act) error { return r.refounder.Settle(ctx, r.next) },
	}}
	for _, m := range r.heirs.stay {
		if m.ID == r.next.ID {
			continue
		}
		steps = append(steps, operation.Step{
			Name: "move " + m.Name + " over", Participant: m.Name, Timeout: time.Minute, Clear: r.repeat(),
			Do: func(ctx context.Context, _ *operation.Act) error { return r.refounder.Move(ctx, m, r.next) },
		})
	}
	return steps
}

// repeat is the command that goes on after a try that did not end.
func (r *Refound) repeat() string {
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
