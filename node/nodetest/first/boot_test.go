package first_test

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// TestPowerCut cuts the power of a machine whose ployzd cannot start any more: it comes back
// serving its last good state. Then ployzd may start again, and finds everything well.
func TestPowerCut(t *testing.T) {
	m := onemachine.Found(t)
	deploySite(m)
	if err := dev.PowerCut(m.Name, "m1"); err != nil {
		t.Fatal(err)
	}
	if err := dev.Boot(t.Context(), m.Name, "m1"); err != nil {
		t.Fatal(err)
	}
	wantServedAfterBoot(t, m)

	m.Run("m1", "systemctl", "mask", "--now", "ployzd.service", "ployzd.socket")
	m.Run("m1", "sync")
	if err := dev.PowerCut(m.Name, "m1"); err != nil {
		t.Fatal(err)
	}
	if err := dev.Boot(t.Context(), m.Name, "m1"); err != nil {
		t.Fatal(err)
	}
	if r := m.Try("m1", "systemctl", "is-active", "ployzd.service", "ployzd.socket"); strings.Contains("\n"+r.Out, "\nactive") {
		t.Fatalf("ployzd runs although it is masked: %s", r.Out)
	}
	wantServedAfterBoot(t, m)
	m.Run("m1", "systemctl", "unmask", "ployzd.service", "ployzd.socket")
	starts := m.Starts("ployz-workload@*")
	m.Run("m1", "systemctl", "start", "ployzd.socket", "ployzd.service")
	m.AwaitDaemon()
	awaitUp(t, m)
	if after := m.Starts("ployz-workload@*"); after != starts {
		t.Errorf("starting ployzd restarted workloads:\n%s\n%s", starts, after)
	}
	m.MustDeploy(version("2"))
	wantPage(t, m, "/", "version 2")

	if err := dev.Reboot(t.Context(), m.Name, "m1"); err != nil {
		t.Fatal(err)
	}
	m.Eventually("the new version after a reboot", func() bool { return strings.Contains(get(m, "/").Out, "version 2") })
}

// wantServedAfterBoot asks for everything that the application is made of.
func wantServedAfterBoot(t *testing.T, m *onemachine.Machine) {
	t.Helper()
	m.Eventually("the gateway to answer after the boot", func() bool { return get(m, "/").Status == 0 })
	wantPage(t, m, "/", "version 1")
	wantPage(t, m, "/file?path=/run/secrets/token", "s3cret")
	wantPage(t, m, "/file?path=/etc/motd", "motd of 1")
	if got := m.Run("m1", onemachine.AgentInside, "ask", "udp", "127.0.0.55:53", "web.site.ployz.internal", "A"); !strings.HasPrefix(got, "10.101.") {
		t.Errorf("the resolver answers %q", got)
	}
	r := m.Try(labtest.Client, "bash", "-c", `exec 3<>/dev/tcp/m1/7000; echo hello >&3; read -r -t 10 line <&3; echo "$line"`)
	if r.Out != "hello\n" {
		t.Errorf("through the gateway's port 7000: %+v", r)
	}
}
