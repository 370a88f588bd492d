package machine

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// Door is the machine that gave the token, as the one that joins reaches it: through the token's own
// WireGuard peer and no other way.
type Door interface {
	// Preview returns what stands in the way of being admitted. Errors: token.cluster-unreachable.
	Preview(ctx context.Context, request api.AdmitRequest) ([]*api.Error, error)
	// Admit asks to be admitted; safe to repeat with the same keys. Errors: the admission's own, token.*.
	Admit(ctx context.Context, request api.AdmitRequest) (api.AdmitResult, error)
	// Withdraw takes an admission back; safe when there was none.
	Withdraw(ctx context.Context, request api.AdmitRequest) error
}

// Join makes this machine a member of the cluster that its token names. Lease, open fact and commit are in
// the machine's own journal: until it is a member there is no store for them.
type Join struct {
	host    Host
	door    Door
	facts   store.Facts
	request api.JoinRequest
	ask     func(Keys) api.AdmitRequest

	self     Identity
	problems []*api.Error
	pool     api.Change
	// landed says that an earlier join committed and did not end; then nothing may be undone.
	landed   bool
	seen     store.Revision
	admitted api.AdmitResult
}

// NewJoin joins this machine, which is host, through a door. ask completes what it says of itself.
func NewJoin(host Host, door Door, facts store.Facts, request api.JoinRequest, ask func(Keys) api.AdmitRequest) *Join {
	return &Join{host: host, door: door, facts: facts, request: request, ask: ask}
}

// Kind implements operation.Operation.
func (j *Join) Kind() string { return api.KindMachineJoin }

// Scope implements operation.Operation.
func (j *Join) Scope() string { return "cluster" }

// Inspect implements operation.Operation.
func (j *Join) Inspect(ctx context.Context, before operation.Situation) error {
	if !nameShape.MatchString(j.request.Name) {
		return badName("--name", j.request.Name)
	}
	self, err := j.host.Identity()
	if err == nil && self.Member && before.Unfinished == nil {
		return j.member(self)
	}
	if err != nil && api.CodeOf(err) != api.CodeNotInitialised {
		return err
	}
	j.landed = before.Unfinished != nil && before.Unfinished.Committed
	fact, err := j.facts.Get(ctx, store.Cluster())
	if err != nil && !store.IsNotFound(err) {
		return err
	}
	j.seen = fact.Revision
	if j.problems, err = j.host.Look(ctx); err != nil {
		return err
	}
	if j.pool, err = j.host.Pool(ctx); err != nil {
		return err
	}
	return j.knock(ctx)
}

// member refuses what is a member already, by name of its cluster and of the token's.
func (j *Join) member(self Identity) error {
	of := "the token is of the same cluster"
	if t, err := DecodeToken(j.request.Token); err == nil && t.Cluster != self.Cluster {
		of = fmt.Sprintf("the token is of cluster %s (%s)", t.ClusterName, t.Cluster)
	}
	return api.Errorf(api.CodeMachineInitialised, "this machine is %s of cluster %s (%s), and %s", self.Name, self.ClusterName, self.Cluster, of).
		About(self.Name).WithHint("it belongs to one cluster; on another machine of its own: ployzctl machine remove %s", self.Name)
}

// knock asks what the cluster has against it, mostly without keys: they are made once nothing stands in the way.
func (j *Join) knock(ctx context.Context) error {
	keys, err := j.host.Keys()
	if err != nil {
		return err
	}
	unmet, err := j.door.Preview(ctx, j.ask(keys))
	if e := api.AsError(err); e != nil && e.Code != api.CodeInternal {
		j.problems = append(j.problems, e)
		return nil
	}
	j.problems = append(j.problems, unmet...)
	return err
}

// Plan implements operation.Operation.
func (j *Join) Plan() operation.Plan {
	var needs []operation.Requirement
	for _, p := range j.problems {
		needs = append(needs, operation.Met("the machine may join", p))
	}
	return operation.Plan{
		Requirements: needs,
		Changes: []api.Change{
			{Action: "create", Subject: "machine " + j.request.Name, Reason: "by token"},
			j.pool,
			{Action: "create", Subject: "store edge", Reason: "a mirror of all facts"},
			{Action: "create", Subject: "gateway", To: "ports 80 and 443"},
			{Action: "create", Subject: "dns", To: "port 53 on the machine's own addresses"},
		},
		Phases: []operation.Phase{
			{Name: "admission", Steps: []operation.Step{j.beAdmitted()}},
			{Name: "volumes", Steps: j.steps(PartPool)},
			{Name: "network", Steps: j.steps(PartNetwork)},
			{Name: "store", Steps: j.steps(PartStore, PartStreams)},
			{Name: "serving", Steps: j.steps(PartGateway, PartDNS)},
		},
		Commit: operation.Commit{
			Witness: store.Cluster(), Expect: j.seen, Content: j.request.Name,
			Batch: func(op string) ([]store.Put, error) {
				p, err := put(store.Cluster(), claimOf{op, j.self.ID}, j.seen)
				return []store.Put{p}, err
			},
		},
		Cleanup: []operation.Step{{
			Name: "mark the machine a member", Clear: "ployzctl join",
			Do: func(context.Context, *operation.Act) error { return j.host.SetMember(j.self) },
		}},
		Resolves: true,
	}
}

// claimOf is the journal's own note of the membership.
type claimOf struct {
	Operation string `json:"operation"`
	Machine   string `json:"machine"`
}

// beAdmitted is where the cluster learns of the machine, and the machine of who it is. The keys belong to
// it: as long as the cluster knows them, they must not be made anew.
func (j *Join) beAdmitted() operation.Step {
	step := operation.Step{
		Name: "be admitted", Participant: j.request.Name, Clear: "ployzctl machine remove " + j.request.Name + " --lost",
		Do: func(ctx context.Context, _ *operation.Act) error {
			if err := j.host.Make(ctx, PartKeys, j.self); err != nil {
				return err
			}
			keys, err := j.host.Keys()
			if err != nil {
				return err
			}
			if j.admitted, err = j.door.Admit(ctx, j.ask(keys)); err != nil {
				return err
			}
			j.self = identityOf(j.admitted)
			return j.host.Enter(ctx, j.self, j.admitted.Peers)
		},
	}
	if !j.landed {
		step.Undo = j.withdraw
	}
	return step
}

func (j *Join) withdraw(ctx context.Context, _ *operation.Act) error {
	keys, err := j.host.Keys()
	if err != nil {
		return err
	}
	if keys.Mesh != "" { // without keys nothing was asked
		if err := j.door.Withdraw(ctx, j.ask(keys)); err != nil {
			return err
		}
	}
	if err := j.host.Take(ctx, PartIdentity, j.self); err != nil {
		return err
	}
	return j.host.Take(ctx, PartKeys, j.self)
}

func identityOf(r api.AdmitResult) Identity {
	return Identity{
		ID: r.ID, Name: r.Name, Cluster: r.Cluster, ClusterName: r.ClusterName, Generation: r.Generation,
		Overlay: r.Overlay, Subnet4: r.Subnet4, Subnet6: r.Subnet6, CIDR: r.CIDR, Prefix: r.Prefix, Voters: r.Voters,
	}
}

func (j *Join) steps(parts ...Part) []operation.Step {
	return makeParts(j.host, j.request.Name, "ployzctl join", func() Identity { return j.self }, j.landed, parts...)
}

// Result implements operation.Resulter.
func (j *Join) Result() any {
	return api.JoinResult{
		Machine: j.self.Name, Cluster: j.self.ClusterName, Overlay: j.self.Overlay, Subnet4: j.self.Subnet4, Subnet6: j.self.Subnet6,
		Pool: poolLine(j.pool),
	}
}

// TokenText is what `ployzctl machine token` prints and `ployzctl join` takes.
type TokenText struct {
	api.TokenResult
	// Private is the joiner's WireGuard key until it has one of its own, in base64.
	Private string `json:"private"`
}

// Encode renders a token: a word, the content, and a sum that tells a mistyped one.
func (t TokenText) Encode() (string, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return "", api.Errorf(api.CodeInternal, "encoding the token: %w", err)
	}
	return encodeToken(text), nil
}
