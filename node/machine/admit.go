package machine

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// ClockBound is how far a joining machine's clock may be from the cluster's.
const ClockBound = 5 * time.Second

// Schema is the version of the layout of facts that this program reads and writes.
const Schema = 1

// Admit makes a machine a member, on the word of a token. It runs on the machine that gave the token; the
// joining machine waits behind the token's own WireGuard peer.
type Admit struct {
	kit     Kit
	request api.AdmitRequest

	cluster  Cluster
	members  []Member
	member   Member
	token    Token
	seen     map[store.Key]store.Revision
	problems []operation.Requirement
}

// NewAdmit admits a machine.
func NewAdmit(kit Kit, request api.AdmitRequest) *Admit { return &Admit{kit: kit, request: request} }

// Kind implements operation.Operation.
func (a *Admit) Kind() string { return api.KindMachineAdmit }

// Scope implements operation.Operation.
func (a *Admit) Scope() string { return "machine/" + a.request.Name }

// Inspect implements operation.Operation.
func (a *Admit) Inspect(ctx context.Context, _ operation.Situation) error {
	if err := a.check(); err != nil {
		return err
	}
	a.seen = map[store.Key]store.Revision{}
	// Before the members are read: every admission writes this key, so that one which lands from here on makes
	// this one's commit fail, whatever of it was seen.
	err := a.look(ctx, store.SharedKey())
	if err != nil {
		return err
	}
	if a.members, err = a.kit.read(ctx, &a.cluster); err != nil {
		return err
	}
	if err := a.findToken(ctx); err != nil {
		return err
	}
	a.member = a.choose()
	a.problems = []operation.Requirement{
		operation.Met("no other machine has its name", a.nameFree()),
		operation.Met("no other machine has its keys or endpoints", a.keysFree()),
		operation.Met("a subnet is left for it", a.subnetLeft()),
		operation.Met("its version fits the cluster's", Compatible(a.kit.Version, a.request.Version)),
		operation.Met("its clock agrees", a.clockAgrees()),
	}
	return a.look(ctx, a.keys()...)
}

func (a *Admit) keys() []store.Key {
	return []store.Key{
		store.Machine(a.member.ID), store.MachineName(a.member.Name), store.MachineSubnet(a.member.Number), a.tokenKey(),
	}
}

// look notes the revisions that the commit expects.
func (a *Admit) look(ctx context.Context, keys ...store.Key) error {
	for _, key := range keys {
		fact, err := a.kit.Facts.Get(ctx, key)
		if err != nil && !store.IsNotFound(err) {
			return err
		}
		a.seen[key] = fact.Revision
	}
	return nil
}

// check refuses a request that no machine of ours makes. In a preview it has no keys yet: a machine that may
// not join is not to have made any.
func (a *Admit) check() error {
	if !nameShape.MatchString(a.request.Name) {
		return badName("--name", a.request.Name)
	}
	if a.request.MeshKey == "" {
		return nil
	}
	return checkMeshKey("meshKey", a.request.MeshKey)
}

func badName(where, name string) error {
	return api.Errorf(api.CodeBadRequest, "%q: lower-case letters, digits and dashes, a letter first, at most 24", name).About(where)
}

func (a *Admit) tokenKey() store.Key { return store.Token(TokenHash(a.token.Key)) }

// findToken finds the invitation by the address that the request came from: only the holder of its key can
// send from there.
func (a *Admit) findToken(ctx context.Context) error {
	tokens, err := Tokens(ctx, a.kit.Facts)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t.Address != a.request.Address {
			continue
		}
		if t.Admits != "" && t.Admits != a.request.MeshKey {
			return api.Errorf(api.CodeTokenUsed, "another machine was admitted by this token").About("the token").
				WithHint("make a new one: ployzctl machine token")
		}
		if t.Admits != "" || a.kit.Now().Before(t.Expires) {
			a.token = t
			return nil
		}
	}
	return api.Errorf(api.CodeTokenUsed, "no open token of this cluster has the address %s", a.request.Address).
		WithHint("make a new one: ployzctl machine token")
}

// choose is the membership: the one that it has when its key is known, else a new one.
func (a *Admit) choose() Member {
	m := Member{
		ID: randomID(6), Name: a.request.Name, Region: a.request.Region, Zone: a.request.Zone, Labels: a.request.Labels,
		Recipient: a.request.Recipient, StoreKeys: a.request.StoreKeys, MeshKey: a.request.MeshKey,
		Endpoints: a.request.Endpoints, Number: a.freeNumber(),
	}
	if at := slices.IndexFunc(a.members, a.same); at >= 0 {
		known := a.members[at]
		m.ID, m.Number, m.Role = known.ID, known.Number, known.Role
	}
	m.Subnet4, m.Subnet6 = subnet4(a.cluster.CIDR, m.Number), subnet6(a.cluster.Prefix, m.Number)
	m.Overlay = m.Subnet6.Addr().Next()
	return m
}

// same tells a machine that was admitted before and did not come to an end with joining.
func (a *Admit) same(m Member) bool {
	return m.Name == a.request.Name && m.MeshKey == a.request.MeshKey
}

// freeNumber is the lowest number that no machine has; 0 when all are taken. A concurrent admission that
// chose the same loses at the commit, and looks again.
func (a *Admit) freeNumber() uint16 {
	taken := map[uint16]bool{}
	for _, m := range a.members {
		taken[m.Number] = true
	}
	for n := uint16(firstNumber); n <= lastNumber(a.cluster.CIDR); n++ {
		if !taken[n] {
			return n
		}
	}
	return 0
}

func (a *Admit) subnetLeft() *api.Error {
	if a.member.Number != 0 {
		return nil
	}
	return api.Errorf(api.CodeMachineNoSubnet, "%s has room for %d machines, and all are there", a.cluster.CIDR, lastNumber(a.cluster.CIDR)).
		About(a.request.Name).WithHint("remove one: ployzctl machine remove NAME")
}

func (a *Admit) nameFree() *api.Error {
	for _, m := range a.members {
		if m.Name == a.request.Name && m.ID != a.member.ID {
			return api.Errorf(api.CodeMachineNameTaken, "machine %s of this cluster is another one", m.Name).About("--name").
				WithHint("give it another: ployzctl join --name NAME")
		}
	}
	return nil
}

func (a *Admit) keysFree() *api.Error {
	for _, m := range a.members {
		if m.ID == a.member.ID {
			continue
		}
		if m.MeshKey == a.request.MeshKey || m.Recipient == a.request.Recipient || sharesKey(m.StoreKeys, a.request.StoreKeys) {
			return api.Errorf(api.CodeMachineKeyTaken, "machine %s has the same key: was its disk copied?", m.Name).About(a.request.Name).
				WithHint("on the new machine: rm -r /var/lib/ployz/keys, then repeat")
		}
		if at := shared(m.Endpoints, a.request.Endpoints); at.IsValid() {
			return api.Errorf(api.CodeMachineKeyTaken, "machine %s has the endpoint %s", m.Name, at).About(a.request.Name).
				WithHint("name its own: ployzctl join --endpoint ADDRESS:PORT")
		}
	}
	return nil
}

func sharesKey(a, b map[string]string) bool {
	for role, key := range a {
		if key != "" && b[role] == key {
			return true
		}
	}
	return false
}

func shared(a, b []netip.AddrPort) netip.AddrPort {
	for _, at := range a {
		if slices.Contains(b, at) {
			return at
		}
	}
	return netip.AddrPort{}
}

func (a *Admit) clockAgrees() *api.Error {
	off := a.request.Clock.Sub(a.kit.Now())
	if off.Abs() <= ClockBound {
		return nil
	}
	return api.Errorf(api.CodeMachineClock, "its clock is %s off; at most %s", off.Round(time.Millisecond), ClockBound).About(a.request.Name).
		WithHint("set it: timedatectl set-ntp true")
}

// Plan implements operation.Operation.
func (a *Admit) Plan() operation.Plan {
	return operation.Plan{
		Requirements: a.problems,
		Changes: []api.Change{
			{Action: "create", Subject: "machine " + a.member.Name, To: a.member.Subnet4.String(), Reason: "token of " + a.token.Operation},
		},
		Commit: operation.Commit{
			Witness: store.Machine(a.member.ID), Expect: a.seen[store.Machine(a.member.ID)], Content: a.content(), Batch: a.batch,
		},
		Cleanup:  a.followers(),
		Resolves: true,
	}
}

// content leaves out what differs between a preview and the admission after it.
func (a *Admit) content() api.AdmitRequest {
	r := a.request
	r.Clock = time.Time{}
	return r
}

func (a *Admit) batch(op string) ([]store.Put, error) {
	m := a.member
	if m.MeshKey == "" || m.Recipient == "" || len(m.StoreKeys) == 0 {
		return nil, api.Errorf(api.CodeBadRequest, "the machine names no key for the mesh, for secrets or for the store").About(m.Name)
	}
	m.Operation = op
	token := a.token
	token.Admits = m.MeshKey
	shared, err := a.shared(op)
	if err != nil {
		return nil, err
	}
	list, err := puts(map[store.Key]any{
		store.Machine(m.ID): m, store.MachineName(m.Name): claim{Machine: m.ID}, store.MachineSubnet(m.Number): claim{Machine: m.ID},
		a.tokenKey(): token, store.SharedKey(): shared,
	}, a.seen)
	for i := range list {
		if list[i].Key == a.tokenKey() {
			list[i].TTL = a.token.lasts(a.kit.Now())
		}
	}
	return list, err
}

// shared is the machines' common key, sealed to the new one too.
func (a *Admit) shared(op string) (SealedKey, error) {
	recipients := []string{a.request.Recipient}
	for _, m := range a.members {
		if m.ID != a.member.ID {
			recipients = append(recipients, m.Recipient)
		}
	}
	sealed, err := a.kit.SealShared(recipients)
	return SealedKey{op, sealed}, err
}

// usedTokenTTL is how long a used token still lets its joiner speak: until it has come to an end, or
// takes its admission back.
const usedTokenTTL = 5 * time.Minute

// followers wait for every machine: one that does not know the new one would not answer it.
func (a *Admit) followers() []operation.Step {
	var steps []operation.Step
	for _, m := range slices.SortedFunc(slices.Values(a.members), func(x, y Member) int { return cmp.Compare(x.Name, y.Name) }) {
		if m.ID != a.member.ID {
			steps = append(steps, a.kit.follow(m, store.Machine(a.member.ID)))
		}
	}
	return steps
}

// Result implements operation.Resulter.
func (a *Admit) Result() any {
	r := api.AdmitResult{
		ID: a.member.ID, Name: a.member.Name, Cluster: a.cluster.ID, ClusterName: a.cluster.Name, Generation: a.cluster.Generation,
		Overlay: a.member.Overlay, Subnet4: a.member.Subnet4, Subnet6: a.member.Subnet6, CIDR: a.cluster.CIDR, Prefix: a.cluster.Prefix,
		Voters: VoterAddresses(a.cluster, a.members), Peers: []api.MeshPeer{},
	}
	r.Peers = append(r.Peers, Peers(a.members, a.member)...)
	return r
}

// Peer is the machine as the others' WireGuard devices know it.
func (m Member) Peer() api.MeshPeer {
	return api.MeshPeer{Machine: m.Name, MeshKey: m.MeshKey, Endpoints: m.Endpoints, Allowed: []netip.Prefix{m.Subnet6, m.Subnet4}}
}

// VoterAddresses are the overlay addresses of the machines with a store core, in the order of their ids.
func VoterAddresses(c Cluster, members []Member) []netip.Addr {
	var list []netip.Addr
	for _, m := range members {
		if slices.Contains(c.Voters, m.ID) {
			list = append(list, m.Overlay)
		}
	}
	return list
}

// Compatible refuses a version that must not run beside ours: one minor version apart is the most.
func Compatible(ours, theirs string) *api.Error {
	a, okA := minor(ours)
	b, okB := minor(theirs)
	if !okA || !okB || a[0] == b[0] && (a[1]-b[1])*(a[1]-b[1]) <= 1 {
		return nil // a build without a version is a developer's own
	}
	return api.Errorf(api.CodeMachineVersion, "it runs %s and the cluster %s: at most one minor version may lie between", theirs, ours).
		WithHint("install a fitting package on the machine, then repeat")
}

func minor(version string) (v [2]int, ok bool) {
	n, err := fmt.Sscanf(version, "%d.%d", &v[0], &v[1])
	return v, err == nil && n == 2
}
