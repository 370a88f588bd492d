package natslab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Server is one server: started, killed and started again.
type Server struct {
	t      testing.TB
	role   string
	args   []string
	status string

	mu    sync.Mutex
	log   bytes.Buffer // guarded by mu
	cmd   *exec.Cmd
	ended chan struct{}
}

func (m *Machine) server(role string) *Server {
	s := &Server{t: m.t, role: role, status: m.path(role + ".status")}
	s.args = []string{role, "--config", m.path(role + ".conf"), "--status", s.status}
	if role == "core" {
		s.args = append(s.args, "--route-secret", m.path("route.secret"))
	} else {
		s.args = append(s.args,
			"--seed", natsconf.AccountStore+"="+m.Seed(natsconf.RoleEdge),
			"--seed", natsconf.AccountBus+"="+m.Seed(natsconf.RoleEdgeBus))
	}
	m.t.Cleanup(s.end)
	return s
}

// Args is the server's command line without the program.
func (s *Server) Args() []string { return s.args }

// Start starts the server and waits until it is ready.
func (s *Server) Start() {
	s.t.Helper()
	s.StartWith(nil)
	s.AwaitReady()
}

// StartWith starts the server with more environment, and does not wait.
func (s *Server) StartWith(env []string) {
	s.t.Helper()
	_ = os.Remove(s.status)
	cmd := exec.Command(Program(s.t), s.args...)
	cmd.Stdout, cmd.Stderr = s, s
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	s.cmd, s.ended = cmd, ended
	go func() {
		_ = cmd.Wait() // how it ended is in its log, and killed is how most end here
		close(ended)
	}()
}

// AwaitReady waits for the status file that says so.
func (s *Server) AwaitReady() {
	s.t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(5 * time.Millisecond) {
		if s.Digest() != "" {
			return
		}
		if s.Ended() || time.Now().After(deadline) {
			s.t.Fatalf("natslab: the %s did not get ready:\n%s", s.role, s.Log())
		}
	}
}

// Digest is the digest of the configuration that runs, by the status file; "" before it is ready.
func (s *Server) Digest() string {
	var r struct {
		Digest string `json:"config_digest"`
		PID    int    `json:"pid"`
	}
	text, err := os.ReadFile(s.status)
	if err != nil || json.Unmarshal(text, &r) != nil || r.PID != s.cmd.Process.Pid {
		return ""
	}
	return r.Digest
}

// Ended reports whether the process is gone, or was never there.
func (s *Server) Ended() bool {
	if s.cmd == nil {
		return true
	}
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// Signal sends a signal. A stop has taken hold when it returns: until then the process may still answer.
func (s *Server) Signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(Patience); sig == syscall.SIGSTOP && !s.stopped(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal("the server does not stop")
		}
	}
}

// stopped reports whether every thread of the process has stopped.
func (s *Server) stopped() bool {
	s.t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that ended
		}
		if _, rest, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return true
}

// Kill is kill -9, and waits for the end.
func (s *Server) Kill() {
	s.t.Helper()
	s.Signal(syscall.SIGKILL)
	<-s.ended
}

// Stop is SIGTERM, and waits for the end.
func (s *Server) Stop() {
	s.t.Helper()
	s.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(Patience):
		s.t.Fatalf("natslab: the %s did not stop:\n%s", s.role, s.Log())
	}
}

// PID is the process's id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// ExitCode is the exit status of a process that ended; -1 when a signal ended it.
func (s *Server) ExitCode() int { <-s.ended; return s.cmd.ProcessState.ExitCode() }

func (s *Server) end() {
	if s.cmd == nil {
		return
	}
	if !s.Ended() {
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
	if s.t.Failed() {
		s.t.Logf("the last of the %s's log:\n%s", s.role, tail(s.Log(), 30))
	}
}

// Log is all that the server wrote, over all its runs.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// Write takes the process's output.
func (s *Server) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
