// Package servicestest is the conformance suite of services.Supervisor. The one in memory and the
// one over systemd pass the same.
package servicestest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/services"
	"github.com/ployz/ployz/units"
)

// Fixture is one machine to test against.
type Fixture struct {
	Supervisor services.Supervisor
	// PutFile writes a unit file as somebody else would; the fixture removes it.
	PutFile func(t *testing.T, name, text string)
}

// Run runs the whole suite.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	for name, test := range map[string]func(*testing.T, Fixture){
		"Absent":            testAbsent,
		"InstallOnly":       testInstall,
		"LifeCycle":         testLifeCycle,
		"NewTextOldProcess": testNewText,
		"StartFails":        testStartFails,
		"Reload":            testReload,
		"ReloadFails":       testReloadFails,
		"Foreign":           testForeign,
		"Ensure":            testEnsure,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// looper ignores SIGHUP politely and lives until it is stopped.
const looper = `/bin/sh -c "trap : HUP; while :; do sleep 1; done"`

// unit makes a unit of the test's own name; it is removed when the test ends.
func unit(t *testing.T, f Fixture, start, reload, remark string) units.Unit {
	t.Helper()
	name := fmt.Sprintf("ployz-test-%s-%d.service", strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")), time.Now().UnixNano()%1e6)
	text := fmt.Sprintf("[Unit]\nDescription=%s\nStartLimitIntervalSec=0\n\n[Service]\nType=exec\nExecStart=%s\nExecReload=%s\nTimeoutStopSec=5\n\n[Install]\nWantedBy=multi-user.target\n", remark, start, reload)
	t.Cleanup(func() {
		if err := f.Supervisor.Remove(context.Background(), name); err != nil {
			t.Errorf("clean-up: %v", err)
		}
	})
	return units.Stamp(name, text)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code api.Code) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Fatalf("error %v, want code %s", err, code)
	}
}

func observe(t *testing.T, f Fixture, name string) units.Observation {
	t.Helper()
	o, err := f.Supervisor.Observe(t.Context(), name)
	must(t, err)
	return o
}

func testAbsent(t *testing.T, f Fixture) {
	const name = "ployz-test-nowhere.service"
	if o := observe(t, f, name); o.Present() || o.Running() || o.ExitCode != -1 {
		t.Fatalf("absent: %+v", o)
	}
	wantCode(t, f.Supervisor.Start(t.Context(), name), api.CodeServiceAbsent)
	must(t, f.Supervisor.Stop(t.Context(), name))
	must(t, f.Supervisor.Remove(t.Context(), name))
}

func testInstall(t *testing.T, f Fixture) {
	u := unit(t, f, looper, "/bin/true", "install only")
	for range 2 {
		must(t, f.Supervisor.Install(t.Context(), u))
		o := observe(t, f, u.Name)
		if !o.File || !o.Intact || o.Identity != u.Identity || !o.Enabled || o.Running() || o.NeedReload {
			t.Fatalf("installed: %+v", o)
		}
	}
}

func testLifeCycle(t *testing.T, f Fixture) {
	u := unit(t, f, looper, "/bin/true", "life")
	must(t, f.Supervisor.Install(t.Context(), u))
	must(t, f.Supervisor.Start(t.Context(), u.Name))
	first := observe(t, f, u.Name)
	if !first.Running() || first.MainPID == 0 || first.Started.IsZero() || first.RunningIdentity != u.Identity || first.ExecutableStale {
		t.Fatalf("started: %+v", first)
	}
	must(t, f.Supervisor.Start(t.Context(), u.Name))
	if again := observe(t, f, u.Name); again.MainPID != first.MainPID {
		t.Fatalf("a second Start restarted it: %+v", again)
	}
	must(t, f.Supervisor.Restart(t.Context(), u.Name))
	if again := observe(t, f, u.Name); again.MainPID == first.MainPID || !again.Running() {
		t.Fatalf("Restart: %+v", again)
	}
	for range 2 {
		must(t, f.Supervisor.Stop(t.Context(), u.Name))
	}
	if o := observe(t, f, u.Name); o.Running() || o.MainPID != 0 {
		t.Fatalf("stopped: %+v", o)
	}
	must(t, f.Supervisor.Start(t.Context(), u.Name))
	for range 2 {
		must(t, f.Supervisor.Remove(t.Context(), u.Name))
	}
	if o := observe(t, f, u.Name); o.Present() {
		t.Fatalf("removed: %+v", o)
	}
}

// testNewText is an upgrade that was interrupted before its restart: the process tells which text it is of.
func testNewText(t *testing.T, f Fixture) {
	old := unit(t, f, looper, "/bin/true", "old")
	must(t, f.Supervisor.Install(t.Context(), old))
	must(t, f.Supervisor.Start(t.Context(), old.Name))
	pid := observe(t, f, old.Name).MainPID
	young := units.Stamp(old.Name, "[Unit]\nDescription=new\n[Service]\nType=exec\nExecStart="+looper+"\n[Install]\nWantedBy=multi-user.target\n")
	must(t, f.Supervisor.Install(t.Context(), young))
	o := observe(t, f, old.Name)
	if o.MainPID != pid || o.Identity != young.Identity || o.RunningIdentity != old.Identity {
		t.Fatalf("new text under an old process: %+v", o)
	}
	must(t, f.Supervisor.Restart(t.Context(), old.Name))
	if o := observe(t, f, old.Name); o.RunningIdentity != young.Identity {
		t.Fatalf("restarted: %+v", o)
	}
}

func testStartFails(t *testing.T, f Fixture) {
	u := units.Stamp("ployz-test-fails.service", "[Unit]\nDescription=fails\n[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n")
	t.Cleanup(func() { must(t, f.Supervisor.Remove(context.Background(), u.Name)) })
	must(t, f.Supervisor.Install(t.Context(), u))
	wantCode(t, f.Supervisor.Start(t.Context(), u.Name), api.CodeServiceFailed)
	if o := observe(t, f, u.Name); o.Active != "failed" || o.ExitCode != 1 {
		t.Fatalf("failed: %+v", o)
	}
}

func testReload(t *testing.T, f Fixture) {
	u := unit(t, f, looper, "/bin/kill -HUP $MAINPID", "reload")
	must(t, f.Supervisor.Install(t.Context(), u))
	wantCode(t, f.Supervisor.Reload(t.Context(), u.Name), api.CodeServiceReload)
	must(t, f.Supervisor.Start(t.Context(), u.Name))
	pid := observe(t, f, u.Name).MainPID
	must(t, f.Supervisor.Reload(t.Context(), u.Name))
	if o := observe(t, f, u.Name); o.MainPID != pid || !o.Running() {
		t.Fatalf("reloaded: %+v", o)
	}
}

func testReloadFails(t *testing.T, f Fixture) {
	u := unit(t, f, looper, "/bin/false", "reload fails")
	must(t, f.Supervisor.Install(t.Context(), u))
	must(t, f.Supervisor.Start(t.Context(), u.Name))
	pid := observe(t, f, u.Name).MainPID
	wantCode(t, f.Supervisor.Reload(t.Context(), u.Name), api.CodeServiceReload)
	if o := observe(t, f, u.Name); o.MainPID != pid || !o.Running() {
		t.Fatalf("after a failed reload: %+v", o)
	}
}

func testForeign(t *testing.T, f Fixture) {
	const name, text = "ployz-test-foreign.service", "[Service]\nExecStart=/bin/true\n"
	f.PutFile(t, name, text)
	ours := units.Stamp(name, "[Unit]\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
	wantCode(t, f.Supervisor.Install(t.Context(), ours), api.CodeServiceForeign)
	wantCode(t, f.Supervisor.Remove(t.Context(), name), api.CodeServiceForeign)
	if o := observe(t, f, name); !o.File || o.Identity != "" || o.Intact {
		t.Fatalf("foreign: %+v", o)
	}
	r := services.Ensure(t.Context(), f.Supervisor, services.Wanted{Unit: ours}, nil)
	if r.Act != services.Leave || r.Err != nil {
		t.Fatalf("Ensure on a foreign unit: %+v", r)
	}
}

func testEnsure(t *testing.T, f Fixture) {
	old := unit(t, f, looper, "/bin/true", "ensured")
	young := units.Stamp(old.Name, strings.Replace(strip(old.Text), "ensured", "ensured anew", 1))
	var acts []services.Act
	for _, u := range []units.Unit{old, old, young, young} {
		r := services.Ensure(t.Context(), f.Supervisor, services.Wanted{Unit: u}, nil)
		if r.Err != nil || r.After.RunningIdentity != u.Identity || !r.After.Running() {
			t.Fatalf("Ensure: %+v", r)
		}
		acts = append(acts, r.Act)
	}
	if want := []services.Act{services.Create, services.Adopt, services.Recreate, services.Adopt}; !slices.Equal(acts, want) {
		t.Fatalf("acts %v, want %v", acts, want)
	}
}

// strip takes the identity out of a stamped text again.
func strip(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "X-Ployz-Identity=") && !strings.HasPrefix(line, "Environment="+units.IdentityVariable) {
			b.WriteString(line)
		}
	}
	return b.String()
}
