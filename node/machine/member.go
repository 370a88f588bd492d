package machine

import (
	"context"
	"encoding/json"
	"net/netip"

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
	Region    string            `json:"region,omitempty"`
	Zone      string            `json:"zone,omitempty"`
	Role      Role              `json:"role,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
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

// Members reads every membership, ordered by id.
func Members(ctx context.Context, facts store.Facts) ([]Member, error) {
	list, err := facts.List(ctx, store.Machines())
	if err != nil {
		return nil, err
	}
	members := make([]Member, len(list))
	for i, fact := range list {
		if err := json.Unmarshal(fact.Value, &members[i]); err != nil {
			return nil, api.Errorf(api.CodeInternal, "the fact %s is damaged: %w", fact.Key, err)
		}
	}
	return members, nil
}
