package natsconf_test

import (
	"crypto/sha256"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// keys are made from the names, so that goldens stay.
func keys(t *testing.T, machine string) natsconf.PublicKeys {
	t.Helper()
	out := natsconf.PublicKeys{}
	for _, role := range natsconf.Roles() {
		raw := sha256.Sum256([]byte(machine + "/" + string(role)))
		pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, raw[:])
		if err != nil {
			t.Fatal(err)
		}
		if out[role], err = pair.PublicKey(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

var overlay = netip.MustParseAddr("fd12:3456:789a:7::1")

func core(t *testing.T) natsconf.Core {
	edgeOnly := keys(t, "m8")
	for _, r := range natsconf.CoordinatorRoles() {
		delete(edgeOnly, r)
	}
	return natsconf.Core{
		Name: "m7-1", Cluster: "c1", Generation: 1, Address: overlay, StoreDir: "/var/lib/ployz/nats/core",
		Voters:   []netip.AddrPort{natsconf.RouteAddress(overlay)},
		Machines: []natsconf.Machine{{ID: "m8", Keys: edgeOnly.Shared()}, {ID: "m7", Keys: keys(t, "m7").Shared()}},
	}
}

func edge(t *testing.T) natsconf.Edge {
	return natsconf.Edge{
		Machine: "m7", Generation: 1, StoreDir: "/var/lib/ployz/nats/edge",
		Voters: []netip.AddrPort{natsconf.LeafAddress(overlay)}, Keys: keys(t, "m7"),
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(got) {
		t.Errorf("%s differs; look at it and run with -update:\n%s", name, got)
	}
}

// parsed is what nats-server makes of the text: a golden alone would not notice a word it ignores.
func parsed(t *testing.T, text []byte) *server.Options {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return o
}

func TestCoreGolden(t *testing.T) {
	text, err := natsconf.RenderCore(core(t))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "core.conf", text)
	o := parsed(t, text)
	if !o.SyncAlways || !o.LeafNode.IsolateLeafnodeInterest || o.Cluster.Port != 6222 || o.Cluster.Host != overlay.String() ||
		o.JetStreamDomain != "core" || o.SystemAccount != "SYS" || o.NoAuthUser != "" || len(o.Nkeys) != 7 || len(o.Routes) != 1 {
		t.Errorf("nats-server reads it as %+v", o)
	}
	for _, u := range o.Nkeys {
		if len(u.AllowedConnectionTypes) != 1 {
			t.Errorf("user %s may use any kind of connection", u.Nkey)
		}
	}
}

func TestEdgeGolden(t *testing.T) {
	text, err := natsconf.RenderEdge(edge(t))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "edge.conf", text)
	o := parsed(t, text)
	if !o.SyncAlways || o.Host != "127.0.0.1" || o.Cluster.Port != 0 || o.JetStreamDomain != "edge-m7" || len(o.Nkeys) != 5 || len(o.LeafNode.Remotes) != 2 {
		t.Errorf("nats-server reads it as %+v", o)
	}
	for _, r := range o.LeafNode.Remotes {
		if r.Nkey != "" || !r.IgnoreDiscoveredServers || len(r.URLs) != 1 || r.URLs[0].Host != "["+overlay.String()+"]:7422" {
			t.Errorf("leaf remote %+v", r)
		}
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	a, b := core(t), core(t)
	other := netip.MustParseAddr("fd12:3456:789a:3::1")
	a.Voters = append(a.Voters, natsconf.RouteAddress(other))
	b.Voters = []netip.AddrPort{natsconf.RouteAddress(other), b.Voters[0]}
	b.Machines[0], b.Machines[1] = b.Machines[1], b.Machines[0]
	ta, err := natsconf.RenderCore(a)
	if err != nil {
		t.Fatal(err)
	}
	tb, err := natsconf.RenderCore(b)
	if err != nil {
		t.Fatal(err)
	}
	if natsconf.Identity(ta) != natsconf.Identity(tb) {
		t.Errorf("identities differ:\n%s\n%s", ta, tb)
	}
}

func TestRefused(t *testing.T) {
	for name, change := range map[string]func(*natsconf.Core){
		"name with a quote":  func(c *natsconf.Core) { c.Name = `m"` },
		"no address":         func(c *natsconf.Core) { c.Address = netip.Addr{} },
		"every address":      func(c *natsconf.Core) { c.Address = netip.IPv6Unspecified() },
		"no voters":          func(c *natsconf.Core) { c.Voters = nil },
		"machine with a dot": func(c *natsconf.Core) { c.Machines[0].ID = "m.>" },
		"a seed for a key": func(c *natsconf.Core) {
			c.Machines[0].Keys = natsconf.PublicKeys{natsconf.RoleEdge: "SUA" + strings.Repeat("A", 55)}
		},
		"generation 0":        func(c *natsconf.Core) { c.Generation = 0 },
		"relative folder":     func(c *natsconf.Core) { c.StoreDir = "core" },
		"folder with a quote": func(c *natsconf.Core) { c.StoreDir = `/a"b` },
	} {
		c := core(t)
		change(&c)
		if _, err := natsconf.RenderCore(c); err == nil {
			t.Errorf("%s was rendered", name)
		}
	}
	e := edge(t)
	e.Listen = netip.MustParseAddrPort("0.0.0.0:4222")
	if _, err := natsconf.RenderEdge(e); err == nil {
		t.Error("an edge on every address was rendered")
	}
}
