package machine

import (
	"context"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Cluster is the fact about the whole cluster, at store.Cluster().
type Cluster struct {
	// Operation is the one that wrote this value.
	Operation  string `json:"operation"`
	ID         string `json:"id"`
	Name       string `json:"name"`
	Generation uint64 `json:"generation"`
	// Voters are the ids of the machines that run a store core.
	Voters []string `json:"voters"`
	// CIDR is what machines' IPv4 subnets are taken from; Prefix is the cluster's ULA /48.
	CIDR   netip.Prefix `json:"cidr"`
	Prefix netip.Prefix `json:"prefix"`
	Schema int          `json:"schema"`
	// Formed says what this generation of the store was formed from: a backup's digest, or whose copy it was. Empty in
	// the first.
	Formed string `json:"formed,omitempty"`
	// Gone are the machines that were removed last, so that a removal that was cut short can be ended.
	Gone []Member `json:"gone,omitempty"`
}

// Member is one machine's membership, at store.Machine(ID).
type Member struct {
	Operation string `json:"operation"`
	ID        string `json:"id"`
	Name      string `json:"name"`
	// Overlay is the machine's own address, Subnet6's ::1.
	Overlay netip.Addr   `json:"overlay"`
	Subnet4 netip.Prefix `json:"subnet4"`
	Subnet6 netip.Prefix `json:"subnet6"`
	// Recipient is the age recipient that secrets for this machine are sealed to.
	Recipient string `json:"recipient"`
	// StoreKeys are the public keys by which the store's cores know it, by role.
	StoreKeys map[string]string `json:"storeKeys,omitempty"`
	// MeshKey is the machine's WireGuard public key, in base64; Endpoints are where it may be reached,
	// in the order in which others try them.
	MeshKey   string           `json:"meshKey,omitempty"`
	Endpoints []netip.AddrPort `json:"endpoints,omitempty"`
	// Relay is the id of the machine by which all others reach this one; "" where they do so directly.
	Relay string `json:"relay,omitempty"`
	// Number is that of its subnets, claimed at store.MachineSubnet.
	Number uint16            `json:"number,omitempty"`
	Region string            `json:"region,omitempty"`
	Zone   string            `json:"zone,omitempty"`
	Role   Role              `json:"role,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// SealedKey is the key that all machines share, at store.SharedKey().
type SealedKey struct {
	Operation string `json:"operation"`
	Sealed    []byte `json:"sealed"`
}

// Role says what placement may do with a region's machines.
type Role string

// The roles. An unset role takes everything.
const (
	HomeData Role = "home_data"
	Compute  Role = "compute"
	Draining Role = "draining"
	Disabled Role = "disabled"
)

// Takes reports whether new instances may be placed.
func (r Role) Takes() bool { return r != Draining && r != Disabled }

// Lister is the part of a store that lists facts; store.Facts and store.View are.
type Lister interface {
	List(ctx context.Context, prefix store.Key) ([]store.Fact, error)
}

// Members reads every membership, ordered by id. Errors: store.fact-unreadable, store.unavailable.
func Members(ctx context.Context, facts Lister) ([]Member, error) {
	list, err := facts.List(ctx, store.Machines())
	if err != nil {
		return nil, err
	}
	members, unread := readable(list)
	if len(unread) > 0 {
		return nil, unread[0]
	}
	return members, nil
}

// Readable is Members for showing and following, which one fact that cannot be read must not stop. Decisions take Members.
func Readable(ctx context.Context, facts Lister) ([]Member, []*api.Error, error) {
	list, err := facts.List(ctx, store.Machines())
	if err != nil {
		return nil, nil, err
	}
	members, unread := readable(list)
	return members, unread, nil
}

func readable(list []store.Fact) (members []Member, unread []*api.Error) {
	members = make([]Member, 0, len(list))
	for _, fact := range list {
		var m Member
		if err := store.Decode(fact, &m); err != nil {
			unread = append(unread, api.AsError(err))
			continue
		}
		members = append(members, m)
	}
	return members, unread
}

// ReadFact returns why a fact about the cluster and its machines cannot be read, or nil.
func ReadFact(fact store.Fact) error {
	var into any
	switch key := fact.Key; {
	case key == store.Cluster():
		into = &Cluster{}
	case key == store.SharedKey():
		into = &SealedKey{}
	case key == store.Update():
		into = &Updated{}
	case key.Under(store.Machines()):
		into = &Member{}
	case key.Under(store.MachineNames()):
		into = &claim{}
	case key.Under(store.Tokens()):
		into = &Token{}
	default:
		return nil
	}
	return json.Unmarshal(fact.Value, into)
}

// Named finds a member by name. Errors: machine.not-found.
func Named(members []Member, name string) (Member, error) {
	for _, m := range members {
		if m.Name == name {
			return m, nil
		}
	}
	return Member{}, api.Errorf(api.CodeMachineAbsent, "the cluster has no machine %q", name).About(name).
		WithHint("list them: ployzctl machine ls")
}

// NameOf is the name of the member with an id, "" for none.
func NameOf(members []Member, id string) string {
	m, _ := Roster{Members: members}.Self(id)
	return m.Name
}

// claim is the value of facts that only say which machine something belongs to.
type claim struct {
	Machine string `json:"machine"`
	// Leaving is the operation that removes the machine; of a name only.
	Leaving string `json:"leaving,omitempty"`
}

// put renders a fact, guarded by what was seen of it.
func put(key store.Key, value any, seen store.Revision) (store.Put, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return store.Put{}, api.Errorf(api.CodeInternal, "encoding %s: %w", key, err)
	}
	return store.Put{Key: key, Value: text, Expect: store.Expect(seen)}, nil
}

// puts renders facts, each guarded by what was seen of it.
func puts(facts map[store.Key]any, seen map[store.Key]store.Revision) ([]store.Put, error) {
	var list []store.Put
	for _, key := range slices.Sorted(maps.Keys(facts)) {
		p, err := put(key, facts[key], seen[key])
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}
