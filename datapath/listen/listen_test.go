package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain turns the test program into a successor when a hand-over starts it.
func TestMain(m *testing.M) {
	if os.Getenv(envHandOver) != "" {
		os.Exit(successor(os.Args[len(os.Args)-1]))
	}
	os.Exit(m.Run())
}

// successor behaves as its last argument says: "serve" answers every connection with its pid.
func successor(how string) int {
	s, err := Inherit()
	if err != nil {
		return 10
	}
	switch how {
	case "exit":
		return 7
	case "hang":
		time.Sleep(time.Minute)
	case "shut":
		s.ready.Close()
		time.Sleep(time.Minute)
	}
	lns, err := s.Listeners("echo")
	if err != nil || len(lns) != 1 {
		return 11
	}
	for _, k := range os.Environ() {
		if strings.HasPrefix(k, "LISTEN_") {
			return 12
		}
	}
	life := NewLife(s, slog.New(slog.DiscardHandler))
	go answer(lns[0])
	if life.Ready("serving") != nil {
		return 13
	}
	life.Wait(context.Background())
	return 0
}

// answer writes this process's pid to every connection until the listener closes.
func answer(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		fmt.Fprintf(c, "%d", os.Getpid())
		c.Close()
	}
}

func echoSockets(t *testing.T) (*Sockets, net.Listener) {
	t.Helper()
	s := &Sockets{}
	lns, err := s.Listen("echo", "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lns[0].Close(); s.Release("echo") })
	return s, lns[0]
}

func ask(t *testing.T, addr string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func to(how string) Successor {
	return Successor{Path: "/proc/self/exe", Args: []string{how}, Timeout: 20 * time.Second}
}

func TestHandOverReachesTheSuccessor(t *testing.T) {
	s, ln := echoSockets(t)
	go answer(ln)
	addr := ln.Addr().String()
	if got := ask(t, addr); got != fmt.Sprint(os.Getpid()) {
		t.Fatalf("before: answered by %s", got)
	}
	pid, err := to("serve").Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endProcess(t, pid) })
	ln.Close() // ours only: the successor's stays
	s.Release("echo")
	for range 20 {
		if got := ask(t, addr); got != fmt.Sprint(pid) {
			t.Fatalf("after: answered by %s, want successor %d", got, pid)
		}
	}
}

// endProcess tells a successor to stop.
func endProcess(t *testing.T, pid int) {
	t.Helper()
	unix.Kill(pid, unix.SIGTERM)
	awaitEnd(t, pid)
}

// awaitEnd waits until a successor has ended. It is a child of our parent's, which may leave it a zombie.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for running(t, pid) {
		if time.Now().After(deadline) {
			unix.Kill(pid, unix.SIGKILL)
			t.Fatalf("successor %d goes on", pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func running(t *testing.T, pid int) bool {
	t.Helper()
	state, parent := statOf(t, pid)
	if state != "" && parent != os.Getppid() {
		t.Errorf("successor %d is a child of %d, not of our parent %d", pid, parent, os.Getppid())
	}
	return state != "" && state != "Z"
}

// statOf returns a process's state and parent, or "" where there is none.
func statOf(t *testing.T, pid int) (state string, parent int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return "", 0
	}
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	if _, err := fmt.Sscan(rest, &state, &parent); err != nil {
		t.Fatal(err)
	}
	return state, parent
}

func TestHandOverThatFailsLeavesThingsAsTheyWere(t *testing.T) {
	for _, tc := range []struct {
		name string
		n    Successor
		want func(error) bool
	}{
		{"exits", to("exit"), func(err error) bool { return errors.Is(err, ErrEnded) }},
		{"never ready", Successor{"/proc/self/exe", []string{"hang"}, 300 * time.Millisecond}, func(err error) bool { return errors.Is(err, ErrNotReady) }},
		{"shuts the pipe", to("shut"), func(err error) bool { return errors.Is(err, ErrEnded) }},
		{"no such program", Successor{"/nonexistent/ployz", nil, time.Second}, func(err error) bool { return errors.Is(err, fs.ErrNotExist) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, ln := echoSockets(t)
			go answer(ln)
			_, err := tc.n.Start(t.Context(), s)
			var typed *HandOverError
			if !errors.As(err, &typed) || !tc.want(err) {
				t.Fatalf("error %v", err)
			}
			if typed.PID != 0 {
				awaitEnd(t, typed.PID)
			}
			if got := ask(t, ln.Addr().String()); got != fmt.Sprint(os.Getpid()) {
				t.Fatalf("answered by %s", got)
			}
			checkNonblocking(t, s)
		})
	}
}

func checkNonblocking(t *testing.T, s *Sockets) {
	t.Helper()
	for _, k := range s.list {
		flags, err := unix.FcntlInt(uintptr(k.fd), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Fatalf("socket %s: flags %x, %v: blocking", k.name, flags, err)
		}
	}
}

// notes collects what would go to systemd.
type notes struct {
	mu  sync.Mutex
	all []string
}

func (n *notes) add(s string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, s)
	return nil
}

func (n *notes) waitFor(t *testing.T, part string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		n.mu.Lock()
		found := strings.Contains(strings.Join(n.all, "|"), part)
		n.mu.Unlock()
		if found {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatalf("no notification with %q in %q", part, n.all)
}

func TestLife(t *testing.T) {
	s, ln := echoSockets(t)
	go answer(ln)
	n := &notes{}
	life := NewLife(s, slog.New(slog.DiscardHandler))
	life.Notify = n.add
	if err := life.Ready("serving"); err != nil {
		t.Fatal(err)
	}
	n.waitFor(t, "READY=1\nSTATUS=serving")

	endings := make(chan Ending)
	// The program at the path is replaced between the two tries, as an upgrade does it.
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	life.Successor = to("serve")
	life.Successor.Path = program
	go func() { endings <- life.Wait(context.Background()) }()
	unix.Kill(os.Getpid(), unix.SIGHUP)
	n.waitFor(t, "serving on: listen: hand-over to")

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(program), os.Symlink(self, program)); err != nil {
		t.Fatal(err)
	}
	unix.Kill(os.Getpid(), unix.SIGHUP)
	e := <-endings
	if !e.HandedOver() {
		t.Fatalf("ending %+v", e)
	}
	defer endProcess(t, e.Successor)
	n.waitFor(t, fmt.Sprintf("MAINPID=%d\nREADY=1", e.Successor))
	select {
	case <-e.Stop:
		t.Fatal("told to stop without SIGTERM")
	default:
	}
	unix.Kill(os.Getpid(), unix.SIGTERM)
	select {
	case <-e.Stop:
	case <-time.After(10 * time.Second):
		t.Fatal("SIGTERM in the drain was not passed on")
	}
}

func TestStopDuringHandOverLeavesNoSuccessor(t *testing.T) {
	s, ln := echoSockets(t)
	go answer(ln)
	n := &notes{}
	life := NewLife(s, slog.New(slog.DiscardHandler))
	life.Notify = n.add
	life.Successor = to("hang")
	endings := make(chan Ending)
	go func() { endings <- life.Wait(context.Background()) }()
	unix.Kill(os.Getpid(), unix.SIGHUP)
	n.waitFor(t, "RELOADING=1")
	unix.Kill(os.Getpid(), unix.SIGTERM)
	select {
	case e := <-endings:
		if e.HandedOver() {
			t.Fatalf("ending %+v", e)
		}
		<-e.Stop
	case <-time.After(10 * time.Second):
		t.Fatal("SIGTERM waited for the hand-over")
	}
}

func TestSocketsByName(t *testing.T) {
	s, ln := echoSockets(t)
	addr := ln.Addr().String()
	ln.Close()
	again, err := s.Listen("echo", "tcp", "127.0.0.1:1") // held, so the address is not used
	if err != nil || len(again) != 1 || again[0].Addr().String() != addr {
		t.Fatalf("asked again: %v, %v", again, err)
	}
	again[0].Close()
	udp, err := s.ListenPacket("dns", "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp[0].Close()
	if got := strings.Join(s.Names(), ","); got != "dns,echo" {
		t.Fatalf("names %s", got)
	}
	if !s.Release("echo") || s.Release("echo") {
		t.Fatal("release reports wrongly")
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Fatal("port still open after release")
	}
	var typed *SocketError
	if _, err := s.Listen("bad:name", "tcp", "127.0.0.1:0"); !errors.As(err, &typed) {
		t.Fatalf("name with a colon: %v", err)
	}
	if _, err := s.Listen("taken", "tcp", "192.0.2.1:80"); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Fatalf("foreign address: %v", err)
	}
}
