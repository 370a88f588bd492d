package machine

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// Part is one thing that makes a machine a member, in the order in which they are made.
type Part string

// The parts. Each needs the ones before it.
const (
	// PartKeys are the machine's own secrets, which never leave it.
	PartKeys Part = "keys"
	// PartIdentity is the file that says who the machine is.
	PartIdentity Part = "identity"
	// PartPool is where the machine's volumes are, and the unit that puts it back at boot. A machine may go without.
	PartPool Part = "pool"
	// PartNetwork is the mesh, the bridge, the firewall table and the units that put them back at boot.
	PartNetwork Part = "network"
	// PartStore is the store's configuration and its servers' units: the edge, and on a voter the core, which
	// the first machine founds.
	PartStore Part = "store"
	// PartStreams are this machine's mirrors, and on the first machine the cluster's streams.
	PartStreams Part = "streams"
	// PartGateway and PartDNS are the serving units.
	PartGateway Part = "gateway"
	PartDNS     Part = "dns"
)

// Host makes and takes away the parts of a membership on this machine.
type Host interface {
	// Look checks what a machine needs before anything is written. Every unmet need is one
	// error, each machine.*.
	Look(ctx context.Context) ([]*api.Error, error)
	// Pool says what making PartPool would give the machine, and why.
	Pool(ctx context.Context) (api.Change, error)
	// Make ensures a part; safe to repeat.
	Make(ctx context.Context, part Part, self Identity) error
	// Take removes a part; safe when it was never made. A pool with volumes in it stays.
	Take(ctx context.Context, part Part, self Identity) error
	// Keys returns the public keys that PartKeys made; empty ones before that.
	Keys() (Keys, error)
	// Enter writes who the machine is, as the cluster that admitted it says, and the peers that it needs for
	// reaching it.
	Enter(ctx context.Context, self Identity, peers []api.MeshPeer) error
	// Identity returns the identity on disk, or machine.not-initialised; SetMember marks it.
	Identity() (Identity, error)
	SetMember(self Identity) error
}

// Keys are a machine's public keys, and where it may be reached.
type Keys struct {
	Recipient string
	Store     map[string]string
	// Mesh is its WireGuard key, Endpoints its candidates for others' handshakes.
	Mesh      string
	Endpoints []netip.AddrPort
}

// Init founds a cluster on this machine.
type Init struct {
	host    Host
	facts   store.Facts
	request api.InitRequest
	cidr    netip.Prefix

	self     Identity
	problems []*api.Error
	pool     api.Change
	// begun says that an earlier init left its identity; it is used again.
	begun bool
	// landed says that an earlier init committed and did not end; then nothing may be undone.
	landed bool
	// seen are the revisions of the facts that this init writes.
	seen map[store.Key]store.Revision
}

// NewInit founds a cluster; host is this machine, facts the store that it will have.
func NewInit(host Host, facts store.Facts, request api.InitRequest) *Init {
	if request.ClusterName == "" {
		request.ClusterName = "main"
	}
	if request.CIDR == "" {
		request.CIDR = DefaultCIDR.String()
	}
	return &Init{host: host, facts: facts, request: request}
}

// Kind implements operation.Operation.
func (i *Init) Kind() string { return "machine.init" }

// Scope implements operation.Operation.
func (i *Init) Scope() string { return "cluster" }

var nameShape = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,22}[a-z0-9])?$`)

// Inspect implements operation.Operation.
func (i *Init) Inspect(ctx context.Context, before operation.Situation) error {
	if err := i.check(); err != nil {
		return err
	}
	self, err := i.host.Identity()
	switch {
	case api.CodeOf(err) == api.CodeNotInitialised:
		self = firstMachine(i.request, i.cidr)
	case err != nil:
		return err
	case self.Member && before.Unfinished == nil:
		return api.Errorf(api.CodeMachineInitialised, "this machine is %s of cluster %s", self.Name, self.ClusterName).
			About(self.Name).WithHint("look at it: ployzctl status")
	default:
		i.begun = true
	}
	i.self = self
	if i.problems, err = i.host.Look(ctx); err != nil {
		return err
	}
	if i.pool, err = i.host.Pool(ctx); err != nil {
		return err
	}
	return i.inspectFacts(ctx, before.Unfinished)
}

// inspectFacts looks at what an earlier init committed. Otherwise there is no store to look into.
// An identity without an unfinished init is that of one that committed and could not mark it: a
// rollback takes the identity away.
func (i *Init) inspectFacts(ctx context.Context, before *operation.Unfinished) error {
	i.seen = map[store.Key]store.Revision{}
	i.landed = i.begun && before == nil || before != nil && before.Committed
	if !i.landed {
		return nil
	}
	for _, key := range []store.Key{
		store.Cluster(), store.Machine(i.self.ID), store.MachineName(i.self.Name), store.MachineSubnet(firstNumber),
	} {
		fact, err := i.facts.Get(ctx, key)
		if err != nil && !store.IsNotFound(err) {
			return err
		}
		i.seen[key] = fact.Revision
	}
	return nil
}

// check refuses a request that cannot be a cluster.
func (i *Init) check() error {
	for field, value := range map[string]string{"name": i.request.Name, "cluster-name": i.request.ClusterName} {
		if !nameShape.MatchString(value) {
			return api.Errorf(api.CodeBadRequest, "%q: lower-case letters, digits and dashes, a letter first, at most 24", value).
				About("--" + field)
		}
	}
	c, err := netip.ParsePrefix(i.request.CIDR)
	if err != nil || !c.Addr().Is4() || !c.Addr().IsPrivate() || c.Bits() > 22 || c.Bits() < 8 {
		return api.Errorf(api.CodeBadRequest, "%q is not a private IPv4 prefix between /8 and /22", i.request.CIDR).About("--cidr").
			WithHint("for example: ployzctl init --cidr %s", DefaultCIDR)
	}
	i.cidr = c.Masked()
	return nil
}

// Plan implements operation.Operation.
func (i *Init) Plan() operation.Plan {
	var needs []operation.Requirement
	for _, p := range i.problems {
		needs = append(needs, operation.Met("the machine has what it takes", p))
	}
	return operation.Plan{
		Requirements: needs,
		Changes:      i.changes(),
		Phases: []operation.Phase{
			{Name: "identity", Steps: i.steps(PartKeys, PartIdentity)},
			{Name: "volumes", Steps: i.steps(PartPool)},
			{Name: "network", Steps: i.steps(PartNetwork)},
			{Name: "store", Steps: i.steps(PartStore, PartStreams)},
			{Name: "serving", Steps: i.steps(PartGateway, PartDNS)},
		},
		Commit: i.commit(),
		Cleanup: []operation.Step{{
			Name: "mark the machine a member", Clear: "ployzctl init",
			Do: func(context.Context, *operation.Act) error { return i.host.SetMember(i.self) },
		}},
		Resolves: true, // every part is made again, on the identity of the unfinished init
	}
}

// changes leaves the random parts of the identity out: a preview's digest must hold for the init
// that follows.
func (i *Init) changes() []api.Change {
	list := []api.Change{
		{Action: "create", Subject: "cluster " + i.request.ClusterName, To: i.cidr.String(), Reason: "founded on this machine"},
		{Action: "create", Subject: "machine " + i.request.Name, To: i.self.Subnet4.String()},
		i.pool,
		{Action: "create", Subject: "store core and edge", Reason: "one voter: its disk holds the only copy"},
		{Action: "create", Subject: "gateway", To: "ports 80 and 443"},
		{Action: "create", Subject: "dns", To: fmt.Sprintf("port 53 on %s and 127.0.0.55", i.self.Gateway4())},
	}
	if i.begun {
		list[0].Reason = "an earlier init was interrupted; its identity is used again"
	}
	return list
}

func (i *Init) steps(parts ...Part) []operation.Step {
	return makeParts(i.host, i.request.Name, "ployzctl init", func() Identity { return i.self }, i.landed, parts...)
}

// makeParts are steps that make parts of a membership one after another, for who the machine is by then. What landed
// before is not undone. clear is the command that goes on from there.
func makeParts(host Host, name, clear string, self func() Identity, landed bool, parts ...Part) []operation.Step {
	var steps []operation.Step
	for _, part := range parts {
		step := operation.Step{
			Name: "make " + string(part), Participant: name, Clear: clear,
			Do: func(ctx context.Context, _ *operation.Act) error { return host.Make(ctx, part, self()) },
		}
		if !landed {
			step.Undo = func(ctx context.Context, _ *operation.Act) error { return host.Take(ctx, part, self()) }
		}
		steps = append(steps, step)
	}
	return steps
}

func (i *Init) commit() operation.Commit {
	return operation.Commit{
		Witness: store.Cluster(), Expect: i.seen[store.Cluster()], Content: i.request,
		Batch: func(op string) ([]store.Put, error) {
			keys, err := i.host.Keys()
			if err != nil {
				return nil, err
			}
			cluster := Cluster{
				Operation: op, ID: i.self.Cluster, Name: i.self.ClusterName, Generation: i.self.Generation,
				Voters: []string{i.self.ID}, CIDR: i.self.CIDR, Prefix: i.self.Prefix, Schema: 1,
			}
			member := Member{
				Operation: op, ID: i.self.ID, Name: i.self.Name, Overlay: i.self.Overlay, Subnet4: i.self.Subnet4,
				Subnet6: i.self.Subnet6, Recipient: keys.Recipient, StoreKeys: keys.Store, Number: firstNumber,
				MeshKey: keys.Mesh, Endpoints: keys.Endpoints,
			}
			return puts(map[store.Key]any{
				store.Cluster(): cluster, store.Machine(i.self.ID): member,
				store.MachineName(i.self.Name): claim{Machine: i.self.ID}, store.MachineSubnet(firstNumber): claim{Machine: i.self.ID},
			}, i.seen)
		},
	}
}

// Result implements operation.Resulter.
func (i *Init) Result() any {
	return api.InitResult{
		Machine: i.self.Name, Cluster: i.self.ClusterName, Overlay: i.self.Overlay, Subnet4: i.self.Subnet4, Subnet6: i.self.Subnet6,
		Pool: poolLine(i.pool),
	}
}

// poolLine is what a machine keeps volumes in, for the last lines of an init or a join.
func poolLine(c api.Change) string {
	if c.Reason == "" {
		return c.To
	}
	return c.To + " (" + c.Reason + ")"
}

// DefaultCIDR is what machines' subnets come from unless told otherwise.
var DefaultCIDR = netip.MustParsePrefix("10.101.0.0/16")

func itoa(n int) string { return strconv.Itoa(n) }
