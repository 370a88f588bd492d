// Package natsconf renders the configuration of the store's two servers, as pure functions of
// what is to be served: no file is read, nothing is looked up, the same input gives the same bytes.
//
// The core is a JetStream cluster member on a voter, the edge a leaf with a JetStream domain of
// its own on every machine. Both have three accounts: STORE holds facts and ledger, BUS carries
// commands, SYS is the server's own. They are apart because whoever may create a consumer can
// make the server publish a stored message under a subject of his choice: in STORE that reaches
// nobody, and commands live in BUS, where no stream is.
//
// No secret is in a configuration. Users are named by public nkey; the seeds for the leaf remotes
// and the voters' shared route secret are files that ployz-nats reads by path.
package natsconf

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
)

// The names of the accounts.
const (
	AccountStore  = "STORE"
	AccountBus    = "BUS"
	AccountSystem = "SYS"
)

// CoreDomain is the JetStream domain of all cores.
const CoreDomain = "core"

// MirrorAPI is the prefix under which an edge's mirrors ask for the core's JetStream API: the edge's
// process hands their requests on once the core can answer them, and tells readers the mirrors' state.
const MirrorAPI = "ployz." + CoreDomain + ".API"

// EdgeDomain is the JetStream domain of a machine's edge.
func EdgeDomain(machine string) string { return "edge-" + machine }

// FactsStream names the stream of facts of a generation. It is a key-value bucket to the standard tools.
func FactsStream(generation uint64) string { return "KV_" + FactsBucket(generation) }

// FactsBucket is the name under which `nats kv` knows the facts.
func FactsBucket(generation uint64) string { return fmt.Sprintf("facts_g%d", generation) }

// FactsSubject is the prefix of every fact's subject, with its dot.
func FactsSubject(generation uint64) string { return "$KV." + FactsBucket(generation) + "." }

// LedgerStream names the stream of the ledger of a generation.
func LedgerStream(generation uint64) string { return fmt.Sprintf("LEDGER_g%d", generation) }

// LedgerSubject is the prefix of every operation's subject, with its dot.
func LedgerSubject(generation uint64) string { return fmt.Sprintf("ledger.g%d.", generation) }

// MirrorDeliver is the prefix under which a machine's mirrors get their messages from the core.
func MirrorDeliver(machine string) string { return "mirror." + machine }

// CommandSubject is the subject prefix of commands to a machine, in BUS, with its dot. A machine
// subscribes to all of it by one wildcard.
func CommandSubject(machine string) string { return "cmd." + machine + "." }

// CommandAll is the subject prefix of commands to every machine, in BUS, with its dot.
const CommandAll = "cmd.all."

// Inbox is the prefix of the reply subjects of a machine's ployzd, in STORE and BUS.
func Inbox(machine string) string { return "_INBOX." + machine }

// Role names one nkey of a machine; one key serves one account on one server only.
type Role string

// The roles that a core knows: their public keys travel in the machine's fact.
const (
	// RoleEdge is the edge's leaf in STORE: reads all, writes nothing.
	RoleEdge Role = "edge"
	// RoleEdgeBus is the edge's leaf in BUS: hears its machine's commands and answers them.
	RoleEdgeBus Role = "edge-bus"
	// RoleCoordinator is ployzd's client in STORE: writes facts and ledger.
	RoleCoordinator Role = "coordinator"
	// RoleCoordinatorBus is ployzd's client in BUS: commands every machine.
	RoleCoordinatorBus Role = "coordinator-bus"
	// RoleSystem is ployzd's client in SYS: inspects and changes the cluster of cores.
	RoleSystem Role = "system"
)

// The roles that only the machine's own edge knows.
const (
	// RoleLocal is ployzd in the edge's STORE.
	RoleLocal Role = "local"
	// RoleLocalBus is ployzd in the edge's BUS.
	RoleLocalBus Role = "local-bus"
	// RoleLocalSystem is ployzd in the edge's SYS.
	RoleLocalSystem Role = "local-system"
	// RoleGateway is the gateway in the edge's STORE: reads facts.
	RoleGateway Role = "gateway"
	// RoleDNS is the resolver in the edge's STORE: reads facts.
	RoleDNS Role = "dns"
)

// Roles lists every key a machine has, in a fixed order. One that does not coordinate
// (added with --no-operate) lacks the three of CoordinatorRoles.
func Roles() []Role {
	return []Role{
		RoleEdge, RoleEdgeBus, RoleCoordinator, RoleCoordinatorBus, RoleSystem,
		RoleLocal, RoleLocalBus, RoleLocalSystem, RoleGateway, RoleDNS,
	}
}

// CoordinatorRoles are the keys that let a machine change the cluster.
func CoordinatorRoles() []Role { return []Role{RoleCoordinator, RoleCoordinatorBus, RoleSystem} }

// PublicKeys are a machine's public nkeys by role. A role without a key has no user.
type PublicKeys map[Role]string

// Shared returns the keys that the cores know, for the machine's fact.
func (k PublicKeys) Shared() PublicKeys {
	out := PublicKeys{}
	for _, r := range []Role{RoleEdge, RoleEdgeBus, RoleCoordinator, RoleCoordinatorBus, RoleSystem} {
		if k[r] != "" {
			out[r] = k[r]
		}
	}
	return out
}

// The ports of a core.
const (
	CoreClientPort = 4222
	CoreRoutePort  = 6222
	CoreLeafPort   = 7422
)

// EdgeListen is where an edge listens unless told otherwise.
var EdgeListen = netip.MustParseAddrPort("127.0.0.1:4222")

// Limits bound what a server may use. Zero means the default.
type Limits struct {
	MaxMemoryBytes int64
	MaxFileBytes   int64
}

func (l Limits) or(d Limits) Limits {
	if l.MaxMemoryBytes == 0 {
		l.MaxMemoryBytes = d.MaxMemoryBytes
	}
	if l.MaxFileBytes == 0 {
		l.MaxFileBytes = d.MaxFileBytes
	}
	return l
}

// Identity is the hash of a rendered configuration: what a unit carries, and what adoption compares.
func Identity(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}
