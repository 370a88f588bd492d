package first_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ployz/ployz/metrics"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// TestMetrics: in its own unit, with all that the unit takes away, each program tells its figures on the overlay
// address, to machines and not to workloads, and goes on with ployzd dead.
func TestMetrics(t *testing.T) {
	m := onemachine.Found(t)
	overlay := m.Status().Machine.Addresses[0]
	for _, p := range metrics.Programs() {
		m.Eventually(string(p)+" tells who it is", func() bool { return strings.Contains(tells(m, overlay, p), fmt.Sprintf("program=%q", p)) })
	}
	if page := tells(m, overlay, metrics.Daemon); !strings.Contains(page, `ployz_operations_total{kind="machine.init",outcome="committed"} 1`) {
		t.Errorf("the founding is not counted:\n%s", page)
	}
	deploySite(m)
	if page := tells(m, overlay, metrics.Daemon); !strings.Contains(page, `ployz_workloads{state="running"} 1`) {
		t.Errorf("the instance is not counted:\n%s", page)
	}
	workload := fmt.Sprintf("nsenter --net --target %d ", instances(t, m, "site")[0].PID)
	for _, p := range metrics.Programs() {
		if got := m.Script("m1", workload+"curl -sg -m 1 '"+pageOf(overlay, p)+"' >/dev/null && echo read || echo kept out"); got != "kept out" {
			t.Errorf("a workload and the metrics of %s: %s", p, got)
		}
	}
	m.Script("m1", "systemctl stop ployzd.socket ployzd.service")
	defer m.Script("m1", "systemctl start ployzd.socket ployzd.service")
	for _, p := range metrics.Programs() {
		if alive := tells(m, overlay, p) != ""; alive != (p != metrics.Daemon) {
			t.Errorf("with ployzd dead, %s answers: %v", p, alive)
		}
	}
	if where := m.Script("m1", `ss -Hltn | awk '{print $4}' | grep -E ':749[0-9]$' | grep -vF '[`+overlay.String()+`]:' || true`); where != "" {
		t.Errorf("metrics are listened for elsewhere: %s", where)
	}
}

// tells is our part of a program's page, "" where nobody answers.
func tells(m *onemachine.Machine, overlay netip.Addr, p metrics.Program) string {
	return m.Script("m1", "curl -sg -m 10 '"+pageOf(overlay, p)+"' | grep ^ployz_ || true")
}

func pageOf(overlay netip.Addr, p metrics.Program) string {
	return "http://" + netip.AddrPortFrom(overlay, p.Port()).String() + "/metrics"
}
