package main

import (
	"context"
	"net"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/ployz/ployz/datapath/dns"
	"github.com/ployz/ployz/metrics/metricstest"
	"github.com/ployz/ployz/node/routing"
)

func TestMetrics(t *testing.T) {
	s := newSource(t)
	s.applyRoutes(routing.Projection{Namespaces: map[string]routing.Applied{"shop": applied(5, "shop", 7, "10.101.1.2")}, Revision: 5, Generation: 1})
	s.applyLocal(identity(), nil, nil)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(ctx, dns.Sockets{UDP: []net.PacketConn{udp}}) }()
	for _, name := range []string{"web.shop.ployz.internal.", "nothing.shop.ployz.internal.", "example.com."} {
		if _, _, err := new(wire.Client).Exchange(new(wire.Msg).SetQuestion(name, wire.TypeA), udp.LocalAddr().String()); err != nil {
			t.Fatal(name, err)
		}
	}
	stop() // and so everything is counted
	if err := <-served; err != nil {
		t.Error(err)
	}
	page := metricstest.Scrape(t, s.metrics())
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"ployz_dns_replies_total", []string{"NOERROR"}, 1},
		{"ployz_dns_replies_total", []string{"NXDOMAIN"}, 1},
		{"ployz_dns_replies_total", []string{"SERVFAIL"}, 1},
		{"ployz_dns_queries_total", []string{"local"}, 2},
		{"ployz_dns_queries_total", []string{"failed"}, 1},
		{"ployz_dns_forward_seconds", nil, 1},
		{"ployz_dns_cache_lookups_total", []string{"miss"}, 1},
		{"ployz_dns_view_uncertain", nil, 1},
	} {
		if got := metricstest.Value(t, page, c.name, c.labels...); got != c.want {
			t.Errorf("%s%q is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
}
