package first_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// anyVersion is town as fromClient wants it, whatever follows the 1.
func anyVersion(v string) string {
	return strings.ReplaceAll(onemachine.Town, `VERSION: "1"`, `VERSION: "1-`+v+`"`)
}

// TestUpdateUnderLoad deploys, scales, restarts and rolls back an application that is asked all
// the time. The long connections end with the instances that they are to, so they are left out.
func TestUpdateUnderLoad(t *testing.T) {
	m := onemachine.Found(t)
	m.DeployTown()
	client, machine := m.Load("client", onemachine.Calls), m.Load("m1", m.Queries())
	for range times(1, 10) {
		m.MustDeploy(anyVersion("b"))
		m.MustDeploy(anyVersion("c"))
		m.Must("rollback", "site")
		m.Must("service", "scale", "site/web", "3")
		m.Must("service", "restart", "site/web")
		m.Must("service", "scale", "site/web", "1")
	}
	time.Sleep(time.Second)
	for _, r := range []*labtest.Running{client, machine} {
		if report := r.Stop(); report.Failed() > 0 {
			t.Errorf("%d of %d requests failed\n%s", report.Failed(), report.Asked(), report)
		} else {
			t.Log(report)
		}
	}
	wantPage(t, m, "/", "version 1-b")
}

// TestDeployInterrupted kills ployzd at random moments of deploys. Each is then shown as
// interrupted, or got through, and the next deploy makes the namespace whole.
func TestDeployInterrupted(t *testing.T) {
	m := onemachine.Found(t)
	m.DeployTown()
	random := chance(t)
	client := m.Load("client", onemachine.Calls)
	interrupted := 0
	for range times(5, 50) {
		cmd, cancel := m.Command("deploy", "-q", "-f", m.File("compose.yaml", anyVersion(time.Now().Format("150405.000"))))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(2500 * time.Millisecond)))) // any moment is a good one
		m.KillDaemon()
		cmd.Wait() // whatever became of it, the ledger says
		cancel()
		m.AwaitDaemon()
		var list []api.OperationSummary
		m.JSON(&list, "operation", "ls", "-n", "1")
		t.Logf("%s %s: %s", list[0].Operation, list[0].Kind, list[0].State)
		if list[0].State == "running" {
			t.Errorf("%s is said to run, and its coordinator was killed", list[0].Operation)
		}
		if list[0].State == string(api.Interrupted) {
			interrupted++
			wantResolved(t, m, list[0].Operation)
		}
	}
	m.MustDeploy(anyVersion("end"))
	if report := client.Stop(); report.Failed() > 0 {
		t.Errorf("%d of %d requests failed\n%s", report.Failed(), report.Asked(), report)
	}
	wantPage(t, m, "/", "version 1-end")
	wantWhole(t, m)
	t.Logf("%d deploys were interrupted", interrupted)
}

// wantResolved deploys again and wants the ledger to say that this dealt with the interrupted one.
func wantResolved(t *testing.T, m *onemachine.Machine, operation string) {
	t.Helper()
	if r := m.Ctl("operation", "show", operation); r.Status != 0 || !strings.Contains(r.Out, "interrupted") {
		t.Errorf("operation show of an interrupted one: %+v", r)
	}
	out := m.MustDeploy(anyVersion("again"))
	var detail api.OperationDetail
	m.JSON(&detail, "operation", "show", operation)
	if detail.ResolvedBy != out.Operation {
		t.Errorf("%s is %s, resolved by %q, want by %s", operation, detail.State, detail.ResolvedBy, out.Operation)
	}
}

// wantWhole compares what the namespace's commit says with what there is in the machine.
func wantWhole(t *testing.T, m *onemachine.Machine) {
	t.Helper()
	var list []api.ServiceStatus
	m.JSON(&list, "service", "ls", "site")
	var want []string
	for _, s := range list {
		for _, in := range s.Instances {
			want = append(want, in.ID)
		}
	}
	units := m.Script("m1", `systemctl list-units --plain --no-legend --all 'ployz-workload@*' | cut -d' ' -f1; ls /var/lib/ployz/workloads`)
	if got := len(strings.Fields(units)); got != 2*len(want) {
		t.Errorf("the commit has the instances %v, the machine has:\n%s", want, units)
	}
	for _, id := range want {
		if strings.Count(units, id) != 2 {
			t.Errorf("the machine lacks %s:\n%s", id, units)
		}
	}
}
