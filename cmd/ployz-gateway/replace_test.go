package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/datapath/gateway"
)

// lab is the real program on real sockets that the test holds open, as a socket unit would:
//
//	clients ── http, https, tcp-N (held by the test) ── ployz-gateway ── web upstream, echo upstream
type lab struct {
	dir, binary, status string
	sockets             []*os.File // http, https, tcp-N
	names               string
	http, https, tcp    string
	roots               *x509.CertPool
}

func newLab(t *testing.T) *lab {
	t.Helper()
	dir := t.TempDir()
	l := &lab{dir: dir, binary: filepath.Join(dir, "ployz-gateway"), status: filepath.Join(dir, "gateway.sock")}
	if out, err := exec.Command("go", "build", "-o", l.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	l.http, l.https, l.tcp = l.socket(t), l.socket(t), l.socket(t)
	port := netip.MustParseAddrPort(l.tcp).Port()
	l.names = fmt.Sprintf("http:https:tcp-%d", port)
	web := httptest.NewServer(http.HandlerFunc(answerWeb))
	t.Cleanup(web.Close)
	at := func(a net.Addr) []gateway.Upstream {
		return []gateway.Upstream{{ID: "u1", Address: netip.MustParseAddrPort(a.String())}}
	}
	table := gateway.Table{
		Namespaces: []gateway.Namespace{{Name: "shop", Sequence: 7,
			HTTP: []gateway.HTTPRoute{{Host: "app.test", Service: "web", Upstreams: at(web.Listener.Addr())}},
			TCP:  []gateway.TCPRoute{{Port: port, Service: "echo", Upstreams: at(echoServer(t))}},
		}},
		Certificates: []gateway.CertificateFile{l.certificate(t)},
	}
	text, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "table.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

// answerWeb answers with the path after a moment, and echoes lines after an upgrade.
func answerWeb(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.URL.Path, b)
		return
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	io.Copy(c, rw)
}

func echoServer(t *testing.T) net.Addr {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	return ln.Addr()
}

func (l *lab) socket(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f := passable(t, ln)
	t.Cleanup(func() { f.Close() })
	l.sockets = append(l.sockets, f)
	return ln.Addr().String()
}

// passable is a listener's socket for child processes. Unlike the one of its File, it stays in non-blocking mode when one is
// started: they all share that, and who serves on it already would wait in accept, and not end when it is told to.
func passable(t *testing.T, ln net.Listener) *os.File {
	t.Helper()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(own uintptr) { fd, dupErr = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 3) }); err != nil || dupErr != nil {
		t.Fatal(err, dupErr)
	}
	return os.NewFile(uintptr(fd), "socket")
}

func (l *lab) certificate(t *testing.T) gateway.CertificateFile {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"app.test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		p := filepath.Join(l.dir, name)
		if err := os.WriteFile(p, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	l.roots = x509.NewCertPool()
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	l.roots.AddCert(leaf)
	return gateway.CertificateFile{Cert: write("cert.pem", "CERTIFICATE", der), Key: write("key.pem", "PRIVATE KEY", keyDER)}
}

// start runs the program as systemd would. The shell sets LISTEN_PID, which must be its own pid,
// and becomes the program.
func (l *lab) start(t *testing.T, flags ...string) *exec.Cmd {
	t.Helper()
	args := append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, l.binary, "-table", filepath.Join(l.dir, "table.json"), "-status", l.status}, flags...)
	cmd := exec.Command("/bin/sh", args...)
	cmd.Env = append(os.Environ(), "LISTEN_FDS=3", "LISTEN_FDNAMES="+l.names)
	cmd.ExtraFiles = l.sockets
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l.awaitPID(t, cmd.Process.Pid, 0)
	return cmd
}

// awaitPID waits until the status socket is answered by want, or, if that is 0, by anyone but not.
func (l *lab) awaitPID(t *testing.T, want, not int) int {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if s, err := l.statusAt(l.status); err == nil && (s.PID == want || want == 0 && s.PID != not) {
			return s.PID
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("status is never answered by pid %d (not %d)", want, not)
	return 0
}

func (l *lab) statusAt(path string) (gateway.Status, error) {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	var s gateway.Status
	resp, err := c.Get("http://gateway/status")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

func (l *lab) client(h2, keepAlive bool) *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: !keepAlive,
		ForceAttemptHTTP2: h2,
		TLSClientConfig:   &tls.Config{RootCAs: l.roots},
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			to := l.http
			if strings.HasSuffix(addr, ":443") {
				to = l.https
			}
			return new(net.Dialer).DialContext(ctx, "tcp", to)
		},
	}}
}

// load is continuous requests of every kind; errors are kept.
type load struct {
	done    atomic.Uint64
	failed  atomic.Uint64
	longest atomic.Int64
	first   atomic.Pointer[string]
	stop    chan struct{}
	wg      sync.WaitGroup
}

func (l *lab) load() *load {
	g := &load{stop: make(chan struct{})}
	for _, k := range []struct {
		name          string
		url           string
		h2, keepAlive bool
	}{
		{"h1 keep-alive", "http://app.test", false, true}, {"h1 fresh", "http://app.test", false, false},
		{"tls h1 keep-alive", "https://app.test", false, true}, {"h2 keep-alive", "https://app.test", true, true}, {"h2 fresh", "https://app.test", true, false},
	} {
		c := l.client(k.h2, k.keepAlive)
		for _, method := range []string{"GET", "POST"} {
			g.wg.Go(func() { g.run(c, k.name+" "+method, method, k.url) })
		}
	}
	// Slow clients leave their connection idle for longer than a moment between requests.
	slow := l.client(false, true)
	g.wg.Go(func() {
		for g.alive() {
			g.once(slow, "h1 slow POST", "POST", "http://app.test", 0)
			time.Sleep(150 * time.Millisecond)
		}
	})
	return g
}

// more waits until the load has done n more requests.
func (g *load) more(t *testing.T, n uint64) {
	t.Helper()
	enough := g.done.Load() + n
	deadline := time.Now().Add(30 * time.Second)
	for g.done.Load() < enough {
		if time.Now().After(deadline) {
			t.Fatalf("the load stands still at %d requests", g.done.Load())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (g *load) alive() bool {
	select {
	case <-g.stop:
		return false
	default:
		return true
	}
}

func (g *load) run(c *http.Client, name, method, url string) {
	for i := 0; g.alive(); i++ {
		g.once(c, name, method, url, i)
		time.Sleep(2 * time.Millisecond)
	}
}

// once hides the body's GetBody, so that a client cannot repeat what we lost.
func (g *load) once(c *http.Client, name, method, url string, i int) {
	var body io.Reader
	if method == "POST" {
		body = bytes.NewReader([]byte("abc"))
	}
	begun := time.Now()
	req, err := http.NewRequest(method, fmt.Sprintf("%s/%d", url, i), body)
	if err == nil && !strings.HasPrefix(name, "h2") {
		req.GetBody = nil
	}
	var resp *http.Response
	if err == nil {
		resp, err = c.Do(req)
	}
	if err == nil {
		var b []byte
		b, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprintf("/%d ", i); err == nil && (resp.StatusCode != 200 || !strings.HasPrefix(string(b), want)) {
			err = fmt.Errorf("%d %q", resp.StatusCode, b)
		}
	}
	g.done.Add(1)
	if d := int64(time.Since(begun)); d > g.longest.Load() {
		g.longest.Store(d)
	}
	if err != nil {
		g.failed.Add(1)
		text := name + ": " + err.Error()
		g.first.CompareAndSwap(nil, &text)
	}
}

func (g *load) end(t *testing.T) {
	t.Helper()
	close(g.stop)
	g.wg.Wait()
	t.Logf("%d requests, %d failed, longest %v", g.done.Load(), g.failed.Load(), time.Duration(g.longest.Load()).Round(time.Millisecond))
	if g.failed.Load() != 0 {
		t.Errorf("%d of %d requests failed; first: %s", g.failed.Load(), g.done.Load(), *g.first.Load())
	}
	if g.done.Load() < 100 {
		t.Errorf("only %d requests: no load", g.done.Load())
	}
}

// line sends a line over a long connection and expects it back.
func line(t *testing.T, what string, c net.Conn, r *bufio.Reader) {
	t.Helper()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "ping\n"); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if got, err := r.ReadString('\n'); err != nil || got != "ping\n" {
		t.Fatalf("%s: %q, %v", what, got, err)
	}
}

func (l *lab) webSocket(t *testing.T) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", l.http)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("upgrade: %v %v", resp, err)
	}
	return c, r
}

func (l *lab) long(t *testing.T) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", l.tcp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

// alive says whether a process exists and is no zombie; successors are not our children.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func awaitGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for alive(pid) {
		if time.Now().After(deadline) {
			unix.Kill(pid, unix.SIGKILL)
			t.Fatalf("process %d does not end", pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestHandOversLoseNothing(t *testing.T) {
	l := newLab(t)
	cmd := l.start(t, "-idle-grace", "1s", "-stop-deadline", "3s")
	go cmd.Wait()
	pids := []int{cmd.Process.Pid}
	t.Cleanup(func() {
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGTERM)
		}
		for _, pid := range pids {
			awaitGone(t, pid)
		}
	})
	tcp, tcpR := l.long(t)
	ws, wsR := l.webSocket(t)
	line(t, "tcp", tcp, tcpR)
	line(t, "websocket", ws, wsR)
	g := l.load()
	for i := range 12 {
		last := pids[len(pids)-1]
		unix.Kill(last, unix.SIGHUP)
		pids = append(pids, l.awaitPID(t, 0, last))
		line(t, fmt.Sprintf("tcp after hand-over %d", i+1), tcp, tcpR)
		line(t, fmt.Sprintf("websocket after hand-over %d", i+1), ws, wsR)
		g.more(t, 200)
	}
	g.end(t)
	s, err := l.statusAt(l.status)
	if err != nil || len(s.Predecessors) == 0 {
		t.Errorf("status names no predecessor: %+v, %v", s, err)
	}
	first, err := l.statusAt(fmt.Sprintf("%s.%d", l.status, pids[0]))
	if err != nil || !first.Draining || len(first.Upstreams) == 0 {
		t.Errorf("first process's status: %+v, %v", first, err)
	}
	// With its long connections gone, the first process ends by itself.
	tcp.Close()
	ws.Close()
	l.dropIdle(t, pids[0])
	awaitGone(t, pids[0])
	if _, err := os.Stat(fmt.Sprintf("%s.%d", l.status, pids[0])); !os.IsNotExist(err) {
		t.Errorf("status socket of the ended process: %v", err)
	}
}

// dropIdle waits until a draining process has no more than idle connections of our own closed clients.
func (l *lab) dropIdle(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		s, err := l.statusAt(fmt.Sprintf("%s.%d", l.status, pid))
		if err != nil || s.Connections == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	s, _ := l.statusAt(fmt.Sprintf("%s.%d", l.status, pid))
	t.Fatalf("pid %d keeps connections: %+v", pid, s)
}

func TestRestartsLoseNothing(t *testing.T) {
	l := newLab(t)
	flags := []string{"-idle-grace", "600ms", "-stop-deadline", "3s"}
	cmd := l.start(t, flags...)
	t.Cleanup(func() { cmd.Process.Signal(unix.SIGTERM); cmd.Wait() })
	g := l.load()
	for range 10 {
		cmd.Process.Signal(unix.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Fatal("exit:", err)
		}
		cmd = l.start(t, flags...)
		g.more(t, 200)
	}
	g.end(t)
}

// A long connection is cut at the deadline of a stop and not before.
func TestStopCutsAtTheDeadline(t *testing.T) {
	l := newLab(t)
	cmd := l.start(t, "-idle-grace", "100ms", "-stop-deadline", "1500ms")
	ws, wsR := l.webSocket(t)
	line(t, "websocket", ws, wsR)
	begun := time.Now()
	cmd.Process.Signal(unix.SIGTERM)
	for time.Since(begun) < time.Second {
		line(t, "websocket in the drain", ws, wsR)
		// New requests are still answered, and told to go elsewhere next.
		c := l.client(false, true)
		resp, err := c.Get("http://app.test/x")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		time.Sleep(20 * time.Millisecond)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begun); d < 1400*time.Millisecond || d > 8*time.Second {
		t.Errorf("ended after %v", d)
	}
}

func TestHandOverToABrokenProgramServesOn(t *testing.T) {
	l := newLab(t)
	cmd := l.start(t)
	t.Cleanup(func() { cmd.Process.Signal(unix.SIGTERM); cmd.Wait() })
	// The new program starts, but its table is bad: it must never become ready.
	if err := os.WriteFile(filepath.Join(l.dir, "table.json"), []byte(`{"namespaces":[{"name":""}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	g := l.load()
	cmd.Process.Signal(unix.SIGHUP)
	time.Sleep(time.Second) // the failure has no other sign outside than that nothing changes
	g.end(t)
	if s, err := l.statusAt(l.status); err != nil || s.PID != cmd.Process.Pid || s.Draining {
		t.Fatalf("%+v %v", s, err)
	}
}
