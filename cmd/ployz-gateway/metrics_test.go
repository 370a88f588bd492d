package main

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/ployz/ployz/datapath/gateway"
	"github.com/ployz/ployz/metrics/metricstest"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/routing"
)

func TestMetrics(t *testing.T) {
	s := newSource(t)
	s.apply(routing.Projection{Namespaces: map[string]routing.Applied{"shop": applied(5, "shop", api.Route{Host: "shop.test", Port: 80})}, Revision: 5})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.server.Serve(t.Context(), gateway.Listeners{HTTP: []net.Listener{l}}) // until the test ends
	resp, err := http.Get("http://" + l.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	deadline := time.Now().Add(5 * time.Second)
	for s.server.Figures().Answered[4] == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond) // it is counted once the answer has left
	}
	page := metricstest.Scrape(t, s.metrics())
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"ployz_gateway_upstreams", []string{"ready"}, 2},
		{"ployz_gateway_requests_total", []string{"4xx"}, 1},
		{"ployz_gateway_refusals_total", []string{"no-route"}, 1},
		{"ployz_gateway_request_seconds", nil, 1},
	} {
		if got := metricstest.Value(t, page, c.name, c.labels...); got != c.want {
			t.Errorf("%s%q is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
}

func TestPlace(t *testing.T) {
	o := edgeOptions{state: t.TempDir()}
	if _, err := o.place(); api.CodeOf(err) != api.CodeNotInitialised {
		t.Errorf("before init: %v", err)
	}
	self := machine.Identity{ID: "m1"}
	if err := self.Save(o.state); err != nil {
		t.Fatal(err)
	}
	if _, err := o.place(); err != nil {
		t.Error(err)
	}
}
