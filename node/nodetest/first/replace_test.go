package first_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// TestPackageLife upgrades to a package whose every program is another, under load, then removes
// the package, under load, and at last purges it.
func TestPackageLife(t *testing.T) {
	newer := onemachine.NewerDeb(t, "999")
	m := onemachine.Found(t)
	m.DeployTown()
	m.Copy("m1", newer, "/var/tmp/newer.deb")
	workloads := m.Starts("ployz-workload@*")
	before := m.Status()

	load := m.Bear(onemachine.Outside)
	m.Apt("install", "/var/tmp/newer.deb")
	var s api.Status
	m.Eventually("every program to be the new one", func() bool {
		s = m.AwaitDaemon()
		return s.Daemon.Version == "999" && s.Gateway.Version == "999" && s.DNS.Version == "999"
	})
	time.Sleep(3 * time.Second) // the old ones drain under load, too
	load.PutDown()
	if before.Gateway.PID == s.Gateway.PID || before.DNS.PID == s.DNS.PID {
		t.Errorf("the gateway was %d and is %d, the resolver was %d and is %d", before.Gateway.PID, s.Gateway.PID, before.DNS.PID, s.DNS.PID)
	}
	wantUp(t, m)
	if after := m.Starts("ployz-workload@*"); after != workloads {
		t.Errorf("the upgrade restarted workloads:\n%s\n%s", workloads, after)
	}

	load = m.Bear(onemachine.Outside)
	said := m.Apt("remove", "ployz")
	time.Sleep(2 * time.Second)
	load.PutDown()
	if !strings.Contains(said, "ployz-gateway.service") || !strings.Contains(said, "purge") {
		t.Errorf("remove does not say what keeps running:\n%s", said)
	}
	if after := m.Starts("ployz-workload@*"); after != workloads {
		t.Errorf("removing restarted workloads:\n%s\n%s", workloads, after)
	}

	m.Apt("install", "/var/tmp/newer.deb")
	m.AwaitDaemon()
	wantUp(t, m)
	m.MustDeploy(strings.ReplaceAll(onemachine.Town, `VERSION: "1"`, `VERSION: "2"`))
	wantPage(t, m, "/", "version 2")

	m.Apt("purge", "ployz")
	wantNothingOfOurs(t, m)
}

// wantNothingOfOurs looks everywhere a package, a daemon and its workloads could have left something.
func wantNothingOfOurs(t *testing.T, m *onemachine.Machine) {
	t.Helper()
	left := m.Script("m1", `
		systemctl list-units --all --plain --no-legend 'ployz*'
		find /etc/systemd/system /etc/ployz /run/ployz /usr/lib/ployz /usr/bin -name '*ployz*' 2>/dev/null || true
		find /var/lib/ployz -mindepth 1; ls /var/lib/dpkg/info | grep ployz || true
		awk '$2 ~ "^/(run|var/lib)/ployz/"' /proc/mounts; ip -brief link show type bridge; ip -brief link show type veth | grep -v eth0 || true
		nft list tables; pgrep -a 'ployz|agent' || true`)
	if left != "" {
		t.Errorf("purge left:\n%s", left)
	}
	if got := m.Run("m1", "systemctl", "is-system-running"); got != "running" {
		t.Errorf("after purge the machine is %s", got)
	}
}
