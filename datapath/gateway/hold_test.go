package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// onHold makes a fixture whose route is on hold, with limits that a test does not wait long for.
func onHold(t *testing.T, l Limits, ups ...Upstream) *fixture {
	t.Helper()
	f := serve(t, func(s *Server) { s.Limits, s.H2C = l, true })
	f.apply(t, oneRoute(HTTPRoute{Hold: true, Upstreams: ups}))
	return f
}

func (f *fixture) holds(t *testing.T, n int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d held", n), func() bool { return f.Figures().Held == n })
}

// TestHold: requests that come during a hold are answered by the instance that follows, with their bodies, and the one
// that the table still names is asked nothing.
func TestHold(t *testing.T) {
	old := origin(t, "old", func(http.ResponseWriter, *http.Request) { t.Error("the old instance was asked") })
	f := onHold(t, Limits{}, old)
	next := origin(t, "new", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "new %s", b)
	})
	var all sync.WaitGroup
	ask := func(c *http.Client, scheme string) {
		body := strings.Repeat("x", 100_000)
		resp, err := c.Post(scheme+"://app.example.com/", "text/plain", io.MultiReader(strings.NewReader(body)))
		if err != nil {
			t.Error(err)
			return
		}
		if got := read(t, resp); got != "new "+body {
			t.Errorf("%s %.30s", resp.Status, got)
		}
	}
	for range 10 {
		all.Go(func() { ask(f.client(t, false), "http") })
		all.Go(func() { ask(f.client(t, true), "https") })
	}
	f.holds(t, 20)
	f.apply(t, oneRoute(HTTPRoute{Hold: true, Upstreams: nil})) // another event, and the hold goes on
	f.holds(t, 20)
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{next}}))
	all.Wait()
	got := figuresOnce(t, f.Server, func(f Figures) bool { return f.Answered[2] == 20 })
	if got.Held != 0 || got.HeldEver != 20 || len(got.Refused) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestHoldEndsByItself: a hold that says how long it lasts ends then, and another
// namespace's event does not make it longer.
func TestHoldEndsByItself(t *testing.T) {
	f := serve(t, nil)
	const most = 300 * time.Millisecond
	ns := Namespace{Name: "shop", Sequence: 7, HTTP: []HTTPRoute{{
		Host: "app.example.com", Service: "web", Hold: true, HoldFor: most, Upstreams: []Upstream{named(t, "new")},
	}}}
	begun := time.Now()
	f.apply(t, Table{Namespaces: []Namespace{ns}})
	answer := make(chan string, 1)
	go func() {
		_, body := get(t, f.client(t, false), "http://app.example.com/")
		answer <- body
	}()
	f.holds(t, 1)
	for i := uint64(0); ; i++ {
		select {
		case got := <-answer:
			if took := time.Since(begun); got != "new" || took < most {
				t.Errorf("%q after %s", got, took)
			}
			return
		case <-time.After(most / 10):
			f.apply(t, Table{Namespaces: []Namespace{{Name: "other", Sequence: i}, ns}})
		}
	}
}

// TestHoldAfterRefusal: a request that an instance refuses, which has just stopped, waits where the route is on hold by
// then, and is not told of it.
func TestHoldAfterRefusal(t *testing.T) {
	f := serve(t, nil)
	var once sync.Once
	dialled := newTransports(f.Server.Limits, 0)[HTTP1]
	f.Server.transports[HTTP1] = roundTrip(func(r *http.Request) (*http.Response, error) {
		resp, err := dialled.RoundTrip(r)
		once.Do(func() { f.apply(t, oneRoute(HTTPRoute{Hold: true, Upstreams: []Upstream{nobody(t, "old")}})) })
		return resp, err
	})
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{nobody(t, "old")}}))
	answer := make(chan string, 1)
	go func() {
		resp, err := f.client(t, false).Post("http://app.example.com/", "text/plain", strings.NewReader("body"))
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- read(t, resp)
	}()
	f.holds(t, 1)
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{named(t, "new")}}))
	if got := <-answer; got != "new" {
		t.Errorf("%q", got)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestHeldTooLong: a hold ends with the reason, for requests and for connections.
func TestHeldTooLong(t *testing.T) {
	f := onHold(t, Limits{Hold: 50 * time.Millisecond})
	resp, body := get(t, f.client(t, false), "http://app.example.com/")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get(reasonHeader) != "held-too-long" || !strings.Contains(body, "shop/web") {
		t.Errorf("%s %q %s", resp.Status, resp.Header.Get(reasonHeader), body)
	}
	f.holds(t, 0)
	f.apply(t, Table{}) // a route that goes during a hold is gone
	if resp, _ := get(t, f.client(t, false), "http://app.example.com/"); resp.StatusCode != http.StatusNotFound {
		t.Error(resp.Status)
	}
}

// TestTooManyHeld: beyond the limit a request is refused at once, and a place that is free again is given away.
func TestTooManyHeld(t *testing.T) {
	f := onHold(t, Limits{Held: 1})
	c := f.client(t, false)
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://app.example.com/", nil)
		_, err := c.Do(req)
		first <- err
	}()
	f.holds(t, 1)
	if resp, _ := get(t, c, "http://app.example.com/"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get(reasonHeader) != "too-many-held" {
		t.Errorf("%s %q", resp.Status, resp.Header.Get(reasonHeader))
	}
	leave()
	if err := <-first; err == nil {
		t.Error("a client that left got an answer")
	}
	f.holds(t, 0)
}

// TestHeldClientLeaves: a client that goes away with its body unread frees its place, over plain HTTP and over TLS.
func TestHeldClientLeaves(t *testing.T) {
	f := onHold(t, Limits{})
	conn, err := net.Dial("tcp", f.http)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 1000000\r\n\r\n%s", strings.Repeat("x", 20_000))
	f.holds(t, 1)
	conn.Close()
	f.holds(t, 0)
	body, _ := io.Pipe()
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", "https://app.example.com/", body)
	if err != nil {
		t.Fatal(err)
	}
	go f.client(t, false).Do(req)
	f.holds(t, 1)
	leave()
	f.holds(t, 0)
	eventually(t, "both are counted as gone", func() bool { return f.Status().Counters["clientGone"] == 2 })
}

// TestHoldTCP: connections are passed on after the hold with what was sent meanwhile, and those of clients that left
// or that waited too long are not.
func TestHoldTCP(t *testing.T) {
	f, addr := tcpFixture(t, NoProxyHeader)
	route := TCPRoute{Port: 5432, Service: "db", Hold: true, Upstreams: []Upstream{nobody(t, "old")}}
	table := func() Table { return Table{Namespaces: []Namespace{{Name: "n", TCP: []TCPRoute{route}}}} }
	f.apply(t, table())
	dial := func() *net.TCPConn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.(*net.TCPConn)
	}
	leaves, ends := dial(), dial()
	io.WriteString(ends, "hello\n")
	ends.CloseWrite()
	f.holds(t, 2)
	leaves.Close()
	f.holds(t, 1)
	route.Hold, route.Upstreams = false, []Upstream{tcpOrigin(t, "new", func(c *net.TCPConn) {
		line, _ := bufio.NewReader(c).ReadString('\n')
		fmt.Fprint(c, "new "+line)
	})}
	f.apply(t, table())
	ends.SetDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(ends); string(got) != "new hello\n" {
		t.Errorf("%q %v", got, err)
	}
	if got := f.Figures(); got.HeldEver != 2 || len(got.Refused) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestHeldTCPTooLong: such a connection is reset, and counted by its reason.
func TestHeldTCPTooLong(t *testing.T) {
	f, addr := tcpFixture(t, NoProxyHeader)
	f.Server.Limits.Hold = 50 * time.Millisecond
	f.apply(t, Table{Namespaces: []Namespace{{Name: "n", TCP: []TCPRoute{{Port: 5432, Service: "db", Hold: true}}}}})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("reading ends with %v, want a reset", err)
	}
	figuresOnce(t, f.Server, func(f Figures) bool { return f.Refused["tcp-held-too-long"] == 1 })
}
