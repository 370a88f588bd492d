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

// Archive is a backup that was read through and found whole.
type Archive interface {
	// Open returns what is in it. Errors: store.backup-*.
	Open(ctx context.Context) (Source, error)
	// Fill fills the core of the identity's generation, which was founded and holds nothing, from it, and makes this
	// machine's mirrors. Safe to repeat. Errors: store.*.
	Fill(ctx context.Context, self Identity) error
}

// Restore founds a cluster anew from a backup, on a machine that belongs to none: the same cluster, in its next
// generation, with this machine in the place of one that it had. Keys are this machine's own, since the old ones are
// gone with the old machines: so none of those can take part in the new generation, whatever becomes of them. Lease
// and ledger are in the machine's own journal.
type Restore struct {
	host    Host
	facts   store.Facts
	archive Archive
	request api.RestoreRequest
	now     func() time.Time

	source   Source
	self     Identity
	member   Member
	next     succession
	lost     []api.Change
	problems []*api.Error
	// landed says that an earlier restore committed and did not end; then nothing may be undone.
	landed bool
}

// NewRestore founds a cluster anew; host is this machine, facts the store that it will have.
func NewRestore(host Host, facts store.Facts, archive Archive, request api.RestoreRequest, now func() time.Time) *Restore {
	return &Restore{host: host, facts: facts, archive: archive, request: request, now: now}
}

// Kind implements operation.Operation.
func (r *Restore) Kind() string { return api.KindStoreRestore }

// Scope implements operation.Operation.
func (r *Restore) Scope() string { return "cluster" }

// Inspect implements operation.Operation.
func (r *Restore) Inspect(ctx context.Context, before operation.Situation) error {
	was, err := r.host.Identity()
	begun := err == nil
	if err != nil && api.CodeOf(err) != api.CodeNotInitialised {
		return err
	}
	if r.source, err = r.archive.Open(ctx); err != nil {
		return err
	}
	r.landed = begun && before.Unfinished == nil || before.Unfinished != nil && before.Unfinished.Committed
	if err := r.become(ctx, was); err != nil {
		return err
	}
	var facts Reader = r.source.Facts
	if r.landed {
		facts = r.facts
	}
	if err := r.next.look(ctx, facts, store.SharedKey()); err != nil { // the key is sealed to machines that are gone
		return err
	}
	problems, err := r.host.Look(ctx)
	r.problems = append(r.problems, problems...)
	return err
}

// become takes over who the machine will be.
func (r *Restore) become(ctx context.Context, was Identity) error {
	fact, err := r.source.Facts.Get(ctx, store.Cluster())
	if err != nil {
		return err
	}
	var c Cluster
	if err := store.Decode(fact, &c); err != nil {
		return err
	}
	members, err := Members(ctx, r.source.Facts)
	if err != nil {
		return err
	}
	if r.member, err = r.place(members); err != nil {
		return err
	}
	r.self = Identity{
		ID: r.member.ID, Name: r.member.Name, Cluster: c.ID, ClusterName: c.Name, Generation: r.source.Generation + 1,
		Overlay: r.member.Overlay, Subnet4: r.member.Subnet4, Subnet6: r.member.Subnet6, CIDR: c.CIDR, Prefix: c.Prefix,
		Incarnation: int(r.now().Unix()), // no core of this name was ever there
	}
	r.self.Voters = append(r.self.Voters, r.self.Overlay)
	if r.landed {
		if was.Cluster != c.ID {
			return api.Errorf(api.CodeMachineInitialised, "this machine is %s of cluster %s, the backup is of cluster %s", was.Name, was.ClusterName, c.Name).
				About(was.Name).WithHint("look at it: ployzctl status")
		}
		r.self = was
	}
	c.Generation, c.Voters, c.Formed = r.self.Generation, []string{r.self.ID}, r.source.id()
	r.next = succession{cluster: c}
	for _, m := range members {
		if m.ID != r.member.ID {
			r.next.gone = append(r.next.gone, m)
		}
	}
	r.lost, err = missing(ctx, r.source.Facts)
	r.problems = append(r.problems, unnamed(r.next.gone, r.request.Abandon)...)
	r.next.stay = []Member{r.member}
	return err
}

// place finds the machine in whose place this one comes.
func (r *Restore) place(members []Member) (Member, error) {
	if r.request.As != "" {
		return Named(members, r.request.As)
	}
	for _, m := range members {
		if m.ID == r.source.Machine {
			return m, nil
		}
	}
	return Member{}, api.Errorf(api.CodeMachineAbsent, "the backup does not know the machine that it was taken on").About("--as").
		WithHint("say which of its machines this one becomes: --as %s", strings.ReplaceAll(names(members), " ", "|"))
}

// unnamed refuses until the operator has named everybody who is given up: from here nobody can be asked.
func unnamed(gone []Member, abandon []string) []*api.Error {
	for _, name := range abandon {
		if _, err := Named(gone, name); err != nil {
			return []*api.Error{api.AsError(err)}
		}
	}
	if !slices.ContainsFunc(gone, func(m Member) bool { return !slices.Contains(abandon, m.Name) }) {
		return nil
	}
	return []*api.Error{api.Errorf(api.CodeStoreNotRescuable,
		"the backup's other machines cannot come along: they know this one by keys that it has not. They must be purged, and join anew").
		About("store").WithHint("if that is meant: --abandon %s", strings.ReplaceAll(names(gone), " ", ","))}
}

// missing is what the facts tell of, and the machine will not have.
func missing(ctx context.Context, facts Reader) ([]api.Change, error) {
	heads, err := facts.List(ctx, store.Heads())
	var out []api.Change
	for _, head := range heads {
		ns := head.Key.Last()
		out = append(out, api.Change{Action: "update", Subject: "namespace " + ns, Reason: "nothing of it runs here: deploy it again"})
		secrets, err := facts.List(ctx, store.Secrets(ns))
		if err != nil {
			return nil, err
		}
		for _, s := range secrets {
			out = append(out, api.Change{
				Action: "update", Subject: "secret " + ns + "/" + s.Key.Last(), Reason: "sealed to machines that are gone, nobody can open it: set it again",
			})
		}
	}
	return out, err
}

// Plan implements operation.Operation.
func (r *Restore) Plan() operation.Plan {
	return operation.Plan{
		Requirements: metAll("the cluster can be founded anew here", r.problems),
		Changes:      r.changes(),
		Phases: []operation.Phase{
			{Name: "identity", Steps: r.steps(PartKeys, PartIdentity)},
			{Name: "volumes", Steps: r.steps(PartPool)},
			{Name: "network", Steps: r.steps(PartNetwork)},
			{Name: "store", Steps: r.store()},
			{Name: "serving", Steps: r.steps(PartGateway, PartDNS)},
		},
		Commit: operation.Commit{
			Witness: store.Cluster(), Expect: r.next.seen[store.Cluster()], Content: r.request, Batch: r.batch,
		},
		Cleanup: []operation.Step{{
			Name: "mark the machine a member", Clear: restoreAgain,
			Do: func(context.Context, *operation.Act) error { return r.host.SetMember(r.self) },
		}},
		Resolves: true, // every part is made again
	}
}

const restoreAgain = "ployzctl store restore FILE"

func (r *Restore) changes() []api.Change {
	list := []api.Change{
		{
			Action: "create", Subject: "cluster " + r.self.ClusterName, To: "generation " + itoa(int(r.self.Generation)), Reason: r.source.ends(),
		},
		{Action: "create", Subject: "machine " + r.self.Name, To: r.self.Subnet4.String(), Reason: "in its place, with keys of its own"},
		{Action: "create", Subject: "store core and edge", Reason: MayBeLost(1)},
		{Action: "create", Subject: "gateway", To: "ports 80 and 443"},
		{Action: "create", Subject: "dns", To: "port 53 on the machine's own addresses"},
	}
	list = append(list, r.next.changes("given up: it is of the old generation, and goes on by itself until it is purged; then it may join")...)
	return append(list, r.lost...)
}

func (r *Restore) steps(parts ...Part) []operation.Step {
	return makeParts(r.host, r.self.Name, restoreAgain, func() Identity { return r.self }, r.landed, parts...)
}

// store founds the core in an empty folder, whatever an earlier try left, and fills it.
func (r *Restore) store() []operation.Step {
	steps := r.steps(PartStore)
	make := steps[0].Do
	if !r.landed {
		steps[0].Do = func(ctx context.Context, act *operation.Act) error {
			if err := r.host.Take(ctx, PartStore, r.self); err != nil {
				return err
			}
			return make(ctx, act)
		}
	}
	return append(steps, operation.Step{
		Name: "fill it from the backup", Participant: r.self.Name, Timeout: fillTimeout, Clear: restoreAgain,
		Do: func(ctx context.Context, _ *operation.Act) error {
			if r.landed {
				return nil
			}
			return r.archive.Fill(ctx, r.self)
		},
	})
}

// fillTimeout is what filling a core may take. Ten thousand facts take a second.
const fillTimeout = 10 * time.Minute

// batch gives the machine the keys that were made for it.
func (r *Restore) batch(op string) ([]store.Put, error) {
	keys, err := r.host.Keys()
	if err != nil {
		return nil, err
	}
	m := r.member
	m.Recipient, m.StoreKeys, m.MeshKey, m.Endpoints = keys.Recipient, keys.Store, keys.Mesh, keys.Endpoints
	r.next.stay = []Member{m}
	return r.next.batch(op)
}

// Result implements operation.Resulter.
func (r *Restore) Result() any {
	return api.RestoreResult{Machine: r.self.Name, Cluster: r.self.ClusterName, Generation: r.self.Generation, Revision: uint64(r.source.Last)}
}
