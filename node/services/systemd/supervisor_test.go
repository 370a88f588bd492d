package systemd

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/services"
	"github.com/ployz/ployz/node/services/servicestest"
	"github.com/ployz/ployz/units"
)

// One value obeys both contracts, so that the composition root needs no adapter.
var (
	_ services.Supervisor = (*Supervisor)(nil)
	_ runtime.Units       = (*Supervisor)(nil)
	_ runtime.Freezer     = (*Supervisor)(nil)
)

func TestConformance(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Systemd)
	s := New()
	t.Cleanup(s.Close)
	servicestest.Run(t, func(t *testing.T) servicestest.Fixture {
		return servicestest.Fixture{Supervisor: s, PutFile: func(t *testing.T, name, text string) { putFile(t, s, name, text) }}
	})
}

func putFile(t *testing.T, s *Supervisor, name, text string) {
	t.Helper()
	path := s.files.path(name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path); s.bus.reload(context.Background()) })
	if err := s.bus.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestReplacedProgram upgrades a program under its running process, as a package does.
func TestReplacedProgram(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Systemd)
	s := New()
	t.Cleanup(s.Close)
	program := filepath.Join("/run", "ployz-test-program")
	t.Cleanup(func() { os.Remove(program) })
	install(t, program, "")
	u := units.Stamp("ployz-test-replaced.service", "[Unit]\n[Service]\nType=exec\nExecStart="+program+" 1000\n[Install]\nWantedBy=multi-user.target\n")
	t.Cleanup(func() {
		if err := s.Remove(context.Background(), u.Name); err != nil {
			t.Error(err)
		}
	})
	if r := services.Ensure(t.Context(), s, services.Wanted{Unit: u}, nil); r.Err != nil || r.Act != services.Create {
		t.Fatalf("%+v", r)
	}
	for _, step := range []struct {
		suffix string
		want   services.Act
	}{{"", services.Adopt}, {"\x00", services.Recreate}, {"\x00", services.Adopt}} {
		install(t, program, step.suffix)
		if r := services.Ensure(t.Context(), s, services.Wanted{Unit: u}, nil); r.Err != nil || r.Act != step.want {
			t.Fatalf("after installing with %q: %+v, want %s", step.suffix, r, step.want)
		}
	}
}

// install puts a copy of sleep in place by rename, as dpkg does; a suffix makes it other bytes.
func install(t *testing.T, program, suffix string) {
	t.Helper()
	text, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program+".new", append(text, suffix...), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(program+".new", program); err != nil {
		t.Fatal(err)
	}
}

// TestStopRefused: a unit that its owner forbids to stop by hand is named as such and runs on.
func TestStopRefused(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Systemd)
	s := New()
	t.Cleanup(s.Close)
	const name = "ployz-test-refused.service"
	unit := func(refuse string) string {
		return "[Unit]\nRefuseManualStop=" + refuse + "\n[Service]\nExecStart=/bin/sleep 1000\n"
	}
	putFile(t, s, name, unit("yes"))
	if err := s.Start(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context(), name); api.CodeOf(err) != api.CodeServiceStop {
		t.Errorf("got %v", err)
	}
	if o, err := s.Observe(t.Context(), name); err != nil || o.Active != "active" {
		t.Errorf("after the refusal: %+v, %v", o, err)
	}
	putFile(t, s, name, unit("no"))
	if err := s.Stop(t.Context(), name); err != nil {
		t.Errorf("once it may be stopped: %v", err)
	}
}

// TestNoSystemd: where systemd does not answer every call says so, and nothing is written.
func TestNoSystemd(t *testing.T) {
	if testenv.Systemd.Missing() == "" {
		t.Skip("testenv: needs a machine without systemd")
	}
	s := &Supervisor{files: files{t.TempDir()}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	u := units.Stamp("x.service", "[Unit]\n")
	for name, err := range map[string]error{
		"install": s.Install(ctx, u), "start": s.Start(ctx, u.Name), "stop": s.Stop(ctx, u.Name), "reload": s.Reload(ctx, u.Name),
		"remove": s.Remove(ctx, u.Name),
	} {
		if api.CodeOf(err) != api.CodeSupervisorDown {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, _ := os.ReadDir(s.files.dir); len(left) != 0 {
		t.Errorf("written although systemd was down: %v", left)
	}
}

func TestLinks(t *testing.T) {
	f := files{t.TempDir()}
	u := units.Stamp("x.socket", "[Unit]\n[Socket]\n[Install]\nWantedBy=sockets.target x.service\n")
	if changed, err := f.write(u); err != nil || !changed {
		t.Fatalf("write: %t, %v", changed, err)
	}
	if changed, err := f.write(u); err != nil || changed {
		t.Fatalf("write again: %t, %v", changed, err)
	}
	for _, boot := range []bool{true, false, true} {
		if by, err := f.link(u.Name, u.Text, boot); err != nil || !slices.Equal(by, []string{"x.service"}) {
			t.Fatalf("link %t: %v, %v", boot, by, err)
		}
		if f.enabled(u.Name, u.Text) != boot {
			t.Fatalf("enabled is not %t", boot)
		}
	}
	if removed, err := f.remove(u.Name); err != nil || !removed {
		t.Fatalf("remove: %t, %v", removed, err)
	}
	if left, _ := filepath.Glob(f.dir + "/*/*"); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
}
