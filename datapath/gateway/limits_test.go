package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func tight(s *Server) {
	s.Limits = Limits{HeaderBytes: 4096, Header: 200 * time.Millisecond, Idle: 300 * time.Millisecond, Stall: 300 * time.Millisecond}
}

// Slow clients lose their place in about the time of the limit.
func TestSlowClientsAreCut(t *testing.T) {
	f := serve(t, tight)
	up := origin(t, "u", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			for range 4096 {
				w.Write(make([]byte, 64<<10))
			}
		}
		io.Copy(io.Discard, r.Body)
	})
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{up}}))
	for name, tc := range map[string]struct{ text, answer string }{
		"nothing":         {"", ""},
		"half a header":   {"GET / HTTP/1.1\r\nHost: app.example.com\r\nX: ", ""},
		"half a line":     {"GET / HT", ""},
		"half a body":     {"POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 10\r\n\r\nhalf", "HTTP/1.1 408"},
		"half a chunk":    {"POST / HTTP/1.1\r\nHost: app.example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", "HTTP/1.1 408"},
		"idle after one":  {"GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n", "HTTP/1.1 200"},
		"too much header": {"GET / HTTP/1.1\r\nHost: app.example.com\r\nX: " + strings.Repeat("x", 20000) + "\r\n\r\n", "HTTP/1.1 431"},
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			c, err := net.Dial("tcp", f.http)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(begun.Add(10 * time.Second))
			io.WriteString(c, tc.text)
			b, _ := io.ReadAll(c)
			if !strings.HasPrefix(string(b), tc.answer) {
				t.Errorf("answer %.100q", b)
			}
			if d := time.Since(begun); d > 3*time.Second {
				t.Errorf("held for %v", d)
			}
		})
	}
	t.Run("reads nothing", func(t *testing.T) {
		c, err := net.Dial("tcp", f.http)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET /big HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
		eventually(t, "begun", func() bool { return f.upstreamStat("u").InFlight == 1 })
		eventually(t, "cut", func() bool { return f.upstreamStat("u").InFlight == 0 && f.Status().Connections == 0 })
	})
}

// At the limit, further clients wait for a place instead of being refused.
func TestConnectionLimit(t *testing.T) {
	f := serve(t, func(s *Server) { s.Limits.Connections = 4 })
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{named(t, "one")}}))
	var held []net.Conn
	for range 8 {
		c, err := net.Dial("tcp", f.http)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	eventually(t, "the limit is reached", func() bool { return f.Status().Connections == 3 }) // the other listener keeps the fourth place
	done := make(chan string, 1)
	go func() {
		resp, err := f.client(t, false).Get("http://app.example.com/")
		if err == nil {
			resp.Body.Close()
		}
		done <- fmt.Sprint(err)
	}()
	for _, c := range held {
		c.Close()
	}
	if got := <-done; got != "<nil>" {
		t.Fatal(got)
	}
}

func TestCertificatesBySNIAndSwap(t *testing.T) {
	f := serve(t, nil)
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{named(t, "one")}}))
	c := f.client(t, true)
	for host, ok := range map[string]bool{"app.example.com": true, "x.wild.example.com": true, "y.x.wild.example.com": false, "other.test": false} {
		resp, err := c.Get("https://" + host + "/")
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != ok {
			t.Errorf("%s: %v", host, err)
		}
	}
	f.SetCertificates(nil)
	if resp, err := f.client(t, true).Get("https://app.example.com/"); err == nil {
		resp.Body.Close()
		t.Error("an old certificate is still served")
	}
	if resp, body := get(t, c, "https://app.example.com/"); body != "one" || resp.ProtoMajor != 2 {
		t.Error("an open connection was hurt:", body)
	}
}

// A request that is just being served when the drain begins ends its connection politely.
func TestDrainOfIdleConnections(t *testing.T) {
	f := serve(t, nil)
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{named(t, "one")}}))
	c, err := net.Dial("tcp", f.http)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	ask := func() string {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		return string(b[:n])
	}
	if got := ask(); !strings.HasPrefix(got, "HTTP/1.1 200") || strings.Contains(got, "Connection: close") {
		t.Fatalf("%q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cuts := make(chan int)
	go func() { cuts <- f.Drain(ctx, DrainOptions{Succeeded: true, IdleGrace: 5 * time.Second}) }()
	eventually(t, "draining", func() bool { return f.Status().Draining })
	if got := ask(); !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.Contains(got, "Connection: close") {
		t.Fatalf("in the drain: %q", got)
	}
	if n := <-cuts; n != 0 {
		t.Errorf("%d connections cut", n)
	}
}
