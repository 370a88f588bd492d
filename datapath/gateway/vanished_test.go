package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lostFirst is a way to upstreams of which the first that is asked is on a machine that has just lost its power: it was
// connected, and acknowledges nothing.
type lostFirst struct {
	mu   sync.Mutex
	lost string
	real http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (l *lostFirst) RoundTrip(req *http.Request) (*http.Response, error) {
	l.mu.Lock()
	if l.lost == "" {
		l.lost = req.URL.Host
	}
	gone := l.lost == req.URL.Host
	l.mu.Unlock()
	if gone {
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
	}
	return l.real.RoundTrip(req)
}

// TestVanishedMachine: what asks twice as well as once is asked elsewhere when an upstream's machine is gone, and the
// upstream is passed over from then on; what has a body is told.
func TestVanishedMachine(t *testing.T) {
	f := serve(t, nil)
	f.Server.quick[HTTP1] = &lostFirst{real: f.Server.quick[HTTP1]}
	f.Server.transports[HTTP1] = &lostFirst{real: f.Server.transports[HTTP1]}
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{named(t, "good"), named(t, "good")}}))
	c := f.client(t, false)
	for range 10 {
		if resp, body := get(t, c, "http://app.example.com/"); resp.StatusCode != http.StatusOK || body != "good" {
			t.Fatalf("GET: %s %s", resp.Status, body)
		}
	}
	resp, err := c.Post("http://app.example.com/", "text/plain", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	if read(t, resp); resp.StatusCode < 500 {
		t.Errorf("a POST to a machine that is gone: %s", resp.Status)
	}
}

// TestQuickConnections: the kernel is told how long silence may last, on connections for requests without a body only.
func TestQuickConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, vanished := range []time.Duration{0, 3 * time.Second} {
		transport := newTransports(Limits{Dial: time.Second}, vanished)[HTTP1].(*http.Transport)
		conn, err := transport.DialContext(context.Background(), "tcp", netip.MustParseAddrPort(l.Addr().String()).String())
		if err != nil {
			t.Fatal(err)
		}
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var got int
		var getErr error
		err = raw.Control(func(fd uintptr) { got, getErr = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) })
		if err = errors.Join(err, getErr, conn.Close()); err != nil || got != int(vanished.Milliseconds()) {
			t.Errorf("with %s the kernel waits %d ms, %v", vanished, got, err)
		}
	}
}
