package store

import (
	"strconv"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// Key names a fact: tokens of [A-Za-z0-9_-] joined by dots, at most 200 bytes. The functions
// below are the whole schema; nothing else in the tree spells a key.
type Key string

// maxKeyBytes keeps a key, with the stream's own prefix, well inside a NATS subject.
const maxKeyBytes = 200

// Cluster is the cluster's identity, generation and voters.
func Cluster() Key { return "cluster" }

// Machine is a machine's membership: names, keys, addresses, labels, state.
func Machine(id string) Key { return join("machine", id) }

// Machines is the prefix of all memberships.
func Machines() Key { return "machine" }

// MachineName claims a name for the machine with an id.
func MachineName(name string) Key { return join("machinename", name) }

// MachineNames is the prefix of all claims of names.
func MachineNames() Key { return "machinename" }

// MachineSubnet claims the subnet with a number, from 1, for the machine with an id.
func MachineSubnet(number uint16) Key { return join("machinesubnet", strconv.Itoa(int(number))) }

// Token is an open invitation to join, by the hash of its public key.
func Token(hash string) Key { return join("token", hash) }

// Tokens is the prefix of all open invitations.
func Tokens() Key { return "token" }

// SharedKey is the key that all machines fingerprint secrets with, sealed to each of them.
func SharedKey() Key { return "sharedkey" }

// Update is the last update of machines that was asked for.
func Update() Key { return "update" }

// LastRepair is the last fact that could not be read and was put back or removed, with the operation that did it.
func LastRepair() Key { return "repair" }

// Namespace is the prefix of everything about one namespace.
func Namespace(ns string) Key { return join("ns", ns) }

// Head is the namespace's one guarded fact: every batch about the namespace writes it. Heads live under
// a prefix of their own, so that listing namespaces does not read their histories.
func Head(ns string) Key { return join("head", ns) }

// Heads is the prefix of every namespace's head.
func Heads() Key { return "head" }

// Commit is one immutable deploy commit.
func Commit(ns, commit string) Key { return join("ns", ns, "commit", commit) }

// Commits is the prefix of a namespace's history.
func Commits(ns string) Key { return join("ns", ns, "commit") }

// Route is the namespace's whole routing view: the routing event. It lives outside the namespace's
// own prefix so that a gateway follows all of them and nothing else.
func Route(ns string) Key { return join("route", ns) }

// Routes is the prefix of every namespace's routing view.
func Routes() Key { return "route" }

// Instance is the lifecycle fact of one instance, written by operations.
func Instance(ns, instance string) Key { return join("ns", ns, "inst", instance) }

// Secret is one sealed secret of a namespace.
func Secret(ns, name string) Key { return join("ns", ns, "secret", name) }

// Secrets is the prefix of a namespace's sealed secrets.
func Secrets(ns string) Key { return join("ns", ns, "secret") }

// Config is one named configuration text of a namespace.
func Config(ns, name string) Key { return join("ns", ns, "config", name) }

// Configs is the prefix of a namespace's named configurations.
func Configs(ns string) Key { return join("ns", ns, "config") }

// Volume is one data set of a namespace, by its ID.
func Volume(ns, id string) Key { return join("ns", ns, "volume", id) }

// Volumes is the prefix of a namespace's data sets.
func Volumes(ns string) Key { return join("ns", ns, "volume") }

// LastPrune is what the last volume prune of a namespace took the facts of, with the operation that did it.
func LastPrune(ns string) Key { return join("ns", ns, "prune") }

// Branch is the lineage of a namespace that began as a copy of another.
func Branch(ns string) Key { return join("branch", ns) }

// Branches is the prefix of every branch's lineage.
func Branches() Key { return "branch" }

// NamespaceID claims a 32-bit namespace id, in hex, so that no two namespaces share one.
func NamespaceID(hex string) Key { return join("nsid", hex) }

// NamespaceIDs is the prefix of all claims of namespace ids.
func NamespaceIDs() Key { return "nsid" }

// Hostname claims a hostname for the namespace that routes it. Dots become underscores, which
// hostnames cannot contain, and a wildcard's star becomes "_any".
func Hostname(host string) Key {
	host = strings.ReplaceAll(strings.ToLower(host), "*", "_any")
	return join("host", strings.ReplaceAll(host, ".", "_"))
}

// GatewayPort claims a layer-4 port of the gateways for one namespace.
func GatewayPort(port uint16) Key { return join("port", strconv.Itoa(int(port))) }

// MachinePort claims a published port ("tcp" or "udp") of one machine, by its name, for one namespace.
func MachinePort(machine, protocol string, port uint16) Key {
	return join("machineport", machine, protocol, strconv.Itoa(int(port)))
}

// Hostnames is the prefix of all hostname claims.
func Hostnames() Key { return "host" }

// LastRun is the last command that was run once in a namespace, with the operation that did it.
func LastRun(ns string) Key { return join("ns", ns, "run") }

// MachineImages is the last operation on a machine's images; the images are on its own disk.
func MachineImages(name string) Key { return join("status", name, "images") }

// Lease is the fence of one scope: holder and operation, with a TTL.
func Lease(scope string) Key { return join("lease", strings.ReplaceAll(scope, "/", "_")) }

// Leases is the prefix of all leases.
func Leases() Key { return "lease" }

// Open names the operation that began on a scope and has not come to a clean end. It has no TTL:
// an interrupted operation stays a fact until a later one deals with it.
func Open(scope string) Key { return join("open", strings.ReplaceAll(scope, "/", "_")) }

// Opens is the prefix of all begun operations.
func Opens() Key { return "open" }

func join(tokens ...string) Key { return Key(strings.Join(tokens, ".")) }

// Namespace returns the namespace that the key is about: of a head, a routing view, a lineage, or of anything under its own
// prefix; "" for every other.
func (k Key) Namespace() string {
	first, rest, _ := strings.Cut(string(k), ".")
	if prefix := Key(first); prefix != Heads() && prefix != Routes() && prefix != Branches() && prefix != "ns" {
		return ""
	}
	ns, _, _ := strings.Cut(rest, ".")
	return ns
}

// Under reports whether the key is the prefix itself or lies below it, by whole tokens.
func (k Key) Under(prefix Key) bool {
	return prefix == "" || k == prefix || strings.HasPrefix(string(k), string(prefix)+".")
}

// Last returns the key's last token.
func (k Key) Last() string { return string(k[strings.LastIndexByte(string(k), '.')+1:]) }

// Valid returns request.malformed when the key cannot be stored.
func (k Key) Valid() error {
	if len(k) == 0 || len(k) > maxKeyBytes {
		return api.Errorf(api.CodeBadRequest, "a key has 1 to %d bytes, this one has %d", maxKeyBytes, len(k))
	}
	for token := range strings.SplitSeq(string(k), ".") {
		if token == "" || strings.ContainsFunc(token, notKeyRune) {
			return api.Errorf(api.CodeBadRequest, "key %q: each token between dots is letters, digits, - and _", string(k))
		}
	}
	return nil
}

// ValidPrefix is Valid for a prefix, which may be empty.
func (k Key) ValidPrefix() error {
	if k == "" {
		return nil
	}
	return k.Valid()
}

func notKeyRune(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}

// String makes the key readable in messages.
func (k Key) String() string { return string(k) }
