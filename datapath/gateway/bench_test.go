package gateway

import (
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
)

// The proxies to compare stand in front of the same origin; the client costs the same in all.

func benchRequests(b *testing.B, address string) {
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer c.CloseIdleConnections()
	b.ReportAllocs()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, _ := http.NewRequest("GET", "http://"+address+"/", nil)
			req.Host = "app.example.com"
			resp, err := c.Do(req)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

func BenchmarkDirect(b *testing.B) { benchRequests(b, named(b, "one").Address.String()) }

func BenchmarkGateway(b *testing.B) {
	f := serve(b, nil)
	f.apply(b, oneRoute(HTTPRoute{Upstreams: []Upstream{named(b, "one"), named(b, "two")}}))
	benchRequests(b, f.http)
}

func BenchmarkPlainReverseProxy(b *testing.B) {
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: named(b, "one").Address.String()})
	p.Transport = &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	p.ErrorLog = log.New(io.Discard, "", 0)
	s := httptest.NewServer(p)
	defer s.Close()
	benchRequests(b, s.Listener.Addr().String())
}

func BenchmarkMatch(b *testing.B) {
	x := testIndex()
	for b.Loop() {
		x.find("a.test", "/api/v2/things/17")
	}
}

func BenchmarkApply10kRoutes(b *testing.B) {
	s := &Server{Log: slog.New(slog.DiscardHandler)}
	if err := s.Start(); err != nil {
		b.Fatal(err)
	}
	var n Namespace
	n.Name = "big"
	for i := range 10000 {
		host := string([]byte{'a' + byte(i%26), 'a' + byte(i/26%26), 'a' + byte(i/676%26)}) + ".test"
		n.HTTP = append(n.HTTP, HTTPRoute{Host: host, Service: "s"})
	}
	for b.Loop() {
		if err := s.Apply(Table{Namespaces: []Namespace{n}}); err != nil {
			b.Fatal(err)
		}
	}
}
