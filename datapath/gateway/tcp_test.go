package gateway

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tcpFixture serves one TCP route; its port number is only a name here.
func tcpFixture(t *testing.T, v ProxyProtocol, ups ...Upstream) (*fixture, string) {
	t.Helper()
	ln := loopback(t)
	f := serve(t, func(s *Server) {
		s.ListenTCP = func(port uint16) ([]net.Listener, error) {
			if port != 5432 {
				return nil, fmt.Errorf("port %d is not for us", port)
			}
			return []net.Listener{ln}, nil
		}
	})
	f.apply(t, Table{Namespaces: []Namespace{{Name: "n", TCP: []TCPRoute{{Port: 5432, Service: "db", ProxyProtocol: v, Upstreams: ups}}}}})
	return f, ln.Addr().String()
}

// tcpOrigin handles each connection with fn.
func tcpOrigin(t *testing.T, id string, fn func(*net.TCPConn)) Upstream {
	ln := loopback(t)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); fn(c.(*net.TCPConn)) }()
		}
	}()
	return Upstream{ID: id, Address: netip.MustParseAddrPort(ln.Addr().String())}
}

func TestTCPHalfClose(t *testing.T) {
	up := tcpOrigin(t, "u", func(c *net.TCPConn) {
		b, _ := io.ReadAll(c) // until the client's end
		fmt.Fprintf(c, "%d bytes", len(b))
	})
	f, addr := tcpFixture(t, NoProxyHeader, nobody(t, "dead"), up)
	for range 8 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, strings.Repeat("x", 1<<20)); err != nil {
			t.Fatal(err)
		}
		c.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != "1048576 bytes" {
			t.Fatalf("%q %v", b, err)
		}
		c.Close()
	}
	eventually(t, "nothing in flight", func() bool { return f.upstreamStat("u").InFlight == 0 })
	got := figuresOnce(t, f.Server, func(f Figures) bool { return f.Connections == 0 })
	if got.ReceivedBytes != 8<<20 || got.SentBytes != 8*uint64(len("1048576 bytes")) || got.TCPConnections != 8 {
		t.Errorf("%d bytes received, %d sent, %d connections", got.ReceivedBytes, got.SentBytes, got.TCPConnections)
	}
}

func TestTCPResetWhereNobodyAnswers(t *testing.T) {
	_, addr := tcpFixture(t, NoProxyHeader, nobody(t, "dead"))
	c, err := net.Dial("tcp", addr)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) { // it may come before or after Dial returns
		t.Fatalf("want a reset, got %v", err)
	}
}

func TestProxyHeader(t *testing.T) {
	heads := make(chan string, 1)
	for v, size := range map[ProxyProtocol]int{ProxyV1: 0, ProxyV2: 28} {
		up := tcpOrigin(t, "u", func(c *net.TCPConn) {
			b, _ := io.ReadAll(c)
			heads <- string(b)
		})
		_, addr := tcpFixture(t, v, up)
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "payload")
		c.(*net.TCPConn).CloseWrite()
		got := <-heads
		me := c.LocalAddr().(*net.TCPAddr).Port
		it := c.RemoteAddr().(*net.TCPAddr).Port
		c.Close()
		want := fmt.Sprintf("PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\npayload", me, it)
		if v == ProxyV2 {
			want = fmt.Sprintf("0d0a0d0a000d0a515549540a2111000c7f0000017f000001%04x%04x", me, it) + hex.EncodeToString([]byte("payload"))
			if len(got) != size+len("payload") {
				t.Errorf("v2: %d bytes", len(got))
			}
			got = hex.EncodeToString([]byte(got))
		}
		if got != want {
			t.Errorf("v%d: %q, want %q", v, got, want)
		}
	}
}

func TestTCPPortsComeAndGo(t *testing.T) {
	up := tcpOrigin(t, "u", func(c *net.TCPConn) { io.Copy(c, c) })
	f, addr := tcpFixture(t, NoProxyHeader, up)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	echo := func() {
		t.Helper()
		io.WriteString(c, "hey")
		if _, err := io.ReadFull(c, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
	}
	echo()
	f.apply(t, Table{Namespaces: []Namespace{{Name: "n", TCP: []TCPRoute{{Port: 99, Service: "other"}}}}})
	echo() // what is open goes on
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the port is still open")
	}
	if p := f.Status().Ports; len(p) != 1 || p[0].Port != 99 || !strings.Contains(p[0].Error, "not for us") {
		t.Errorf("%+v", p)
	}
}
