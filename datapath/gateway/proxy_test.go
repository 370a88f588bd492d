package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestWhatTheUpstreamSees(t *testing.T) {
	f := serve(t, nil)
	up := origin(t, "u", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Ployz-Reason", "forged")
		w.Header().Set("Keep-Alive", "timeout=5")
		json.NewEncoder(w).Encode(map[string]any{"host": r.Host, "uri": r.RequestURI, "header": r.Header})
	})
	f.apply(t, oneRoute(HTTPRoute{Path: "/api", StripPrefix: true, Upstreams: []Upstream{up}}))
	for _, https := range []bool{false, true} {
		for _, h2 := range []bool{false, true} {
			scheme := map[bool]string{false: "http", true: "https"}[https]
			req, _ := http.NewRequest("GET", scheme+"://app.example.com/%61pi/a%2Fb//c;d?x=1;y=%zz&&", nil)
			for _, n := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Port", "Forwarded", "X-Real-Ip", "Secret-Hop", "Keep-Alive"} {
				req.Header.Set(n, "forged")
			}
			if !h2 {
				req.Header.Set("Connection", "Secret-Hop")
			} else {
				req.Header.Del("Keep-Alive")
				req.Header.Del("Secret-Hop")
			}
			resp, err := f.client(t, h2).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Host, URI string
				Header    http.Header
			}
			if err := json.Unmarshal([]byte(read(t, resp)), &got); err != nil {
				t.Fatal(err)
			}
			if got.Host != "app.example.com" || got.URI != "/a%2Fb//c;d?x=1;y=%zz&&" {
				t.Errorf("host %q uri %q", got.Host, got.URI)
			}
			h := got.Header
			if h.Get("X-Forwarded-For") != "127.0.0.1" || h.Get("X-Real-Ip") != "127.0.0.1" || h.Get("X-Forwarded-Proto") != scheme || h.Get("X-Forwarded-Host") != "app.example.com" {
				t.Errorf("forwarding headers %v", h)
			}
			if strings.Contains(fmt.Sprint(h), "forged") {
				t.Errorf("a client's word got through: %v", h)
			}
			if resp.Header.Get("Ployz-Reason") != "" || resp.Header.Get("Keep-Alive") != "" {
				t.Errorf("response headers %v", resp.Header)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	f := serve(t, nil)
	broken := origin(t, "b", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	draining := named(t, "d")
	draining.Draining = true
	f.apply(t, Table{Namespaces: []Namespace{{Name: "shop", HTTP: []HTTPRoute{
		{Host: "none.test", Service: "web"},
		{Host: "drained.test", Service: "web", Upstreams: []Upstream{draining}},
		{Host: "down.test", Service: "web", Upstreams: []Upstream{nobody(t, "x"), nobody(t, "y")}},
		{Host: "broken.test", Service: "web", Upstreams: []Upstream{broken}},
		{Host: "safe.test", Service: "web", RedirectHTTPS: true, Upstreams: []Upstream{named(t, "s")}},
	}}}})
	c := f.client(t, false)
	for _, tc := range []struct {
		method, url    string
		status         int
		reason, within string
	}{
		{"GET", "http://other.test/x", 404, "no-route", "other.test/x"},
		{"GET", "http://none.test/", 503, "no-upstream", "shop/web"},
		{"GET", "http://drained.test/", 503, "no-upstream", "shop/web"},
		{"POST", "http://down.test/", 502, "upstream-unreachable", "shop/web"},
		{"GET", "http://broken.test/", 502, "upstream-broken", "shop/web"},
		{"GET", "http://none.test/a/%2e%2e/b", 400, "bad-target", ".."},
		{"GET", "http://safe.test/a%2Fb?q=1", 308, "", ""},
	} {
		for _, accept := range []string{"", "application/json"} {
			req, _ := http.NewRequest(tc.method, tc.url, nil)
			req.Header.Set("Accept", accept)
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body := read(t, resp)
			if resp.StatusCode != tc.status || resp.Header.Get("Ployz-Reason") != tc.reason || !strings.Contains(body, tc.within) && accept == "" {
				t.Errorf("%s: %d %q %s", tc.url, resp.StatusCode, resp.Header.Get("Ployz-Reason"), body)
			}
			var v struct{ Reason, Service string }
			if accept != "" && tc.reason != "" && (json.Unmarshal([]byte(body), &v) != nil || v.Reason != tc.reason) {
				t.Errorf("%s: not the JSON: %s", tc.url, body)
			}
			if tc.status == 308 && resp.Header.Get("Location") != "https://safe.test/a%2Fb?q=1" {
				t.Errorf("location %s", resp.Header.Get("Location"))
			}
		}
	}
	if got := exchangeRaw(t, f.http, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n", false); !strings.HasPrefix(got, "HTTP/1.1 400") {
		t.Errorf("CONNECT: %q", got)
	}
}

func TestRetries(t *testing.T) {
	f := serve(t, nil)
	good := named(t, "good")
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{nobody(t, "dead"), good}}))
	c := f.client(t, false)
	for i := range 40 {
		resp, err := c.Post("http://app.example.com/", "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		if body := read(t, resp); body != "good" {
			t.Fatalf("request %d: %s", i, body)
		}
	}
	dead := f.upstreamStat("dead")
	if !dead.Failing || dead.Failures == 0 || dead.Failures > 10 || dead.InFlight != 0 {
		t.Errorf("no back-off: %+v", dead)
	}
}

// A reset after the request was sent is repeated for safe methods only.
func TestEarlyReset(t *testing.T) {
	f := serve(t, nil)
	var mu sync.Mutex
	asked := map[string]int{}
	reset := origin(t, "reset", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.Method]++
		mu.Unlock()
		panic(http.ErrAbortHandler)
	})
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{reset, named(t, "good")}}))
	c := f.client(t, false)
	posts := 0
	for range 30 {
		if _, body := get(t, c, "http://app.example.com/"); body != "good" {
			t.Fatalf("GET: %s", body)
		}
		resp, err := c.Post("http://app.example.com/", "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		if read(t, resp); resp.StatusCode == 502 {
			posts++
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if posts == 0 || asked["POST"] != posts {
		t.Errorf("%d posts failed, the upstream was asked %d times", posts, asked["POST"])
	}
}

func TestDrainingUpstreamFinishes(t *testing.T) {
	f := serve(t, nil)
	release := make(chan struct{})
	old := origin(t, "old", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "first ")
		http.NewResponseController(w).Flush()
		<-release
		io.WriteString(w, "last")
	})
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{old}}))
	c := f.client(t, false)
	resp, err := c.Get("http://app.example.com/")
	if err != nil {
		t.Fatal(err)
	}
	fresh := named(t, "fresh")
	old.Draining = true
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{old, fresh}}))
	for range 20 {
		if _, body := get(t, c, "http://app.example.com/"); body != "fresh" {
			t.Fatalf("a draining upstream was picked: %s", body)
		}
	}
	if u := f.upstreamStat("old"); u.InFlight != 1 || !u.Draining {
		t.Errorf("%+v", u)
	}
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{fresh}}))
	if u := f.upstreamStat("old"); u.InFlight != 1 || !u.Gone {
		t.Errorf("%+v", u)
	}
	close(release)
	if body := read(t, resp); body != "first last" {
		t.Errorf("cut: %q", body)
	}
	eventually(t, "nothing in flight", func() bool { return f.upstreamStat("old").InFlight == 0 })
}

func TestTwoChoicesEvenOut(t *testing.T) {
	var p pool
	for range 10 {
		p.live = append(p.live, &upstream{})
	}
	for range 1000 {
		p.choose(nil, time.Now()).inFlight.Add(1)
	}
	for i, u := range p.live {
		if n := u.inFlight.Load(); n < 90 || n > 110 {
			t.Errorf("upstream %d has %d of 1000", i, n)
		}
	}
}

func TestStreamsAndTrailers(t *testing.T) {
	f := serve(t, func(s *Server) { s.H2C = true })
	up := origin(t, "u", func(w http.ResponseWriter, r *http.Request) {
		if r.Proto != r.Header.Get("Want-Proto") || r.URL.Path == "/grpc" && r.Header.Get("Te") != "trailers" {
			w.WriteHeader(418)
			return
		}
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Announced")
		in := bufio.NewReader(r.Body)
		for {
			text, err := in.ReadString('\n')
			if err != nil {
				break
			}
			io.WriteString(w, "echo "+text)
			rc.Flush()
		}
		w.Header().Set("Announced", "yes")
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	})
	f.apply(t, Table{Namespaces: []Namespace{{Name: "n", HTTP: []HTTPRoute{
		{Host: "app.example.com", Path: "/grpc", Service: "g", Protocol: H2C, Upstreams: []Upstream{up}},
	}}}})
	// Both directions are open at once: a line is written only after the answer to the last one.
	pr, pw := io.Pipe()
	req, _ := http.NewRequest("POST", "https://app.example.com/grpc", pr)
	req.Header.Set("Te", "trailers")
	req.Header.Set("Want-Proto", "HTTP/2.0")
	go io.WriteString(pw, "0\n")
	resp, err := f.client(t, true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != 200 {
		t.Fatalf("%s %d", resp.Proto, resp.StatusCode)
	}
	in := bufio.NewReader(resp.Body)
	for i := range 5 {
		if got, err := in.ReadString('\n'); err != nil || got != fmt.Sprintf("echo %d\n", i) {
			t.Fatalf("%q %v", got, err)
		}
		fmt.Fprintf(pw, "%d\n", i+1)
	}
	pw.Close()
	io.Copy(io.Discard, in)
	if resp.Trailer.Get("Grpc-Status") != "0" || resp.Trailer.Get("Announced") != "yes" {
		t.Errorf("trailers %v", resp.Trailer)
	}
}

func TestPriorKnowledge(t *testing.T) {
	f := serve(t, func(s *Server) { s.H2C = true })
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{named(t, "one")}}))
	tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", f.http)
	}}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	if resp, body := get(t, &http.Client{Transport: tr}, "http://app.example.com/"); body != "one" || resp.ProtoMajor != 2 {
		t.Errorf("%s %s", resp.Proto, body)
	}
	if _, body := get(t, f.client(t, false), "http://app.example.com/"); body != "one" {
		t.Error("HTTP/1 beside it:", body)
	}
}

func TestServerSentEvents(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		f := serve(t, func(s *Server) { s.Limits.Stall = 300 * time.Millisecond })
		next := make(chan struct{})
		up := origin(t, "u", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 3 {
				fmt.Fprintf(w, "data: %d\n", i)
				http.NewResponseController(w).Flush()
				<-next
			}
		})
		f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{up}}))
		resp, err := f.client(t, h2).Get("https://app.example.com/")
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(resp.Body)
		for i := range 3 {
			if got, err := in.ReadString('\n'); err != nil || got != fmt.Sprintf("data: %d\n", i) {
				t.Fatalf("h2=%v: %q %v", h2, got, err)
			}
			time.Sleep(400 * time.Millisecond) // silence longer than a stall is allowed to be
			next <- struct{}{}
		}
		resp.Body.Close()
	}
}

func TestWebSocketCountsAndEnds(t *testing.T) {
	f := serve(t, nil)
	up := origin(t, "u", func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(c, rw)
	})
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{up}}))
	c, err := net.Dial("tcp", f.http)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: app.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v %v", resp, err)
	}
	// Bytes that would be bad HTTP must pass.
	for _, text := range []string{"\x00\x01\n", "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", strings.Repeat("x", 100000) + "\n"} {
		go io.WriteString(c, text)
		got := make([]byte, len(text))
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != text {
			t.Fatalf("%.40q: %v", got, err)
		}
	}
	if u := f.upstreamStat("u"); u.InFlight != 1 {
		t.Errorf("%+v", u)
	}
	c.Close()
	eventually(t, "nothing in flight", func() bool { return f.upstreamStat("u").InFlight == 0 && f.Status().Connections == 0 })
	if got := figuresOnce(t, f.Server, func(f Figures) bool { return f.Answered[1] == 1 }); got.Took.Count != 0 {
		t.Errorf("an upgraded connection is in the durations: %+v", got.Took)
	}
}
