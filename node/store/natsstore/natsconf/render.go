package natsconf

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/template"
)

// Machine is one member of the cluster, as the cores need to know it.
type Machine struct {
	ID   string
	Keys PublicKeys
}

// Core is the input of a core's configuration. Name is the server's name, a machine id with an
// incarnation (m7k2-3) that is never used twice: Raft derives its identity from it.
type Core struct {
	Name       string
	Cluster    string // the cluster's id
	Generation uint64
	// Address is the machine's overlay address; nothing else is listened on.
	Address netip.Addr
	// ClientPort, RoutePort and LeafPort default to the Core…Port constants.
	ClientPort, RoutePort, LeafPort uint16
	StoreDir                        string
	// Voters are the route addresses of all voters, this one too: clustered mode demands a route.
	Voters   []netip.AddrPort
	Machines []Machine
	Limits   Limits
}

// Edge is the input of an edge's configuration.
type Edge struct {
	Machine    string
	Generation uint64
	// Listen is a loopback address; zero means EdgeListen.
	Listen   netip.AddrPort
	StoreDir string
	// Voters are the leaf addresses of all voters.
	Voters []netip.AddrPort
	Keys   PublicKeys
	Limits Limits
}

//go:embed core.conf.tmpl
var coreText string

//go:embed edge.conf.tmpl
var edgeText string

//go:embed accounts.conf.tmpl
var accountsText string

// RenderCore returns the configuration of a core. Machines and voters may come in any order.
func RenderCore(c Core) ([]byte, error) {
	if err := c.valid(); err != nil {
		return nil, err
	}
	c.Limits = c.Limits.or(Limits{MaxMemoryBytes: 64 << 20, MaxFileBytes: 4 << 30})
	c.ClientPort, c.RoutePort, c.LeafPort = port(c.ClientPort, CoreClientPort), port(c.RoutePort, CoreRoutePort), port(c.LeafPort, CoreLeafPort)
	c.Voters = sorted(c.Voters)
	c.Machines = slices.SortedFunc(slices.Values(c.Machines), func(a, b Machine) int { return strings.Compare(a.ID, b.ID) })
	return render("core.conf", coreText, struct {
		Core
		Accounts []account
	}{c, accounts(func(name string) []user { return coreUsers(name, c.Machines, c.Generation) })})
}

// RenderEdge returns the configuration of an edge.
func RenderEdge(e Edge) ([]byte, error) {
	if e.Listen == (netip.AddrPort{}) {
		e.Listen = EdgeListen
	}
	if err := e.valid(); err != nil {
		return nil, err
	}
	e.Limits = e.Limits.or(Limits{MaxMemoryBytes: 16 << 20, MaxFileBytes: 2 << 30})
	e.Voters = sorted(e.Voters)
	return render("edge.conf", edgeText, struct {
		Edge
		Name, Domain string
		Accounts     []account
	}{e, EdgeDomain(e.Machine), EdgeDomain(e.Machine), accounts(func(name string) []user { return edgeUsers(name, e) })})
}

type account struct {
	Name      string
	JetStream bool
	Users     []user
}

func accounts(users func(string) []user) []account {
	var out []account
	for _, name := range []string{AccountStore, AccountBus, AccountSystem} {
		out = append(out, account{name, name == AccountStore, users(name)})
	}
	return out
}

func render(name, text string, in any) ([]byte, error) {
	funcs := template.FuncMap{"q": quote, "list": list}
	t, err := template.New(name).Funcs(funcs).Parse(accountsText + text)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, in); err != nil {
		return nil, err
	}
	return append(bytes.TrimSpace(out.Bytes()), '\n'), nil
}

// quote prints a string for the configuration; valid has refused what would need escaping.
func quote(v any) string { return `"` + fmt.Sprint(v) + `"` }

func list(subjects []string) string {
	var out []string
	for _, s := range subjects {
		out = append(out, quote(s))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func port(p, fallback uint16) uint16 {
	if p == 0 {
		return fallback
	}
	return p
}

func sorted(in []netip.AddrPort) []netip.AddrPort {
	return slices.SortedFunc(slices.Values(in), netip.AddrPort.Compare)
}

// HostPort returns the address with a port, in brackets where it is IPv6.
func (c Core) HostPort(port uint16) string { return netip.AddrPortFrom(c.Address, port).String() }
