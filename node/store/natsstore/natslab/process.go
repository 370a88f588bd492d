package natslab

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Process is one server: started, killed and started again.
type Process struct {
	t      testing.TB
	role   string
	args   []string
	status string

	mu    sync.Mutex
	log   bytes.Buffer // guarded by mu
	cmd   *exec.Cmd
	ended chan struct{}
}

func (m *Machine) process(role string) *Process {
	p := &Process{t: m.t, role: role, status: m.path(role + ".status")}
	p.args = []string{role, "--config", m.path(role + ".conf"), "--status", p.status}
	if role == "core" {
		p.args = append(p.args, "--route-secret", m.path("route.secret"))
	} else {
		p.args = append(p.args,
			"--seed", natsconf.AccountStore+"="+m.Seed(natsconf.RoleEdge),
			"--seed", natsconf.AccountBus+"="+m.Seed(natsconf.RoleEdgeBus))
	}
	m.t.Cleanup(p.end)
	return p
}

// Args is the server's command line without the program.
func (p *Process) Args() []string { return p.args }

// Start starts the server and waits until it is ready.
func (p *Process) Start() {
	p.t.Helper()
	p.StartWith(nil)
	p.AwaitReady()
}

// StartWith starts the server with more environment, and does not wait.
func (p *Process) StartWith(env []string) {
	p.t.Helper()
	_ = os.Remove(p.status)
	cmd := exec.Command(Program(p.t), p.args...)
	cmd.Stdout, cmd.Stderr = p, p
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		_ = cmd.Wait() // how it ended is in its log, and killed is how most end here
		close(ended)
	}()
}

// AwaitReady waits for the status file that says so.
func (p *Process) AwaitReady() {
	p.t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(5 * time.Millisecond) {
		if p.Digest() != "" {
			return
		}
		if p.Ended() || time.Now().After(deadline) {
			p.t.Fatalf("natslab: the %s did not get ready:\n%s", p.role, p.Log())
		}
	}
}

// Digest is the digest of the configuration that runs, by the status file; "" before it is ready.
func (p *Process) Digest() string {
	var r struct {
		Digest string `json:"config_digest"`
		PID    int    `json:"pid"`
	}
	text, err := os.ReadFile(p.status)
	if err != nil || json.Unmarshal(text, &r) != nil || r.PID != p.cmd.Process.Pid {
		return ""
	}
	return r.Digest
}

// Ended reports whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Signal sends a signal.
func (p *Process) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// Kill is kill -9, and waits for the end.
func (p *Process) Kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	<-p.ended
}

// Stop is SIGTERM, and waits for the end.
func (p *Process) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(Patience):
		p.t.Fatalf("natslab: the %s did not stop:\n%s", p.role, p.Log())
	}
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// ExitCode is the exit status of a process that ended; -1 when a signal ended it.
func (p *Process) ExitCode() int { <-p.ended; return p.cmd.ProcessState.ExitCode() }

func (p *Process) end() {
	if p.cmd == nil {
		return
	}
	if !p.Ended() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	if p.t.Failed() {
		p.t.Logf("the last of the %s's log:\n%s", p.role, tail(p.Log(), 30))
	}
}

// Log is all that the server wrote, over all its runs.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// Write takes the process's output.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
