package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/datapath/dns"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

func identity() machine.Identity {
	return machine.Identity{
		ID: "m1id", Name: "m1", Generation: 1, Overlay: netip.MustParseAddr("fd00:1:0:1::1"),
		Subnet4: netip.MustParsePrefix("10.101.1.0/24"), Subnet6: netip.MustParsePrefix("fd00:1:0:1::/64"),
		CIDR: netip.MustParsePrefix("10.101.0.0/16"), Prefix: netip.MustParsePrefix("fd00:1::/48"),
	}
}

func newSource(t testing.TB) *routingSource {
	t.Helper()
	server := dns.NewServer()
	server.Log = slog.New(slog.DiscardHandler)
	return newRoutingSource(edgeOptions{state: t.TempDir()}, server, server.Log)
}

func applied(at store.Revision, ns string, id uint32, v4 string) routing.Applied {
	v6 := netip.MustParseAddr(fmt.Sprintf("fd00:1:0:1:%x:%x:0:%x", id>>16, id&0xffff, at))
	return routing.Applied{Revision: at, View: routing.View{Schema: 1, Namespace: ns, NamespaceID: id, Services: map[string]routing.Service{"web": {
		Instances: []routing.Instance{{ID: "i1", Slot: "web-0", Machine: "m1", V4: netip.MustParseAddr(v4), V6: v6}},
		Ports:     []routing.Port{{Name: "http", Number: 80, Protocol: "tcp"}, {Name: "http", Number: 8080}, {Name: "53", Number: 53, Protocol: "udp"}, {Name: "http", Number: 80}},
		Exports:   []string{"*"},
	}}}}
}

func TestConvert(t *testing.T) {
	a := applied(5, "shop", 7, "10.101.1.2")
	got := convert(a.View, 5)
	in := a.View.Services["web"].Instances[0]
	want := dns.Namespace{ID: 7, Name: "shop", Sequence: 5,
		Services: []dns.Service{{Name: "web", Instances: []dns.Instance{{
			ID: "i1", Slot: "web-0", Machine: "m1", V4: in.V4, V6: in.V6, Ready: true,
			Ports: []dns.Port{{Name: "http", Proto: "tcp", Port: 80}, {Name: "8080", Proto: "tcp", Port: 8080}, {Name: "53", Proto: "udp", Port: 53}, {Name: "80", Proto: "tcp", Port: 80}},
		}}}},
		Exports: []dns.Export{{Service: "web", To: []string{"*"}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
	if err := got.Check(frame(identity()).Prefixes); err != nil {
		t.Error(err)
	}
}

// TestFrame: what the machine knows of itself makes a zone that the server takes.
func TestFrame(t *testing.T) {
	s := newSource(t)
	s.applyRoutes(routing.Projection{Namespaces: map[string]routing.Applied{"shop": applied(5, "shop", 7, "10.101.1.2")}, Revision: 5, Generation: 1})
	s.applyDoubt("")
	if st := s.server.Status(); st.Uncertain == "" || len(st.Namespaces) != 0 {
		t.Fatalf("without an identity: %+v", st)
	}
	s.applyLocal(identity(), nil, []dns.Local{{V4: netip.MustParseAddr("10.101.1.9"), Namespace: 7}})
	s.applyMachines([]dns.Machine{machineOf("m2", netip.MustParsePrefix("10.101.2.0/24"), netip.MustParseAddr("fd00:1:0:2::1"))})
	z := s.server.Zone()
	if st := s.server.Status(); st.State != dns.StateServing || st.Sequence != 5 || len(z.Machines) != 2 || len(z.Locals) != 1 || z.Machine != "m1" {
		t.Errorf("%+v\n%+v", st, z)
	}
	if z.Self[0] != netip.MustParseAddr("10.101.1.1") || z.Machines[0].V4 != netip.MustParseAddr("10.101.2.1") {
		t.Errorf("%+v", z)
	}
	s.applyLocal(machine.Identity{}, errors.New("gone"), nil)
	if st := s.server.Status(); st.Machine != "m1" || len(st.Namespaces) != 1 {
		t.Errorf("the identity was forgotten with its file: %+v", st)
	}
}

// TestDoubtStays: what is applied while the routes are uncertain does not make them certain.
func TestDoubtStays(t *testing.T) {
	s := newSource(t)
	s.applyLocal(identity(), nil, nil)
	s.applyDoubt("cut off")
	s.applyMachines([]dns.Machine{{Name: "m2"}})
	s.applyRoutes(routing.Projection{Revision: 3, Generation: 1})
	if got := s.server.Status().Uncertain; got != "cut off" {
		t.Errorf("uncertain %q", got)
	}
	s.applyDoubt("")
	if got := s.server.Status().Uncertain; got != "" {
		t.Errorf("uncertain %q", got)
	}
}

// TestStoreThatWentBack: the follower decides that; the server's own guard must not refuse it.
func TestStoreThatWentBack(t *testing.T) {
	s := newSource(t)
	s.applyLocal(identity(), nil, nil)
	for _, at := range []store.Revision{9, 4} {
		s.applyRoutes(routing.Projection{Namespaces: map[string]routing.Applied{"shop": applied(at, "shop", 7, "10.101.1.2")}, Revision: at, Generation: 1})
		if st := s.server.Status(); st.Sequence != uint64(at) || len(st.Rejected) > 0 {
			t.Errorf("at %d: %+v", at, st)
		}
	}
}

// TestMembers: names come and go with the memberships; a damaged one spoils nothing, and an empty
// mirror takes nothing away.
func TestMembers(t *testing.T) {
	s := memstore.New(memstore.Config{})
	batch := 0
	put := func(id, text string) {
		t.Helper()
		batch++
		p := store.Put{Key: store.Machine(id), Value: []byte(text), Remove: text == ""}
		if _, err := s.Facts().Commit(t.Context(), store.Batch{ID: fmt.Sprint(batch), Puts: []store.Put{p}}); err != nil {
			t.Fatal(err)
		}
	}
	source := newSource(t)
	source.applyLocal(identity(), nil, nil)
	source.members.view = s.View()
	follow := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { source.members.run(ctx) })
		return func() { cancel(); running.Wait() }
	}
	stop := follow()
	awaitNames(t, source, "m1")
	put("a", `{"name": "m2", "overlay": "fd00:1:0:2::1", "subnet4": "10.101.2.0/24", "newer": {"field": 1}}`)
	awaitNames(t, source, "m1", "m2")
	put("b", `{"name": "Not A Label"}`)
	put("a", `{]`)
	put("c", `{"name": "m3", "overlay": "fd00:1:0:3::1", "subnet4": "10.101.3.0/24"}`)
	awaitNames(t, source, "m1", "m2", "m3")
	stop()
	put("d", `{"name": "m4", "overlay": "fd00:1:0:4::1", "subnet4": "10.101.4.0/24"}`)
	t.Cleanup(follow()) // all is read anew, with the damaged one in it
	awaitNames(t, source, "m1", "m2", "m3", "m4")
	put("d", "")
	put("a", "")
	awaitNames(t, source, "m1", "m3")
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		got := source.members.load()
		if len(got) == 1 && got[0].Name == "m3" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("on disk: %+v", got)
		}
	}
}

func awaitNames(t *testing.T, s *routingSource, want ...string) {
	t.Helper()
	var got []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		got = nil
		names := map[string]bool{}
		for _, m := range s.server.Zone().Machines {
			names[m.Name] = true
		}
		for _, name := range want {
			if names[name] {
				got = append(got, name)
			}
		}
		if len(got) == len(want) && len(names) == len(want) {
			return
		}
	}
	t.Fatalf("machines %v, want %v", got, want)
}

// TestLocalAddresses: links come, are damaged and go, in folders that come and go too.
func TestLocalAddresses(t *testing.T) {
	s := newSource(t)
	// Who the machine is changes after the first look and before the watch: nobody is told of that.
	s.local.read()
	if err := identity().Save(s.local.state); err != nil {
		t.Fatal(err)
	}
	go s.local.watch(t.Context())
	await := func(what string, want ...string) {
		t.Helper()
		var got []string
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			got = nil
			for _, l := range s.server.Zone().Locals {
				got = append(got, fmt.Sprintf("%s=%d", l.V4, l.Namespace))
			}
			if s.server.Zone().Machine == "m1" && reflect.DeepEqual(got, want) {
				return
			}
		}
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
	link := func(id, text string) {
		t.Helper()
		dir := filepath.Join(s.local.workloads(), id)
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "new"), []byte(text), 0o600),
			os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "link.json"))); err != nil {
			t.Fatal(err)
		}
	}
	await("no folder")
	link("a", `{"id": "a", "v4": "10.101.1.5", "v6": "fd00:1:0:1:0:7:0:1"}`)
	await("the first", "10.101.1.5=7")
	link("b", `{"id": "b", "v4": "10.101.1.6", "v6": "fd00:1:0:1:0:8:0:1", "mtu": 1400}`)
	link("c", `{"id": "c", "v4": "10.101.1`)
	await("a second, and a damaged one", "10.101.1.5=7", "10.101.1.6=8")
	if err := os.RemoveAll(filepath.Join(s.local.workloads(), "a")); err != nil {
		t.Fatal(err)
	}
	await("one is gone", "10.101.1.6=8")
	link("c", `{"id": "c", "v4": "10.101.1.7", "v6": "fd00:1:0:1:0:7:0:2"}`)
	await("mended", "10.101.1.6=8", "10.101.1.7=7")
}

// BenchmarkApplyAll is what a rebuild of 10 000 instances in 100 namespaces costs the resolver,
// BenchmarkApplyOne one commit beside them.
func BenchmarkApplyAll(b *testing.B) {
	p := manyInstances()
	for b.Loop() {
		s := newSource(b)
		s.applyLocal(identity(), nil, nil)
		s.applyRoutes(p)
	}
}

func BenchmarkApplyOne(b *testing.B) {
	s := newSource(b)
	s.applyLocal(identity(), nil, nil)
	p := manyInstances()
	s.applyRoutes(p)
	at := store.Revision(1000)
	for b.Loop() {
		at++
		p.Namespaces["ns7"] = applied(at, "ns7", 8, "10.101.1.2")
		s.applyRoutes(p)
	}
}

func manyInstances() routing.Projection {
	p := routing.Projection{Namespaces: map[string]routing.Applied{}}
	v4 := netip.MustParseAddr("10.101.4.0")
	for n := range 100 {
		ns := fmt.Sprintf("ns%d", n)
		a := applied(store.Revision(n+1), ns, uint32(n+1), "10.101.1.2")
		service := a.View.Services["web"]
		service.Instances = nil
		for k := range 100 {
			v4 = v4.Next()
			service.Instances = append(service.Instances, routing.Instance{ID: fmt.Sprint(k), Slot: fmt.Sprintf("web-%d", k), Machine: "m1",
				V4: v4, V6: netip.MustParseAddr(fmt.Sprintf("fd00:1:0:1:0:%x:0:%x", n+1, k+1))})
		}
		a.View.Services["web"] = service
		p.Namespaces[ns] = a
	}
	return p
}
