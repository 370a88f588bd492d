package first_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// TestStoreAway stops the store under load: what serves goes on and says what it does not know,
// and nobody can change anything.
func TestStoreAway(t *testing.T) {
	m := onemachine.Found(t)
	m.DeployTown()
	before := m.Starts("ployz-workload@*")
	load := m.Bear(onemachine.Calls)
	m.Run("m1", "systemctl", "stop", "ployz-nats", "ployz-nats-core")
	m.Eventually("status to say so", func() bool {
		s := m.Status()
		return s.Store.State != api.StateUp && s.Gateway.Uncertain && s.DNS.Uncertain
	})
	if text := m.Ctl("status"); !strings.Contains(text.Out, "uncertain") {
		t.Errorf("status: %s%s", text.Out, text.Err)
	}
	r := m.Ctl("deploy", "-f", m.File("compose.yaml", strings.ReplaceAll(onemachine.Town, `"1"`, `"2"`)))
	if r.Status != 3 || !strings.Contains(r.Err, string(api.CodeStoreUnavailable)) {
		t.Errorf("a deploy without a store: exit status %d\n%s%s", r.Status, r.Out, r.Err)
	}
	if r := m.Ctl("service", "ls", "site"); r.Status != 0 || !strings.Contains(r.Out, "site/web") || !strings.Contains(r.Err, "uncertain") {
		t.Errorf("service ls without a store: %+v", r)
	}
	// They begin with the last good view that they have on disk.
	m.Run("m1", "systemctl", "restart", "ployz-gateway", "ployz-dns")
	m.KillDaemon()
	time.Sleep(time.Second)
	m.Run("m1", "systemctl", "start", "ployz-nats-core", "ployz-nats")
	awaitUp(t, m)
	load.PutDown()
	if after := m.Starts("ployz-workload@*"); after != before {
		t.Errorf("workloads were restarted:\n%s\n%s", before, after)
	}
	m.MustDeploy(strings.ReplaceAll(onemachine.Town, `VERSION: "1"`, `VERSION: "2"`))
	wantPage(t, m, "/", "version 2")
}
