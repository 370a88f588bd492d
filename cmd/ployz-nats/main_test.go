package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

func ployzNats(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"what"}, {"core"}, {"core", "--config"}, {"core", "--config", "x", "more"}, {"edge", "--config", "x", "--seed", "STORE"}, {"reload", "--config", "x"}} {
		if code, _, _ := ployzNats(t, args...); code != 2 {
			t.Errorf("%q: exit status %d, want 2", args, code)
		}
	}
	if code, out, _ := ployzNats(t, "version"); code != 0 || !strings.Contains(out, "2.15.2") {
		t.Errorf("version: %d, %q", code, out)
	}
}

// TestCheckRefuses changes one thing at a time in configurations that are fine as rendered.
func TestCheckRefuses(t *testing.T) {
	m := natslab.New(t)
	for _, c := range []struct{ role, from, to, want string }{
		{"core", "sync_interval: always", "sync_interval: 2m", "must be always"},
		{"core", "  sync_interval: always\n", "", "must be always"},
		{"core", "isolate_leafnode_interest: true", "isolate_leafnode_interest: false", "isolate_leafnode_interest"},
		{"core", "domain: core", "domain: other", "a core's is core"},
		{"core", "routes: [", "unknown: [", "unknown"},
		{"core", `name: "ployz-lab-g1"`, ``, "clustered"},
		{"core", "system_account: SYS", "system_account: SYS\nno_auth_user: x", "no_auth_user"},
		{"edge", "sync_interval: always", "sync_interval: 2m", "must be always"},
		{"edge", `domain: "edge-m1"`, "domain: core", "an edge's is edge-MACHINE"},
		{"edge", "account: BUS", "account: NONE", "NONE"},
		{"edge", "jetstream {", "jetstream_off {", "jetstream"},
	} {
		args := m.Core.Args()
		if c.role == "edge" {
			args = m.Edge.Args()
		}
		args = append([]string{c.role, "--check"}, args[1:]...)
		if code, out, errs := ployzNats(t, args...); code != 0 || !strings.HasPrefix(out, "sha256:") {
			t.Fatalf("%s as rendered: %d, %q, %q", c.role, code, out, errs)
		}
		restore := edit(t, filepath.Join(m.Dir, c.role+".conf"), c.from, c.to)
		if code, _, errs := ployzNats(t, args...); code != 3 || !strings.Contains(errs, c.want) {
			t.Errorf("%s with %q: exit status %d, %q; want 3 and %q", c.role, c.to, code, errs, c.want)
		}
		restore()
	}
}

func edit(t *testing.T, path, from, to string) (restore func()) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(before), from) {
		t.Fatalf("%s has no %q", path, from)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(before), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMissingSecrets(t *testing.T) {
	m := natslab.New(t)
	for name, args := range map[string][]string{
		"no route secret":    {"core", "--check", "--config", filepath.Join(m.Dir, "core.conf")},
		"short route secret": {"core", "--check", "--config", filepath.Join(m.Dir, "core.conf"), "--route-secret", write(t, "short")},
		"no seed":            {"edge", "--check", "--config", filepath.Join(m.Dir, "edge.conf")},
		"not a seed":         append(append([]string{"edge", "--check"}, m.Edge.Args()[1:]...), "--seed", "BUS="+write(t, "nonsense")),
		"no file":            append(append([]string{"edge", "--check"}, m.Edge.Args()[1:]...), "--seed", "BUS=/nowhere"),
		"no configuration":   {"edge", "--check", "--config", "/nowhere"},
	} {
		if code, _, errs := ployzNats(t, args...); code != 3 {
			t.Errorf("%s: exit status %d, %q; want 3", name, code, errs)
		}
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestNotify listens as systemd does, and reads the journal's priorities.
func TestNotify(t *testing.T) {
	m := natslab.New(t)
	m.Found()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m.Core.StartWith([]string{"NOTIFY_SOCKET=" + path, "JOURNAL_STREAM=1:2"})
	want := func(parts ...string) {
		t.Helper()
		if err := l.SetReadDeadline(time.Now().Add(natslab.Patience)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			if !strings.Contains(string(b[:n]), p) {
				t.Errorf("systemd was told %q, want %q in it", b[:n], p)
			}
		}
	}
	want("READY=1", "STATUS=core m1-1, config sha256:") // alone, and so without a leader
	m.Core.Signal(syscall.SIGHUP)
	want("STATUS=core m1-1")
	m.Core.Signal(syscall.SIGTERM)
	want("STOPPING=1")
	if code := m.Core.ExitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if !strings.Contains(m.Core.Log(), "<6>Server is ready\n") {
		t.Errorf("the log is not the journal's:\n%s", m.Core.Log())
	}
}

// TestReload adds and revokes a machine on a running core, and tries a configuration that cannot be taken.
func TestReload(t *testing.T) {
	m := natslab.Start(t)
	reloadCore := func() (int, string) {
		code, _, errs := ployzNats(t, "reload", "--config", filepath.Join(m.Dir, "core.conf"), "--status", filepath.Join(m.Dir, "core.status"))
		return code, errs
	}
	keys, err := natsstore.EnsureKeys(filepath.Join(m.Dir, "keys2"), natsconf.Roles())
	if err != nil {
		t.Fatal(err)
	}
	before := m.Core.Digest()
	m.CoreConfig.Machines = append(m.CoreConfig.Machines, natsconf.Machine{ID: "m2", Keys: keys.Shared()})
	m.Render()
	if code, errs := reloadCore(); code != 0 || m.Core.Digest() == before {
		t.Fatalf("%d, %q, digest %s", code, errs, m.Core.Digest())
	}
	seed, err := nats.NkeyOptionFromSeed(natsstore.SeedFile(filepath.Join(m.Dir, "keys2"), natsconf.RoleCoordinator))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(m.Config().CoreURLs[0], seed, nats.NoReconnect())
	if err != nil {
		t.Fatalf("the new machine is not let in: %v", err)
	}
	defer nc.Close()
	running := m.Core.Digest()
	restore := edit(t, filepath.Join(m.Dir, "core.conf"), `server_name: "m1-1"`, `server_name: "m1-9"`)
	if code, errs := reloadCore(); code != 3 || m.Core.Digest() != running {
		t.Errorf("a change that needs a restart: %d, %q", code, errs)
	}
	restore()
	edit(t, filepath.Join(m.Dir, "core.conf"), "sync_interval: always", "sync_interval: 1m")
	if code, errs := reloadCore(); code != 3 || m.Core.Digest() != running {
		t.Errorf("an unsafe change: %d, %q", code, errs)
	}
	m.CoreConfig.Machines = m.CoreConfig.Machines[:1]
	m.Render()
	if code, errs := reloadCore(); code != 0 || m.Core.Digest() != before {
		t.Fatalf("%d, %q", code, errs)
	}
	for deadline := time.Now().Add(natslab.Patience); !nc.IsClosed(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the revoked key's connection lives on")
		}
	}
	if err := m.Open().AwaitCore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, errs := reloadEdge(t, m); code != 0 {
		t.Errorf("the edge: %d, %q", code, errs)
	}
}

// reloadEdge also shows that the seeds and the relay's key survive a reload.
func reloadEdge(t *testing.T, m *natslab.Machine) (int, string) {
	m.EdgeConfig.Keys[natsconf.RoleDNS] = m.EdgeConfig.Keys[natsconf.RoleGateway]
	delete(m.EdgeConfig.Keys, natsconf.RoleGateway)
	m.Render()
	code, _, errs := ployzNats(t, "reload", "--config", filepath.Join(m.Dir, "edge.conf"), "--status", filepath.Join(m.Dir, "edge.status"))
	s := m.Open()
	if err := s.AwaitMirror(t.Context(), 0); err != nil {
		t.Error(err)
	}
	return code, errs
}

func TestPortTaken(t *testing.T) {
	m := natslab.New(t)
	m.Found()
	l, err := net.Listen("tcp", m.CoreConfig.HostPort(m.CoreConfig.ClientPort))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := exec.Command(natslab.Program(t), m.Core.Args()...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "address already in use") {
		t.Errorf("%v: %s", err, out)
	}
}
