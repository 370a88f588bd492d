package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	wire "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/datapath/dns"
	"github.com/ployz/ployz/datapath/state"
)

// asProgram in the environment makes the test program the resolver.
const asProgram = "PLOYZ_DNS_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// rig is a resolver whose binary is replaced under load:
//
//	clients → UDP and TCP sockets, held by the test as systemd would
//	            └─ process n → process n+1 → ...
type rig struct {
	t      *testing.T
	dir    string
	binary string // a copy of the test program, replaced by rename
	udp    *os.File
	tcp    *os.File
	at     netip.AddrPort
	alive  map[int]bool // pids of processes not yet waited for
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), alive: map[int]bool{}}
	t.Cleanup(r.killAll)
	r.binary = filepath.Join(r.dir, "ployz-dns")
	zone := dns.Zone{
		Machine:  "m1",
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.101.0.0/16")},
		Namespaces: []dns.Namespace{{ID: 1, Name: "prod", Sequence: 1, Services: []dns.Service{{Name: "web", Instances: []dns.Instance{
			{ID: "a", Slot: "web-0", Machine: "m1", V4: netip.MustParseAddr("10.101.1.2"), Ready: true}}}}}},
	}
	if err := state.Save(r.path("zone.json"), zone); err != nil {
		t.Fatal(err)
	}
	r.bind()
	r.replaceBinary()
	return r
}

// killAll ends what a failed test left behind.
func (r *rig) killAll() {
	for pid := range r.alive {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			r.t.Log(err)
		}
	}
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) bind() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.at = netip.MustParseAddrPort(l.Addr().String())
	var errs [2]error
	r.udp, errs[0] = c.(*net.UDPConn).File()
	r.tcp, errs[1] = l.(*net.TCPListener).File()
	if err := errors.Join(errs[0], errs[1], c.Close(), l.Close()); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.udp.Close(); r.tcp.Close() })
}

// replaceBinary puts a new file where the program is, as a package upgrade does.
func (r *rig) replaceBinary() {
	r.t.Helper()
	own, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := os.ReadFile(own)
	if err == nil {
		err = os.WriteFile(r.binary+".new", text, 0o755)
	}
	if err == nil {
		err = os.Rename(r.binary+".new", r.binary)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// start runs the program as systemd would, and returns once it serves.
func (r *rig) start() int {
	r.t.Helper()
	// LISTEN_PID must be the program's own pid, which only a shell before exec knows.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, r.binary,
		"-zone", r.path("zone.json"), "-status", r.path("dns.sock"), "-upstream", "127.0.0.1:1")
	cmd.Env = append(os.Environ(), asProgram+"=1", "LISTEN_FDS=2", "LISTEN_FDNAMES="+socketUDP+":"+socketTCP)
	cmd.ExtraFiles = []*os.File{r.udp, r.tcp}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	pid := cmd.Process.Pid
	r.alive[pid] = true
	r.await("the status shows the new process", func() bool { return r.status().PID == pid })
	return pid
}

func (r *rig) signal(pid int, s syscall.Signal) {
	r.t.Helper()
	if err := unix.Kill(pid, s); err != nil {
		r.t.Fatalf("signal %v to %d: %v", s, pid, err)
	}
}

// ended waits until a process has ended, and wants it to have done so by itself and well.
func (r *rig) ended(pid int) {
	r.t.Helper()
	var ws unix.WaitStatus
	r.await(fmt.Sprintf("process %d ends", pid), func() bool {
		got, err := unix.Wait4(pid, &ws, unix.WNOHANG, nil)
		return got == pid || errors.Is(err, unix.ECHILD)
	})
	delete(r.alive, pid)
	if !ws.Exited() || ws.ExitStatus() != 0 {
		r.t.Errorf("process %d ended with %#x", pid, uint32(ws))
	}
}

// status asks the status socket; the zero value means that nobody answers.
func (r *rig) status() (st dns.Status) {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", r.path("dns.sock")) }}}
	res, err := client.Get("http://dns/status")
	if err != nil {
		return st
	}
	defer res.Body.Close()
	if json.NewDecoder(res.Body).Decode(&st) != nil {
		return dns.Status{}
	}
	return st
}

func (r *rig) await(what string, cond func() bool) {
	r.t.Helper()
	for end := time.Now().Add(15 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("not within 15 s: %s", what)
		}
	}
}

// load is a number of clients that ask all the time. A client that gets nothing asks again, as
// C libraries do; a question that three tries leave without its answer is unanswered.
type load struct {
	at         netip.AddrPort
	done       chan struct{}
	clients    sync.WaitGroup
	retries    atomic.Int64
	unanswered atomic.Int64
	mu         sync.Mutex
	took       []time.Duration // guarded by mu
}

func (r *rig) load() *load {
	l := &load{at: r.at, done: make(chan struct{})}
	for i := range 6 {
		network := "udp"
		if i%3 == 2 {
			network = "tcp"
		}
		l.clients.Go(func() { l.client(r.t, network) })
	}
	return l
}

func (l *load) client(t *testing.T, network string) {
	for tick := time.NewTicker(4 * time.Millisecond); ; {
		select {
		case <-l.done:
			tick.Stop()
			return
		case <-tick.C:
		}
		l.question(t, network)
	}
}

func (l *load) question(t *testing.T, network string) {
	began := time.Now()
	var err error
	for try := range 3 {
		if try > 0 {
			l.retries.Add(1)
		}
		if err = l.ask(network); err == nil {
			l.mu.Lock()
			l.took = append(l.took, time.Since(began))
			l.mu.Unlock()
			return
		}
	}
	l.unanswered.Add(1)
	t.Errorf("over %s: %v", network, err)
}

func (l *load) ask(network string) error {
	c := wire.Client{Net: network, Timeout: 2 * time.Second}
	m, _, err := c.Exchange(new(wire.Msg).SetQuestion("web.prod.ployz.internal.", wire.TypeA), l.at.String())
	if err != nil {
		return err
	}
	if len(m.Answer) != 1 || m.Answer[0].(*wire.A).A.String() != "10.101.1.2" {
		return fmt.Errorf("wrong answer %v", m)
	}
	return nil
}

// finish stops the clients and reports.
func (l *load) finish(t *testing.T, what string, replaced int) {
	t.Helper()
	close(l.done)
	l.clients.Wait()
	slices.Sort(l.took)
	t.Logf("%s: %d times, %d queries, %d unanswered, %d retries, median %v, longest %v", what, replaced,
		len(l.took), l.unanswered.Load(), l.retries.Load(), l.took[len(l.took)/2], l.took[len(l.took)-1])
	if len(l.took) < 200 {
		t.Errorf("%d queries are too few to have tested it", len(l.took))
	}
	if n := l.unanswered.Load(); n != 0 {
		t.Errorf("%d queries unanswered", n)
	}
	if n := l.retries.Load(); n != 0 {
		t.Errorf("%d queries had to be asked again", n)
	}
}

const replacements = 12

// TestRestartLosesNothing stops the process and then starts the next on the same sockets.
func TestRestartLosesNothing(t *testing.T) {
	r := newRig(t)
	pid := r.start()
	l := r.load()
	for range replacements {
		r.replaceBinary()
		r.signal(pid, unix.SIGTERM)
		r.ended(pid)
		pid = r.start()
	}
	l.finish(t, "restart", replacements)
	r.signal(pid, unix.SIGTERM)
	r.ended(pid)
}

// TestHandOverLosesNothing lets each process start its successor from the replaced binary.
func TestHandOverLosesNothing(t *testing.T) {
	r := newRig(t)
	pid := r.start()
	l := r.load()
	for range replacements {
		r.replaceBinary()
		r.signal(pid, unix.SIGHUP)
		old := pid
		r.await("a successor serves", func() bool { pid = r.status().PID; return pid != 0 && pid != old })
		r.alive[pid] = true
		r.ended(old)
	}
	l.finish(t, "hand-over", replacements)
	r.signal(pid, unix.SIGTERM)
	r.ended(pid)
}

// TestFailedHandOverServesOn replaces the binary by one that cannot run.
func TestFailedHandOverServesOn(t *testing.T) {
	r := newRig(t)
	pid := r.start()
	l := r.load()
	if err := os.Remove(r.binary); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.binary, []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.signal(pid, unix.SIGHUP)
	r.await("it answered for a while", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.took) > 500 })
	l.finish(t, "failed hand-over", 1)
	if now := r.status().PID; now != pid {
		t.Errorf("process %d serves, want %d", now, pid)
	}
	r.signal(pid, unix.SIGTERM)
	r.ended(pid)
}

func TestZoneIsShown(t *testing.T) {
	r := newRig(t)
	pid := r.start()
	c, err := net.Dial("unix", r.path("dns.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /zone HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(text), "HTTP/1.0 200 OK") {
		t.Errorf("GET /zone: %v, %s", err, text)
	}
	st := r.status()
	if st.State != dns.StateServing || st.Machine != "m1" || len(st.Namespaces) != 1 || len(st.Listening) != 2 {
		t.Errorf("status %+v", st)
	}
	if fi, err := os.Stat(r.path("dns.sock")); err != nil || fi.Mode().Perm() != 0o660 {
		t.Errorf("status socket: %v, %v", fi, err)
	}
	r.signal(pid, unix.SIGTERM)
	r.ended(pid)
}
