package api

import (
	"net/netip"
	"time"
)

// TokenRequest invites a machine. Whoever asks makes a WireGuard key pair for it and keeps the private
// half, so that the cluster never holds what opens its own door.
type TokenRequest struct {
	// Key is the public half, in base64.
	Key string `json:"key"`
	// TTL is how long the invitation stays open; 0 means 15 minutes, which is also the most.
	TTL Duration `json:"ttl,omitempty"`
}

// TokenResult is the value of a machine.token's outcome: all that the joiner needs but the private key.
type TokenResult struct {
	Cluster     string `json:"cluster"`
	ClusterName string `json:"clusterName"`
	// Machine gave the token; MeshKey, Endpoints and Overlay are its own.
	Machine   string           `json:"machine"`
	MeshKey   string           `json:"meshKey"`
	Endpoints []netip.AddrPort `json:"endpoints"`
	Overlay   netip.Addr       `json:"overlay"`
	// Address is the joiner's until it has one of its own.
	Address netip.Addr `json:"address"`
	Expires time.Time  `json:"expires"`
}

// TokenSeen is the answer of GET /v1/tokens/seen: what the machine that gave a token received of its holder. An
// observation.
type TokenSeen struct {
	// Machine is the one that answers.
	Machine string `json:"machine"`
	// Known says that the machine's WireGuard device listens for the token at all.
	Known bool `json:"known"`
	// Received counts bytes that the token's key vouches for, and Endpoint is where the last of them came from.
	Received int64  `json:"received"`
	Endpoint string `json:"endpoint,omitempty"`
	// Handshake is the last one that was completed.
	Handshake time.Time `json:"handshake,omitzero"`
}

// JoinRequest makes the machine that is asked a member of the token's cluster.
type JoinRequest struct {
	// Token is as `ployzctl machine token` printed it. It is never kept.
	Token string `json:"token,omitempty"`
	// Name is the machine's; empty means the host's.
	Name   string            `json:"name,omitempty"`
	Region string            `json:"region,omitempty"`
	Zone   string            `json:"zone,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	// Endpoints replace the machine's own addresses as what others try.
	Endpoints []netip.AddrPort `json:"endpoints,omitempty"`
	PoolRequest
}

// AdmitRequest is what a joining machine says of itself to the one that gave it the token.
type AdmitRequest struct {
	Name      string            `json:"name"`
	Region    string            `json:"region,omitempty"`
	Zone      string            `json:"zone,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	MeshKey   string            `json:"meshKey"`
	Endpoints []netip.AddrPort  `json:"endpoints,omitempty"`
	Recipient string            `json:"recipient"`
	StoreKeys map[string]string `json:"storeKeys"`
	Version   string            `json:"version"`
	// Clock is the joiner's time when it asked.
	Clock time.Time `json:"clock"`
	// Address is the one that the request came from. The surface sets it: it is what proves the token.
	Address netip.Addr `json:"address"`
}

// AdmitResult is who the admitted machine is from now on.
type AdmitResult struct {
	ID          string       `json:"id"`
	Name        string       `json:"name"`
	Cluster     string       `json:"cluster"`
	ClusterName string       `json:"clusterName"`
	Generation  uint64       `json:"generation"`
	Overlay     netip.Addr   `json:"overlay"`
	Subnet4     netip.Prefix `json:"subnet4"`
	Subnet6     netip.Prefix `json:"subnet6"`
	CIDR        netip.Prefix `json:"clusterCIDR"`
	Prefix      netip.Prefix `json:"clusterPrefix"`
	Voters      []netip.Addr `json:"voters"`
	Peers       []MeshPeer   `json:"peers"`
}

// MeshPeer is one machine as the others' WireGuard devices know it.
type MeshPeer struct {
	Machine   string           `json:"machine"`
	MeshKey   string           `json:"meshKey"`
	Endpoints []netip.AddrPort `json:"endpoints,omitempty"`
	Allowed   []netip.Prefix   `json:"allowed"`
}

// JoinResult is the value of a machine.join's outcome.
type JoinResult struct {
	Machine string       `json:"machine"`
	Cluster string       `json:"cluster"`
	Overlay netip.Addr   `json:"overlay"`
	Subnet4 netip.Prefix `json:"subnet4"`
	Subnet6 netip.Prefix `json:"subnet6"`
	// Pool says where the machine keeps volumes, in words.
	Pool string `json:"pool,omitempty"`
}

// MachineSetRequest changes what the operator says of a machine; nil fields stay as they are.
type MachineSetRequest struct {
	Machine string  `json:"machine"`
	Region  *string `json:"region,omitempty"`
	Zone    *string `json:"zone,omitempty"`
	// Role is "home_data", "compute", "draining", "disabled" or "" for none.
	Role *string `json:"role,omitempty"`
	// Labels are set; one with an empty value is taken away.
	Labels    map[string]string `json:"labels,omitempty"`
	Endpoints []netip.AddrPort  `json:"endpoints,omitempty"`
	// Relay is the name of the machine by which all others are to reach this one, or "" for none.
	Relay *string `json:"relay,omitempty"`
}

// MachineRemoveRequest takes a machine out of the cluster. Lost says that it is gone for good and will
// not be asked: what it alone held is given up.
type MachineRemoveRequest struct {
	Machine string `json:"machine"`
	Lost    bool   `json:"lost,omitempty"`
}

// VotersRequest sets how many machines vote in the store: 1, 2, 3 or 5; 0 is what the number of machines asks for.
type VotersRequest struct {
	Count int `json:"count,omitempty"`
}

// RecoverRequest gives machines up that the store cannot be written without.
type RecoverRequest struct {
	// Abandon names them. They must not answer, and must not come back.
	Abandon []string `json:"abandon"`
}

// ReformRequest forms the store anew from the copy of the machine that is asked, which must be the longest, as the
// next generation with that machine as its only voter.
type ReformRequest struct {
	// Abandon names the machines that are given up: all that do not answer, and none that does.
	Abandon []string `json:"abandon,omitempty"`
}

// RestoreRequest forms the store anew from a backup that was uploaded before (POST /v1/store/backup), as the next
// generation with the machine that is asked as its only voter.
type RestoreRequest struct {
	// Digest is that of the backup.
	Digest string `json:"digest"`
	// Abandon names the machines that are given up: all that do not answer, and none that does; on a machine that is
	// in no cluster, all but the one that it becomes.
	Abandon []string `json:"abandon,omitempty"`
	// Again restores also the very backup that the store is of already.
	Again bool `json:"again,omitempty"`
	// As is the name of the backup's machine that a machine without a cluster becomes, with its addresses; "" is the one
	// whose backup it is.
	As string `json:"as,omitempty"`
}

// RepairRequest puts one fact that cannot be read back to what it said before, or removes it.
type RepairRequest struct {
	// Key is the fact's.
	Key string `json:"key"`
	// Digest is that of a backup, uploaded before (POST /v1/store/backup), that has the value to put back; "" is what the
	// machine that is asked last read, or what other facts say.
	Digest string `json:"digest,omitempty"`
	// Remove takes the fact away instead.
	Remove bool `json:"remove,omitempty"`
}

// RestoreResult says what came of forming the store anew.
type RestoreResult struct {
	Machine    string `json:"machine"`
	Cluster    string `json:"cluster"`
	Generation uint64 `json:"generation"`
	// Revision is the last that the copy or backup had.
	Revision uint64 `json:"revision"`
}

// MachineEntry is one line of `machine ls`: intent, and what the machine that answers sees of it now.
type MachineEntry struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Region    string            `json:"region,omitempty"`
	Zone      string            `json:"zone,omitempty"`
	Role      string            `json:"role,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Overlay   netip.Addr        `json:"overlay"`
	Subnet4   netip.Prefix      `json:"subnet4"`
	Subnet6   netip.Prefix      `json:"subnet6"`
	MeshKey   string            `json:"meshKey,omitempty"`
	Endpoints []netip.AddrPort  `json:"endpoints,omitempty"`
	// Relay is the name of the machine by which all others reach this one.
	Relay string `json:"relay,omitempty"`
	Voter bool   `json:"voter"`
	// Seen is the observation, made when it was asked.
	Seen MachineSeen `json:"seen"`
}

// States in which a machine sees another.
const (
	SeenSelf   = "self"
	SeenUp     = "up"
	SeenSilent = "silent"
	// SeenRelayed is a machine that is reached by another: handshakes are with that one, and tell nothing of it.
	SeenRelayed = "relayed"
)

// MachineSeen is an observation of one machine by another; never stored.
type MachineSeen struct {
	// State is SeenSelf, SeenUp, SeenRelayed, or SeenSilent: nothing was heard of it for three minutes.
	State string `json:"state"`
	// Endpoint is where its last authenticated packet came from.
	Endpoint  string    `json:"endpoint,omitempty"`
	Handshake time.Time `json:"handshake,omitzero"`
	// RTT is the round trip to its daemon, when it was asked for.
	RTT     Duration `json:"rtt,omitempty"`
	Version string   `json:"version,omitempty"`
	Error   *Error   `json:"error,omitempty"`
}

// StoreReport is the answer of GET /v1/store: who votes, what may be lost next, and, where it was asked for,
// every machine's copy.
type StoreReport struct {
	// Leader is the machine that leads; "" where nobody does, or it does not answer.
	Leader string `json:"leader,omitempty"`
	// Quorum is how many voters must be there for anything to be written; Writable says that they are.
	Quorum   int          `json:"quorum"`
	Writable bool         `json:"writable"`
	Voters   []StoreVoter `json:"voters"`
	// Statement says in plain words what may be lost next and still be fine.
	Statement []string `json:"statement"`
	// Copies are the machines' views, when they were to be verified; Odd names those that differ.
	Copies []StoreCopy `json:"copies,omitempty"`
	Odd    []string    `json:"odd,omitempty"`
	// Unreadable are the facts that are not what their keys promise, in the mirror of the machine that answers.
	Unreadable []*Error `json:"unreadable,omitempty"`
}

// StoreVoter is one machine's core.
type StoreVoter struct {
	Machine string `json:"machine"`
	Server  string `json:"server"`
	// State is "up", "behind", "silent", or "full": out of room on its disk.
	State string `json:"state"`
	Lag   uint64 `json:"lag,omitempty"`
	// Room is given where it is full, if the machine answered what it has.
	Room *StoreRoom `json:"room,omitempty"`
}

// StoreCopy sums up one machine's copy of the facts.
type StoreCopy struct {
	Name  string `json:"name"`
	Last  uint64 `json:"last,omitempty"`
	Facts int    `json:"facts,omitempty"`
	Sum   string `json:"sum,omitempty"`
	Error *Error `json:"error,omitempty"`
}

// BackupManifest says what a backup of the store holds.
type BackupManifest struct {
	Cluster    string    `json:"cluster"`
	Generation uint64    `json:"generation"`
	Machine    string    `json:"machine"`
	Taken      time.Time `json:"taken"`
	Facts      uint64    `json:"facts"`
	Entries    uint64    `json:"entries"`
	Revision   uint64    `json:"revision"`
	// Digest is of the whole file: kept elsewhere, it tells a file that was changed on purpose.
	Digest string `json:"digest"`
}
