package dns

import (
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestCaller(t *testing.T) {
	s := newTestServer(t, testZone())
	tests := []struct {
		from string
		want caller
	}{
		{"127.0.0.1", caller{kind: callerMachine}},
		{"127.0.0.55", caller{kind: callerMachine}}, // Zone.Self
		{"127.1.0.1", caller{kind: callerMachine}},  // this machine's own entry
		{"fd00:aa:bb:1::1", caller{kind: callerMachine}},
		{"127.1.0.2", caller{callerWorkload, prodID}},
		{"127.1.0.9", caller{callerWorkload, devID}},
		{"fd00:aa:bb:1:0:10:0:1", caller{callerWorkload, prodID}},
		{"fd00:aa:bb:1:0:99:0:1", caller{callerWorkload, 0x99}}, // not committed yet
		{"fd00:aa:bb:1::2", caller{}},                           // no namespace bits
		{"fd00:aa:bb:2:0:10:0:1", caller{}},                     // another machine's workload
		{"127.1.2.3", caller{}},                                 // the same by v4
		{"fd00:aa:bb:2::1", caller{}},                           // another machine
		{"::1", caller{}},                                       // not trusted in tests
		{"192.0.2.1", caller{}},
	}
	for _, tt := range tests {
		if got := s.view.Load().caller(netip.MustParseAddr(tt.from), s.Trusted); got != tt.want {
			t.Errorf("caller(%s) = %+v, want %+v", tt.from, got, tt.want)
		}
	}
}

func TestReverseZones(t *testing.T) {
	tests := map[string]string{
		"10.101.0.0/16":     "101.10.in-addr.arpa.",
		"10.101.7.0/24":     "7.101.10.in-addr.arpa.",
		"10.96.0.0/14":      "96.10.in-addr.arpa. 97.10.in-addr.arpa. 98.10.in-addr.arpa. 99.10.in-addr.arpa.",
		"10.0.254.0/23":     "254.0.10.in-addr.arpa. 255.0.10.in-addr.arpa.",
		"fd00:aa:bb::/48":   "b.b.0.0.a.a.0.0.0.0.d.f.ip6.arpa.",
		"fd00:aa:bb:4::/63": "4.0.0.0.b.b.0.0.a.a.0.0.0.0.d.f.ip6.arpa. 5.0.0.0.b.b.0.0.a.a.0.0.0.0.d.f.ip6.arpa.",
	}
	for prefix, want := range tests {
		if got := strings.Join(reverseZones(netip.MustParsePrefix(prefix)), " "); got != want {
			t.Errorf("reverseZones(%s)\n got %s\nwant %s", prefix, got, want)
		}
	}
}

// TestRejected breaks one namespace, or the frame, in every way there is.
func TestRejected(t *testing.T) {
	prod := func(f func(*Namespace)) func(*Zone) {
		return func(z *Zone) { z.Namespaces[0].Sequence++; f(&z.Namespaces[0]) }
	}
	web := func(f func(*Service)) func(*Zone) { return prod(func(n *Namespace) { f(&n.Services[0]) }) }
	first := func(f func(*Instance)) func(*Zone) { return web(func(s *Service) { f(&s.Instances[0]) }) }
	tests := []struct {
		change func(*Zone)
		part   string
		field  string
		err    error
	}{
		{prod(func(n *Namespace) { n.Name = "Prod" }), "Prod", "name", ErrName},
		{prod(func(n *Namespace) { n.Name = "machine" }), "machine", "name", ErrReserved},
		{prod(func(n *Namespace) { n.ID = 0 }), "prod", "id", ErrID},
		{prod(func(n *Namespace) { n.ID = devID }), "prod", "services[0].instances[0].v6", ErrAddress},
		{prod(func(n *Namespace) { n.Sequence = 3 }), "prod", "sequence", ErrRegressed},
		{prod(func(n *Namespace) { n.Services = append(n.Services, Service{Name: "web"}) }), "prod", "services[4].name", ErrDuplicate},
		{prod(func(n *Namespace) { n.Exports[0].Service = "nosuch" }), "prod", "exports[0].service", ErrExport},
		{prod(func(n *Namespace) { n.Exports[0].To = nil }), "prod", "exports[0].to", ErrExport},
		{prod(func(n *Namespace) { n.Exports[0].To = []string{"a.b"} }), "prod", "exports[0].to[0]", ErrName},
		{web(func(s *Service) { s.Name = "a_b" }), "prod", "services[0].name", ErrName},
		{web(func(s *Service) { s.Name = strings.Repeat("a", 64) }), "prod", "services[0].name", ErrName},
		{web(func(s *Service) { s.Instances = make([]Instance, 1001) }), "prod", "services[0].instances", ErrTooLarge},
		{first(func(i *Instance) { i.ID = "" }), "prod", "services[0].instances[0].id", ErrID},
		{first(func(i *Instance) { i.ID = "b" }), "prod", "services[0].instances[1].id", ErrDuplicate},
		{first(func(i *Instance) { i.Slot = "-" }), "prod", "services[0].instances[0].slot", ErrName},
		{first(func(i *Instance) { i.Machine = "" }), "prod", "services[0].instances[0].machine", ErrName},
		{first(func(i *Instance) { i.V4, i.V6 = netip.Addr{}, netip.Addr{} }), "prod", "services[0].instances[0].v4", ErrAddress},
		{first(func(i *Instance) { i.V4 = v4("8.8.8.8") }), "prod", "services[0].instances[0].v4", ErrAddress},
		{first(func(i *Instance) { i.V4 = i.V6 }), "prod", "services[0].instances[0].v4", ErrAddress},
		{first(func(i *Instance) { i.V4 = v4("127.1.2.3") }), "prod", "services[0].instances[1].v4", ErrDuplicate},
		{first(func(i *Instance) { i.V4 = v4("127.1.2.8") }), "prod", "services[0].instances[0].v4", ErrClaimed},
		{first(func(i *Instance) { i.V6 = v6(devID, 1) }), "prod", "services[0].instances[0].v6", ErrAddress},
		{first(func(i *Instance) { i.Ports = []Port{{"http", "tcp", 0}} }), "prod", "services[0].instances[0].ports[0].port", ErrPort},
		{first(func(i *Instance) { i.Ports = []Port{{"http", "sctp", 1}} }), "prod", "services[0].instances[0].ports[0].proto", ErrPort},
		{first(func(i *Instance) { i.Ports = []Port{{"_http", "tcp", 1}} }), "prod", "services[0].instances[0].ports[0].name", ErrPort},
		{first(func(i *Instance) { i.Ports = []Port{{"a", "tcp", 1}, {"a", "tcp", 2}} }), "prod", "services[0].instances[0].ports[1].name", ErrDuplicate},
		{func(z *Zone) { z.Machine = "" }, "", "machine", ErrName},
		{func(z *Zone) { z.Machines[1].Name = "m1" }, "", "machines[1].name", ErrDuplicate},
		{func(z *Zone) { z.Machines[1].Name = "M" }, "", "machines[1].name", ErrName},
		{func(z *Zone) { z.Machines[1].V4 = z.Machines[1].V6 }, "", "machines[1].v4", ErrAddress},
		{func(z *Zone) { z.Locals[0].V4 = netip.IPv6Loopback() }, "", "locals[0].v4", ErrAddress},
		{func(z *Zone) { z.Locals[0].Namespace = 0 }, "", "locals[0].namespace", ErrID},
		{func(z *Zone) { z.Subnet6 = netip.MustParsePrefix("fd00::/48") }, "", "subnet6", ErrAddress},
		{func(z *Zone) { z.Prefixes[0] = netip.MustParsePrefix("0.0.0.0/0") }, "", "prefixes[0]", ErrAddress},
	}
	for _, tt := range tests {
		s := newTestServer(t, testZone())
		z := testZone()
		tt.change(&z)
		z.Namespaces[1].Sequence = 10
		z.Namespaces[1].Services[0].Instances[0].Slot = "new"
		err := s.Apply(z)
		var part *PartError
		if !errors.As(err, &part) || part.Part != tt.part || part.Field != tt.field || !errors.Is(err, tt.err) {
			t.Errorf("Apply: %v, want part %q, field %s, %v", err, tt.part, tt.field, tt.err)
			continue
		}
		checkRest(t, s, err, part)
	}
}

// checkRest holds that dev, the good one, is served as of now, that prod is as it was, unless
// it was renamed and so is gone, and that the status tells.
func checkRest(t *testing.T, s *Server, err error, part *PartError) {
	t.Helper()
	machine := caller{kind: callerMachine}
	v := s.view.Load()
	if v.find(mustKey("new.web.dev.ployz.internal."), machine) == nil {
		t.Errorf("after %v: dev is not what was applied", err)
	}
	kept := v.find(mustKey("web-0.web.prod.ployz.internal."), machine)
	if renamed := part.Field == "name"; renamed != (kept == nil) {
		t.Errorf("after %v: prod is served: %v", err, kept != nil)
	} else if kept != nil && (len(kept.v4.list) != 1 || kept.v4.list[0] != fromProd) {
		t.Errorf("after %v: prod is not its last good view: %v", err, kept.v4.list)
	}
	st := s.Status()
	if st.State != StateDegraded || len(st.Rejected) != 1 || st.Rejected[0].Part != part.Part || st.Rejected[0].Error != part.Error() {
		t.Errorf("after %v: status is %s, rejected %+v", err, st.State, st.Rejected)
	}
}

func TestRejectionEndsWithAGoodView(t *testing.T) {
	s := newTestServer(t, testZone())
	z := testZone()
	z.Namespaces[0].Services[0].Name = "BAD"
	z.Namespaces[0].Sequence = 20
	if err := s.Apply(z); !errors.Is(err, ErrName) {
		t.Fatalf("Apply: %v", err)
	}
	since := s.Status().Rejected[0].Since
	_ = s.Apply(z) // rejected for the same reason again
	if again := s.Status().Rejected[0].Since; !again.Equal(since) {
		t.Errorf("rejected since %v became %v", since, again)
	}
	z.Namespaces[0].Services[0].Name = "web"
	z.Namespaces[0].Sequence = 21
	if err := s.Apply(z); err != nil {
		t.Fatal(err)
	}
	if st := s.Status(); st.State != StateServing || len(st.Rejected) != 0 || st.Sequence != 21 {
		t.Errorf("status %s at %d, rejected %v", st.State, st.Sequence, st.Rejected)
	}
}

func TestAnotherGenerationMayGoBack(t *testing.T) {
	s := newTestServer(t, testZone())
	z := testZone()
	z.Generation, z.Namespaces[0].Sequence = "g2", 1
	if err := s.Apply(z); err != nil {
		t.Fatal(err)
	}
}

// TestAddressMoves lets one namespace take over in one step what another gives up.
func TestAddressMoves(t *testing.T) {
	s := newTestServer(t, testZone())
	z := testZone()
	given := z.Namespaces[0].Services[1].Instances[0].V4
	z.Namespaces[0].Services[1].Instances = nil
	z.Namespaces[0].Sequence = 11
	z.Namespaces[1].Services[0].Instances[0].V4 = given
	z.Namespaces[1].Sequence = 12
	if err := s.Apply(z); err != nil {
		t.Fatal(err)
	}
}

func TestLastGood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dns", "zone.json")
	s := newTestServer(t, testZone())
	s.LastGood = path
	z := testZone()
	z.Namespaces[0].Services[0].Name = "BAD"
	z.Namespaces[0].Sequence = 20
	if err := s.Apply(z); !errors.Is(err, ErrName) {
		t.Fatalf("Apply: %v", err)
	}
	next := NewServer()
	next.LastGood = path
	if err := next.Restore(); err != nil {
		t.Fatal(err)
	}
	st := next.Status()
	if st.State != StateUncertain || st.Uncertain == "" || st.Namespaces[1].Sequence != 7 {
		t.Errorf("restored: %+v, want uncertain with prod at 7", st)
	}
	if !slices.Equal(next.Zone().Namespaces[1].Services[0].Instances[0].Ports, testZone().Namespaces[0].Services[0].Instances[0].Ports) {
		t.Error("ports were lost on disk")
	}
	if err := next.Apply(testZone()); err != nil || next.Status().State != StateServing {
		t.Errorf("Apply: %v, state %s", err, next.Status().State)
	}
}

// TestFastAndParsedAgree asks both paths everything that the zone has and a bit more.
func TestFastAndParsedAgree(t *testing.T) {
	s := newTestServer(t, testZone())
	v := s.view.Load()
	names := []string{"nosuch.prod.ployz.internal.", "web.", "."}
	for key := range v.nodes {
		name, _, err := dns.UnpackDomainName([]byte(key), 0)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name, strings.ToUpper(name))
	}
	answered := 0
	for _, name := range names {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV} {
			for _, from := range []netip.Addr{fromProd, fromDev, fromMachine} {
				for flags := range 16 {
					answered += comparePaths(t, s, v, name, qtype, from, flags)
				}
			}
		}
	}
	if answered < 500 {
		t.Errorf("the fast path took %d questions, which is too few to have tested it", answered)
	}
}

func comparePaths(t *testing.T, s *Server, v *view, name string, qtype uint16, from netip.Addr, flags int) int {
	m := question(name, qtype)
	m.RecursionDesired, m.CheckingDisabled = flags&1 != 0, flags&2 != 0
	if flags&4 != 0 {
		m.SetEdns0(1232, flags&8 != 0)
	}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := query{raw: raw, from: from}
	x := exchange{server: s, view: v, caller: v.caller(from, s.Trusted)}
	fast := v.fast(q, x.caller)
	if fast == nil {
		return 0
	}
	slow, _ := x.parsed(q)
	var a, b dns.Msg
	if err := errors.Join(a.Unpack(fast), b.Unpack(slow)); err != nil {
		t.Fatal(err)
	}
	one, two := sortedText(&a), sortedText(&b)
	if one != two {
		t.Errorf("%s %s from %v, flags %d\nfast:\n%s\nparsed:\n%s", name, dns.TypeToString[qtype], from, flags, one, two)
	}
	if len(fast) != len(slow) {
		t.Errorf("%s: fast is %d bytes, parsed %d", name, len(fast), len(slow))
	}
	return 1
}

// sortedText is the whole message in text, its lines sorted because answers are shuffled.
func sortedText(m *dns.Msg) string {
	lines := strings.Split(m.String(), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
