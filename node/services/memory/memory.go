// Package memory is a service supervisor in memory, for tests of what is built on one. It reads
// just enough of a unit's text to fail where a real one would: ExecStart=/bin/false does not
// start, ExecReload=/bin/false does not reload.
package memory

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/units"
)

// Supervisor implements services.Supervisor and runtime.Units. Safe for concurrent use.
type Supervisor struct {
	mu      sync.Mutex
	units   map[string]*entry // guarded by mu
	nextPID int               // guarded by mu
	down    bool              // guarded by mu
	calls   []string          // guarded by mu
}

type entry struct {
	text    string
	enabled bool
	active  string
	pid     int
	running string
	stale   bool
	exit    int
	started time.Time
}

// New returns a supervisor without units.
func New() *Supervisor { return &Supervisor{units: map[string]*entry{}, nextPID: 100} }

// SetDown makes every call fail as if the supervisor did not answer.
func (s *Supervisor) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Calls returns the acting calls so far, such as "start ployz-dns.service", and forgets them.
func (s *Supervisor) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.calls = nil }()
	return s.calls
}

// PutFile writes a unit file as somebody else would.
func (s *Supervisor) PutFile(name, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entryLocked(name).text = text
}

// ReplaceProgram makes the running program differ from the one on disk, as an upgrade does.
func (s *Supervisor) ReplaceProgram(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entryLocked(name).stale = true
}

func (s *Supervisor) entryLocked(name string) *entry {
	if s.units[name] == nil {
		s.units[name] = &entry{active: "inactive", exit: -1}
	}
	return s.units[name]
}

// enterLocked notes an acting call and fails while the supervisor is down.
func (s *Supervisor) enterLocked(verb, name string) error {
	if s.down {
		return api.Errorf(api.CodeSupervisorDown, "the supervisor does not answer").Again()
	}
	if verb != "" {
		s.calls = append(s.calls, verb+" "+name)
	}
	return nil
}

// Observe implements services.Supervisor.
func (s *Supervisor) Observe(ctx context.Context, name string) (units.Observation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked("", name); err != nil {
		return units.Observation{}, err
	}
	return s.observeLocked(name), nil
}

func (s *Supervisor) observeLocked(name string) units.Observation {
	e := s.units[name]
	if e == nil {
		return units.Observation{Name: name, Load: "not-found", Active: "inactive", Sub: "dead", ExitCode: -1}
	}
	o := units.Observation{Name: name, File: e.text != "", Enabled: e.enabled, Load: "loaded", Active: e.active, Sub: e.active,
		MainPID: e.pid, RunningIdentity: e.running, ExecutableStale: e.stale, Started: e.started, ExitCode: e.exit}
	o.Identity, o.Intact = units.Check(e.text)
	return o
}

// List implements runtime.Units: the pattern may end in "*" once, as in "ployz-workload@*.service".
func (s *Supervisor) List(ctx context.Context, pattern string) ([]units.Observation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked("", pattern); err != nil {
		return nil, err
	}
	before, after, _ := strings.Cut(pattern, "*")
	var all []units.Observation
	for _, name := range slices.Sorted(maps.Keys(s.units)) {
		if strings.HasPrefix(name, before) && strings.HasSuffix(name, after) {
			all = append(all, s.observeLocked(name))
		}
	}
	return all, nil
}

// Install implements services.Supervisor.
func (s *Supervisor) Install(ctx context.Context, us ...units.Unit) error {
	if err := s.Write(ctx, us...); err != nil {
		return err
	}
	for _, u := range us {
		if err := s.Enable(ctx, u.Name, true); err != nil {
			return err
		}
	}
	return nil
}

// Write implements runtime.Units.
func (s *Supervisor) Write(ctx context.Context, us ...units.Unit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range us {
		if err := s.enterLocked("write", u.Name); err != nil {
			return err
		}
		if err := s.checkOursLocked(u.Name); err != nil {
			return err
		}
	}
	for _, u := range us {
		s.entryLocked(u.Name).text = u.Text
	}
	return nil
}

func (s *Supervisor) checkOursLocked(name string) error {
	if e := s.units[name]; e != nil && e.text != "" {
		if identity, _ := units.Check(e.text); identity == "" {
			return api.Errorf(api.CodeServiceForeign, "ployz did not write this unit file").About(name)
		}
	}
	return nil
}

// Enable implements runtime.Units.
func (s *Supervisor) Enable(ctx context.Context, name string, boot bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked("enable", name); err != nil {
		return err
	}
	if e := s.units[name]; e != nil {
		e.enabled = boot
	}
	return nil
}

// Start implements services.Supervisor.
func (s *Supervisor) Start(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked("start", name); err != nil {
		return err
	}
	return s.startLocked(name)
}

func (s *Supervisor) startLocked(name string) error {
	e := s.units[name]
	if e == nil || e.text == "" {
		return api.Errorf(api.CodeServiceAbsent, "no such unit").About(name)
	}
	if e.active == "active" {
		return nil
	}
	if strings.Contains(e.text, "ExecStart=/bin/false") {
		e.active, e.exit = "failed", 1
		return api.Errorf(api.CodeServiceFailed, "exit-code, status 1").About(name)
	}
	s.nextPID++
	e.active, e.pid, e.stale, e.started = "active", s.nextPID, false, time.Now()
	e.running, _ = units.Check(e.text)
	if strings.HasSuffix(name, ".socket") {
		e.pid, e.running = 0, ""
	}
	return nil
}

// Restart implements services.Supervisor.
func (s *Supervisor) Restart(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked("restart", name); err != nil {
		return err
	}
	s.stopLocked(name)
	return s.startLocked(name)
}

// Reload implements services.Supervisor.
func (s *Supervisor) Reload(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked("reload", name); err != nil {
		return err
	}
	e := s.units[name]
	if e == nil || e.active != "active" || strings.Contains(e.text, "ExecReload=/bin/false") {
		return api.Errorf(api.CodeServiceReload, "the reload failed").About(name)
	}
	e.stale = false
	return nil
}

// Stop implements services.Supervisor.
func (s *Supervisor) Stop(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enterLocked("stop", name); err != nil {
		return err
	}
	s.stopLocked(name)
	return nil
}

func (s *Supervisor) stopLocked(name string) {
	if e := s.units[name]; e != nil && e.active == "active" {
		e.active, e.pid, e.running, e.exit = "inactive", 0, "", 0
	}
}

// Remove implements services.Supervisor.
func (s *Supervisor) Remove(ctx context.Context, names ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if err := s.enterLocked("remove", name); err != nil {
			return err
		}
		if err := s.checkOursLocked(name); err != nil {
			return err
		}
		delete(s.units, name)
	}
	return nil
}
