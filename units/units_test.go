package units

import (
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/nodetest/testenv"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// all returns every unit with arguments that show each of its variations.
func all(t *testing.T) []Unit {
	t.Helper()
	must := func(u Unit, err error) Unit {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	gateway, err := Gateway{TCP: []uint16{5432, 25, 5432}}.Render()
	if err != nil {
		t.Fatal(err)
	}
	dns, err := DNS{Addresses: []netip.Addr{netip.MustParseAddr("10.101.3.1"), netip.MustParseAddr("fd00:1:2:3::1"), netip.MustParseAddr("127.0.0.55")}}.Render()
	if err != nil {
		t.Fatal(err)
	}
	list := []Unit{must(Net()), must(Pool{State: "/var/lib/ployz", Mount: "/var/lib/ployz/pool"}.Render()), must(WireGuard("ployz-wg")), must(NATS{Role: "edge", Args: []string{"--seed", "STORE=/var/lib/ployz/keys/store.seed"}}.Render()), must(NATS{Role: "core"}.Render()), gateway.Service, dns.Service,
		must(fullWorkload().Render()), must(Workload{ID: "job-1", Namespace: "shop", Service: "migrate", Slot: "migrate",
			Prepare: "/bin/true", Create: "/bin/true", Start: "/bin/true", Delete: "/bin/true", ForceDelete: "/bin/true", PIDFile: "/run/ployz/instances/job-1/pid",
			RuntimeDirectory: "ployz/instances/job-1", ExitFile: "/run/ployz/exits/job-1", Restart: "no"}.Render())}
	return append(append(list, gateway.Sockets...), dns.Sockets...)
}

func fullWorkload() Workload {
	return Workload{
		ID: "web-0-x7k2", Namespace: "shop", Service: "web", Slot: "web-0",
		Prepare: Lib + "/ployz-net workload web-0-x7k2", Create: Lib + "/runc create web-0-x7k2",
		Start: Lib + "/runc start web-0-x7k2", Delete: Lib + "/runc delete web-0-x7k2", ForceDelete: Lib + "/runc delete --force web-0-x7k2",
		PIDFile: "/run/ployz/instances/web-0-x7k2/pid", RuntimeDirectory: "ployz/instances/web-0-x7k2", ExitFile: "/run/ployz/exits/web-0-x7k2",
		Restart: "on-failure", RestartDelay: 250 * time.Millisecond, MaxAttempts: 3, Window: time.Minute,
		StopSignal: "SIGQUIT", StopGrace: 30 * time.Second, Limits: []string{"MemoryMax=268435456", "TasksMax=64"},
		Folders: []string{"/var/lib/ployz/pool/volumes/shop.data/data"},
	}
}

func TestGoldens(t *testing.T) {
	for _, u := range all(t) {
		golden := filepath.Join("testdata", u.Name)
		if *update {
			if err := os.WriteFile(golden, []byte(u.Text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if u.Text != string(want) {
			t.Errorf("%s differs from its golden (go test ./units -update):\n%s", u.Name, u.Text)
		}
	}
}

func TestIdentity(t *testing.T) {
	seen := map[string]string{}
	for _, u := range all(t) {
		if other := seen[u.Identity]; other != "" {
			t.Errorf("%s and %s have one identity", u.Name, other)
		}
		seen[u.Identity] = u.Name
		if id, intact := Check(u.Text); id != u.Identity || !intact {
			t.Errorf("%s: Check = %q, %t", u.Name, id, intact)
		}
		if id, intact := Check(u.Text + "LimitNOFILE=1\n"); id != u.Identity || intact {
			t.Errorf("%s edited by hand: Check = %q, %t", u.Name, id, intact)
		}
	}
	if id, intact := Check("[Service]\nExecStart=/bin/true\n"); id != "" || intact {
		t.Errorf("a foreign unit: Check = %q, %t", id, intact)
	}
}

// TestExtraSocketIsNoDrift: a new layer-4 route must not restart the gateway.
func TestExtraSocketIsNoDrift(t *testing.T) {
	a, err := Gateway{}.Render()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Gateway{TCP: []uint16{5432}}.Render()
	if err != nil {
		t.Fatal(err)
	}
	if a.Service != b.Service || len(b.Sockets) != len(a.Sockets)+1 {
		t.Fatalf("the service changed with its sockets:\n%s\n%s", a.Service.Text, b.Service.Text)
	}
}

func TestPoolWaitsForTheMachinesMount(t *testing.T) {
	u, err := Pool{State: "/var/lib/ployz", Foreign: "/srv/big-disk"}.Render()
	if err != nil || !strings.Contains(u.Text, "RequiresMountsFor=/var/lib/ployz /srv/big-disk\n") || strings.Contains(u.Text, ".mount") {
		t.Errorf("%v:\n%s", err, u.Text)
	}
	for path, want := range map[string]string{"/var/lib/ployz/pool": "var-lib-ployz-pool.mount", "/srv/big-disk/.x y/": `srv-big\x2ddisk-.x\x20y.mount`} {
		if got := MountUnit(path); got != want {
			t.Errorf("%s is mounted by %s, want %s", path, got, want)
		}
	}
}

func TestRefusesWhatCannotBeWritten(t *testing.T) {
	for _, bad := range []string{"", "a b", "a\nExecStart=/bin/sh", "50%", "$x", `"`} {
		w := fullWorkload()
		w.Slot = bad
		if u, err := w.Render(); err == nil {
			t.Errorf("slot %q was rendered:\n%s", bad, u.Text)
		}
	}
	if _, err := Command("/bin/x", "two\nlines"); err == nil {
		t.Error("a command with a line break was rendered")
	}
	if got, err := Command("/bin/x", "a b", "50%", "$HOME", `q"`, ""); err != nil || got != `/bin/x "a b" "50%%" "$$HOME" "q\"" ""` {
		t.Errorf("Command = %s, %v", got, err)
	}
	if _, err := (NATS{Role: "leaf"}).Render(); err == nil {
		t.Error("an unknown role was rendered")
	}
}

// TestVerify lets systemd read every unit. Programs are stood in for, since none is installed.
func TestVerify(t *testing.T) {
	analyze := needAnalyze(t)
	dir := t.TempDir()
	for _, u := range append(all(t), sliceUnits()...) {
		text := strings.ReplaceAll(u.Text, Lib+"/", "/bin/true ")
		if err := os.WriteFile(filepath.Join(dir, u.Name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range all(t) {
		out, err := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", filepath.Join(dir, u.Name)).CombinedOutput()
		if err != nil || strings.Contains(string(out), u.Name+":") {
			t.Errorf("%s: %v\n%s", u.Name, err, out)
		}
	}
}

// sliceUnits are static files of the package; a verified unit must find them.
func sliceUnits() []Unit {
	return []Unit{{Name: "ployz.slice", Text: "[Slice]\n"}, {Name: "ployz-workloads.slice", Text: "[Slice]\n"}}
}

// TestSecurity bounds systemd's own exposure level, 0 (sealed) to 10 (open), times ten.
func TestSecurity(t *testing.T) {
	analyze := needAnalyze(t)
	bounds := map[string]string{GatewayService: "35", DNSService: "35", NATSService: "35", NATSCoreService: "35", NetService: "70", PoolService: "70", WireGuardService: "35"}
	dir := t.TempDir()
	for _, u := range all(t) {
		bound := bounds[u.Name]
		if bound == "" {
			continue
		}
		file := filepath.Join(dir, u.Name)
		if err := os.WriteFile(file, []byte(u.Text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+bound, file).CombinedOutput()
		if err != nil {
			t.Errorf("%s is more exposed than %s: %v\n%s", u.Name, bound, err, out)
		}
	}
}

func needAnalyze(t *testing.T) string {
	t.Helper()
	testenv.Require(t, testenv.Analyze)
	return "systemd-analyze"
}
