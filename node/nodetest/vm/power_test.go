package vm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/nodetest/vm"
	"github.com/ployz/ployz/node/runtime/oci/ocitest"
)

// site is an application with limits, so that it starts only where the kernel keeps them.
const site = `name: site
services:
  web:
    image: web:1
    environment: {VERSION: "1"}
    deploy: {resources: {limits: {cpus: "0.9", memory: 128M, pids: 100}}}
    x-ployz:
      routes:
        - {host: site.test, port: 8080}
        - {tcp: 7000, port: 9000}
      ready: {http: {path: /healthz, port: 8080}, timeout: 120s}
`

// load puts the package, the agent and its image into a payload.
func load(t *testing.T, payload string) {
	t.Helper()
	agent := filepath.Join(payload, "agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", agent, "./node/nodetest/agent")
	build.Dir = testenv.Repo()
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(agent)
	if err != nil {
		t.Fatal(err)
	}
	image := ocitest.New("web:1", map[string]string{"agent": string(program)}, "/agent")
	image.Config.Cmd = []string{"serve"}
	if err := ocitest.WriteLayout(filepath.Join(payload, "web"), image.MustBuild()); err != nil {
		t.Fatal(err)
	}
	deb, err := os.ReadFile(testenv.DebPath())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"ployz.deb": deb, "compose.yaml": []byte(site)} {
		if err := os.WriteFile(filepath.Join(payload, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	install = `dpkg -i ` + mounted + `/ployz.deb >/dev/null; ployzctl init`
	mounted = `/mnt/payload`
	served  = `curl -sS --fail --max-time 20 -H 'Host: site.test' http://127.0.0.1/ | grep -q 'version 1'`
	named   = mounted + `/agent ask udp 127.0.0.55:53 web.site.ployz.internal A | grep -q '^10\.101\.'`
	piped   = `exec 3<>/dev/tcp/127.0.0.1/7000; echo hello >&3; read -r -t 20 line <&3; test "$line" = hello`
)

// TestPowerCut is promise P2 on a real kernel, with the kernel's WireGuard device: an application is deployed, the
// power goes in the middle of work, and the machine comes back serving its last good state with ployzd masked.
func TestPowerCut(t *testing.T) {
	testenv.Require(t, testenv.VM, testenv.Deb)
	payload := t.TempDir()
	load(t, payload)
	testsOf(t, payload, "node/runtime/runc")
	m := vm.Start(t, payload)
	m.Run(install)
	if got := m.Run("ip -details link show ployz-wg 2>/dev/null || ip -details link show type wireguard"); !strings.Contains(got, "wireguard") {
		t.Errorf("the overlay's device is no WireGuard device of the kernel:\n%s", got)
	}
	t.Run("limits bite", func(t *testing.T) {
		out, ok := m.Try("mkdir -p /root/runc; cd /root/runc; PLOYZ_RUNC=/usr/lib/ployz/runc PLOYZ_TEST_REQUIRE=root,systemd,runc,overlay,controllers " +
			mounted + "/" + binary("node/runtime/runc") + " -test.v -test.run TestLimitsBite")
		if !ok || !strings.Contains(out, "--- PASS: TestLimitsBite ") {
			t.Error(out)
		}
	})
	m.Run("cd /root; ployzctl image push " + mounted + "/web; ployzctl deploy -f " + mounted + "/compose.yaml")
	serves(m, "after the deploy")
	m.Run("systemctl kill --signal=KILL 'ployz-workload@*'")
	serves(m, "after the unit has started its killed process anew")
	m.Run("systemctl mask --now ployzd.service ployzd.socket; systemd-run -q --unit=work sh -c 'while :; do echo work >>/var/lib/work; sync /var/lib/work; done'")
	m.Cut()
	m.Boot()
	serves(m, "after the power cut, with ployzd masked")
	if out, ok := m.Try("systemctl is-active ployzd.service"); ok {
		t.Errorf("ployzd is %s although it is masked", out)
	}
	m.Run("systemctl unmask ployzd.service ployzd.socket; systemctl start ployzd.socket ployzd.service")
	m.Eventually("ployzd to find all as it was", "ployzctl status >/dev/null && "+served)
}

// serves asks for everything that the application is made of.
func serves(m *vm.Machine, when string) {
	m.Eventually("the gateway "+when, served)
	m.Eventually("the resolver "+when, named)
	m.Eventually("the gateway's port 7000 "+when, "bash -c '"+piped+"'")
}
