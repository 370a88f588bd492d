package node_test

import (
	"go/token"
	"path"
	"strings"
	"testing"
)

// edges are the imports allowed between domains of the kernel, each with its reason. node/api may be
// imported by all of them and imports none.
var edges = map[[2]string]string{
	{"coordination", "store"}:     "a lease is a fact",
	{"operation", "store"}:        "the commit, the ledger and the open fact are in the store",
	{"operation", "coordination"}: "a run holds its scope, and the ledger says who",
	{"machine", "store"}:          "memberships are facts",
	{"machine", "operation"}:      "what changes memberships is an operation",
	{"routing", "store"}:          "the routing event is a fact, and followers read the mirror",
	{"deploy", "store"}:           "commits are facts",
	{"deploy", "operation"}:       "every primitive is an operation",
	{"deploy", "coordination"}:    "the local participant remembers fences",
	{"deploy", "machine"}:         "placement chooses among members",
	{"deploy", "routing"}:         "a commit carries its routing event in the same batch",
	{"deploy", "runtime"}:         "the local participant makes instances run",
	{"deploy", "storage"}:         "the local participant keeps and carries volumes",
	{"daemon", "store"}:           "the composition root and the surface see every domain",
	{"daemon", "coordination"}:    "the composition root and the surface see every domain",
	{"daemon", "operation"}:       "the composition root and the surface see every domain",
	{"daemon", "machine"}:         "the composition root and the surface see every domain",
	{"daemon", "routing"}:         "the composition root and the surface see every domain",
	{"daemon", "deploy"}:          "the composition root and the surface see every domain",
	{"daemon", "runtime"}:         "the composition root and the surface see every domain",
	{"daemon", "storage"}:         "the composition root and the surface see every domain",
	{"daemon", "services"}:        "the composition root and the surface see every domain",
	{"daemon", "storage"}:         "the composition root and the surface see every domain",
}

// outside are packages of this module beside node that its parts may import, with the reason.
var outside = map[[2]string]string{
	{"node/runtime", "units"}:          "units.Unit is the contract's word for what is supervised",
	{"node/services", "units"}:         "units are what is adopted",
	{"node/daemon", "units"}:           "the composition root renders them",
	{"node/runtime/runc", "units"}:     "an instance is a unit",
	{"node/services/systemd", "units"}: "the files it writes",
	{"node/services/memory", "units"}:  "the files it pretends to write",
}

// owners are the only packages that may import a library, so that there is one place to look at.
var owners = []struct {
	library string
	dirs    []string
}{
	{"github.com/vishvananda/netlink", []string{"datapath/link"}},
	{"github.com/vishvananda/netns", []string{"datapath/link"}},
	{"github.com/google/nftables", []string{"datapath/firewall"}},
	{"github.com/nats-io", []string{"node/store/natsstore", "node/coordination/natsbus", "cmd/ployz-nats"}},
	{"github.com/cilium/ebpf", []string{"datapath/classifier"}},
	{"github.com/spf13/cobra", []string{"cmd/ployzctl"}},
	{"github.com/miekg/dns", []string{"datapath/dns"}},
	{"golang.zx2c4.com/wireguard/wgctrl", []string{"node/mesh/wireguard"}},
	{"golang.zx2c4.com/wireguard/conn", []string{"cmd/ployz-wireguard"}},
	{"golang.zx2c4.com/wireguard/device", []string{"cmd/ployz-wireguard"}},
	{"golang.zx2c4.com/wireguard/ipc", []string{"cmd/ployz-wireguard"}},
	{"golang.zx2c4.com/wireguard/tun", []string{"cmd/ployz-wireguard"}},
	{"github.com/coreos/go-systemd/v22/dbus", []string{"node/services/systemd"}},
	{"github.com/prometheus", []string{"metrics"}},
	{"github.com/mistifyio/go-zfs", []string{"node/storage/zfs"}},
}

// madeForTests says that a folder is there for tests: a suite, a lab, a breaker.
func madeForTests(dir string) bool {
	if under(dir, "node/nodetest") {
		return true
	}
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasSuffix(part, "test") || part == "natslab" {
			return true
		}
	}
	return false
}

// domain is the kernel package that a folder is or belongs to; backend says that it is below it.
func domain(dir string) (name string, backend bool) {
	rest, inside := strings.CutPrefix(dir, "node/")
	if !inside {
		return "", false
	}
	name, _, backend = strings.Cut(rest, "/")
	return name, backend
}

// root says that a file may choose implementations.
func root(f file) bool {
	wire, _ := path.Match("node/daemon/wire*.go", f.path)
	return wire || under(f.dir, "cmd")
}

// durable is a leaf that both sides stand on.
const durable = "datapath/durable"

// forbidden is why a file must not import a package of this module, or "".
func forbidden(f file, imported string) string {
	from, fromBackend := domain(f.dir)
	to, toBackend := domain(imported)
	switch {
	case madeForTests(imported):
		return "only tests may import what is made for tests"
	case under(f.dir, "datapath") && (from != "" || under(imported, "node")):
		return "datapath has never heard of node"
	case under(f.dir, "datapath") && under(imported, "metrics"):
		return "datapath counts, and the mains tell"
	case under(f.dir, "metrics") && !madeForTests(f.dir) && !under(imported, "metrics"):
		return "metrics knows names and nobody's insides"
	case under(imported, durable):
		return "" // what must be there after a power cut is written in one way, whoever writes it
	case under(f.dir, durable):
		return "durable is a leaf"
	case root(f):
		return ""
	case from == "" && to == "" || f.dir == imported:
		return ""
	case from == "":
		return "only the mains import node"
	case from == "api":
		return "api needs nothing but the standard library"
	case from != "" && under(imported, "datapath"):
		return "only the composition root joins node to datapath"
	case from != "" && to == "":
		return allowed(outside[[2]string{f.dir, imported}], "not in the table of packages outside node")
	case toBackend && !(fromBackend && (to == from)):
		return "only the composition roots import a backend"
	case toBackend && !under(imported, backendOf(f.dir)):
		return "a backend never imports another backend"
	case to == "api" || from == to:
		return ""
	case fromBackend:
		return "a backend imports no domain but its own"
	case from == "sdk":
		return "a client knows nothing but api"
	}
	return allowed(edges[[2]string{from, to}], "not in the table of edges between domains")
}

func allowed(reason, otherwise string) string {
	if reason != "" {
		return ""
	}
	return otherwise
}

// backendOf is the backend's own folder, of it or of a part of it: node/store/natsstore/natsconf is of
// node/store/natsstore.
func backendOf(dir string) string {
	parts := strings.SplitN(dir, "/", 4)
	return strings.Join(parts[:min(3, len(parts))], "/")
}

func TestImports(t *testing.T) {
	used := map[[2]string]bool{}
	for _, f := range tree(t) {
		if f.test() || madeForTests(f.dir) {
			continue
		}
		for _, imported := range f.imports() {
			from, backend := domain(f.dir)
			if to, _ := domain(imported); !backend {
				used[[2]string{from, to}] = true
			}
			if strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") || !ours(imported) {
				continue
			}
			if why := forbidden(f, imported); why != "" {
				t.Errorf("%s imports %s: %s", f.path, imported, why)
			}
		}
	}
	for edge, reason := range edges {
		if !used[edge] {
			t.Errorf("the edge %s → %s (%s) is not used any more: take it out of the table", edge[0], edge[1], reason)
		}
	}
}

// ours reports whether an import, without the module's name, is of this module.
func ours(imported string) bool {
	switch first, _, _ := strings.Cut(imported, "/"); first {
	case "node", "datapath", "metrics", "units", "cmd", "examples", "packaging":
		return true
	}
	return false
}

func TestLibrariesHaveOneOwner(t *testing.T) {
	for _, f := range tree(t) {
		if f.test() || madeForTests(f.dir) {
			continue
		}
		for _, imported := range f.imports() {
			for _, o := range owners {
				if under(imported, o.library) && !ownedBy(f.dir, o.dirs) {
					t.Errorf("%s imports %s: only %s may", f.path, imported, strings.Join(o.dirs, " and "))
				}
			}
		}
	}
}

func ownedBy(dir string, owners []string) bool {
	for _, o := range owners {
		if under(dir, o) {
			return true
		}
	}
	return false
}

func TestAPINeedsOnlyTheStandardLibrary(t *testing.T) {
	for _, f := range tree(t) {
		if f.dir != "node/api" || f.test() {
			continue
		}
		for _, imported := range f.imports() {
			if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") || ours(imported) {
				t.Errorf("%s imports %s", f.path, imported)
			}
		}
	}
}

// TestTheRuleBites keeps the rule itself honest.
func TestTheRuleBites(t *testing.T) {
	for _, c := range []struct {
		file, imported string
		refused        bool
	}{
		{"node/deploy/plan.go", "node/store", false},
		{"node/deploy/plan.go", "node/api", false},
		{"node/deploy/plan.go", "node/services", true},
		{"node/deploy/plan.go", "node/store/natsstore", true},
		{"node/deploy/plan.go", "node/deploy/compose", true},
		{"node/deploy/plan.go", "datapath/link", true},
		{"node/deploy/plan.go", "node/store/storetest", true},
		{"node/store/key.go", "node/deploy", true},
		{"node/api/spec.go", "node/store", true},
		{"node/sdk/client.go", "node/api", false},
		{"node/sdk/client.go", "node/deploy", true},
		{"node/store/natsstore/commit.go", "node/store", false},
		{"node/store/natsstore/commit.go", "node/store/natsstore/natsconf", false},
		{"node/store/natsstore/natsconf/render.go", "node/store", false},
		{"node/store/natsstore/commit.go", "node/store/memstore", true},
		{"node/store/natsstore/commit.go", "node/routing", true},
		{"node/runtime/runc/unit.go", "units", false},
		{"node/runtime/oci/pull.go", "units", true},
		{"node/storage/zfs/pool.go", "node/storage", false},
		{"node/storage/zfs/pool.go", "node/storage/btrfs", true},
		{"node/daemon/api.go", "node/store/natsstore", true},
		{"node/daemon/wire.go", "node/store/natsstore", false},
		{"node/daemon/wire_network.go", "datapath/bridge", false},
		{"node/daemon/api.go", "datapath/bridge", true},
		{"cmd/ployzd/main.go", "node/store/natsstore", false},
		{"cmd/ployzd/main.go", "node/store/storetest", true},
		{"datapath/dns/zone.go", "node/api", true},
		{"datapath/dns/zone.go", "metrics", true},
		{"node/daemon/api.go", "metrics", true},
		{"node/daemon/wire_metrics.go", "metrics", false},
		{"metrics/page.go", "node/api", true},
		{"metrics/page.go", "datapath/gateway", true},
		{"datapath/bridge/ensure.go", "datapath/link", false},
		{"units/render.go", "node/api", true},
		{"node/store/natsstore/keys.go", durable, false},
		{"datapath/state/state.go", durable, false},
		{durable + "/durable.go", "node/api", true},
		{durable + "/durable.go", "units", true},
	} {
		f := file{path: c.file, dir: path.Dir(c.file), fset: token.NewFileSet()}
		if why := forbidden(f, c.imported); (why != "") != c.refused {
			t.Errorf("%s → %s: %q", c.file, c.imported, why)
		}
	}
}
