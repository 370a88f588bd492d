package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/ployz/ployz/datapath/gateway"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
)

func newSource(t testing.TB) *routingSource {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server := &gateway.Server{Log: log}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	return newRoutingSource(edgeOptions{state: t.TempDir()}, t.TempDir(), server, log)
}

// views makes a projection's namespaces of one service with the given routes.
func applied(at store.Revision, ns string, routes ...api.Route) routing.Applied {
	return routing.Applied{Revision: at, View: routing.View{Schema: 1, Namespace: ns, NamespaceID: 7, Services: map[string]routing.Service{"web": {
		Routes: routes,
		Instances: []routing.Instance{
			{ID: "i1", Slot: "web-0", Machine: "m1", V4: netip.MustParseAddr("10.101.1.2"), V6: netip.MustParseAddr("fd00::7:0:1")},
			{ID: "i2", Slot: "web-1", Machine: "m2", V4: netip.MustParseAddr("10.101.2.2"), V6: netip.MustParseAddr("fd00::7:0:2")},
		},
	}}}}
}

func TestConvert(t *testing.T) {
	got := convert(applied(5, "shop",
		api.Route{Host: "Shop.Test", Path: "/api", StripPrefix: true, Port: 8080, Protocol: "h2c", RedirectHTTPS: true},
		api.Route{TCP: 5432, Port: 5433, ProxyProtocol: "v2"}).View, 5)
	up := func(port uint16) []gateway.Upstream {
		return []gateway.Upstream{
			{ID: "i1", Address: netip.AddrPortFrom(netip.MustParseAddr("10.101.1.2"), port)},
			{ID: "i2", Address: netip.AddrPortFrom(netip.MustParseAddr("10.101.2.2"), port)},
		}
	}
	want := gateway.Namespace{Name: "shop", Sequence: 5,
		HTTP: []gateway.HTTPRoute{{Host: "shop.test", Path: "/api", StripPrefix: true, Service: "web", Protocol: gateway.H2C, RedirectHTTPS: true, Upstreams: up(8080)}},
		TCP:  []gateway.TCPRoute{{Port: 5432, Service: "web", ProxyProtocol: gateway.ProxyV2, Upstreams: up(5433)}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
	view := applied(5, "shop", api.Route{Host: "shop.test", Port: 80}, api.Route{TCP: 5432, Port: 5433}).View
	service := view.Services["web"]
	service.Hold = true
	view.Services["web"] = service
	if got := convert(view, 5); !got.HTTP[0].Hold || !got.TCP[0].Hold || len(got.HTTP[0].Upstreams) != 2 {
		t.Errorf("on hold: %+v", got)
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, r := range []api.Route{
		{Host: "a b.test", Port: 80}, {Host: "a.test", Path: "/x/../y", Port: 80}, {Host: "a.test", Port: 80, Protocol: "spdy"},
		{TCP: 25, Port: 25, ProxyProtocol: "v3"},
	} {
		if check(applied(1, "shop", r).View) == nil {
			t.Errorf("%+v passes", r)
		}
	}
	if err := check(applied(1, "shop", api.Route{Host: "a.test", Port: 80}).View); err != nil {
		t.Error(err)
	}
}

// TestNamespacesThatCollide: the later claim is refused, keeps what it had, and is taken as soon
// as the earlier one lets go.
func TestNamespacesThatCollide(t *testing.T) {
	s := newSource(t)
	a, b, both := api.Route{Host: "a.test", Port: 80}, api.Route{Host: "b.test", Port: 80}, []api.Route{{Host: "a.test", Port: 80}, {Host: "b.test", Port: 80}}
	s.apply(routing.Projection{Namespaces: map[string]routing.Applied{"one": applied(1, "one", a), "two": applied(2, "two", b)}})
	for i, step := range []struct {
		one, two   routing.Applied
		has1, has2 store.Revision
	}{
		{applied(1, "one", a), applied(3, "two", both...), 1, 2},
		{applied(4, "one", both...), applied(3, "two", both...), 1, 2},
		{applied(5, "one"), applied(3, "two", both...), 5, 3},
		{applied(6, "one", a), applied(7, "two", b), 6, 7},
	} {
		s.apply(routing.Projection{Namespaces: map[string]routing.Applied{"one": step.one, "two": step.two}})
		if s.revision("one") != step.has1 || s.revision("two") != step.has2 {
			t.Errorf("step %d: one at %d, two at %d; want %d, %d", i, s.revision("one"), s.revision("two"), step.has1, step.has2)
		}
		var refused []string
		for _, n := range s.server.Status().Namespaces {
			if n.Rejected != nil {
				refused = append(refused, n.Name)
			}
		}
		if collides := step.has1 < step.one.Revision || step.has2 < step.two.Revision; collides != (len(refused) > 0) {
			t.Errorf("step %d: the status shows %v", i, refused)
		}
	}
	s.apply(routing.Projection{})
	if len(s.server.Table().Namespaces) != 0 {
		t.Errorf("%+v", s.server.Table())
	}
}

func TestAppliedNeedsANamespace(t *testing.T) {
	mux := http.NewServeMux()
	newSource(t).Routes(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/applied", nil))
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "namespace=") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// manyRoutes is a projection of 100 namespaces with 100 routes each.
func manyRoutes(at store.Revision) routing.Projection {
	p := routing.Projection{Namespaces: map[string]routing.Applied{}}
	for n := range 100 {
		ns := fmt.Sprintf("ns%d", n)
		var routes []api.Route
		for k := range 100 {
			routes = append(routes, api.Route{Host: fmt.Sprintf("h%d.%s.test", k, ns), Port: 80})
		}
		p.Namespaces[ns] = applied(at+store.Revision(n), ns, routes...)
	}
	return p
}

// BenchmarkApplyAll is what a rebuild of 10 000 routes costs the gateway, BenchmarkApplyOne one
// commit beside them.
func BenchmarkApplyAll(b *testing.B) {
	for b.Loop() {
		newSource(b).apply(manyRoutes(1))
	}
}

func BenchmarkApplyOne(b *testing.B) {
	s := newSource(b)
	p := manyRoutes(1)
	s.apply(p)
	at := store.Revision(1000)
	for b.Loop() {
		at++
		p.Namespaces["ns7"] = applied(at, "ns7", api.Route{Host: "x.test", Port: 80})
		s.apply(p)
	}
}
