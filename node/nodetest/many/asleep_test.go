package many_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// slowly is one instance on m2, which is ready only after a while.
const slowly = `name: slowly
services:
  web:
    image: web:1
    environment: {VERSION: "first", READY: 15s}
    x-ployz:
      placement: {machines: [m2]}
      routes: [{host: slowly.test, port: 8080}]
      ready: {http: {path: /healthz, port: 8080}, timeout: 60s}
`

// leaseTTL is how long a scope stays held by a coordinator that is not to be heard of.
const leaseTTL = 30 * time.Second

// asleep stops m3's ployzd in the middle of a deploy until its lease is over and another deploy has committed.
// Then it wakes up, in the belief that the scope is still its own.
func asleep(t *testing.T, m *onemachine.Machine) {
	testenv.Require(t, testenv.Long)
	sleeper, cancel := m.At("m3").Command("deploy", "-f", m.File("first.yaml", slowly))
	defer cancel()
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	m.Eventually("its instance to run", func() bool { return m.Try("m2", "systemctl", "is-active", "ployz-workload@slowly*").Status == 0 })
	m.Run("m3", "systemctl", "kill", "--signal=STOP", "ployzd")
	second := strings.NewReplacer("first", "second", ", READY: 15s", "").Replace(slowly)
	wantRefused(t, m.At("m2").Ctl("deploy", "-f", m.File("second.yaml", second)), api.CodeScopeBusy, "on m3")
	time.Sleep(leaseTTL)
	var out api.Outcome
	m.Eventually("the scope to be free", func() bool {
		out = m.At("m2").Deploy(second)
		return out.Outcome != api.Refused
	})
	if out.Outcome != api.Committed && out.Outcome != api.CommittedLeftovers {
		t.Fatalf("the second deploy ended %s: %s", out.Outcome, onemachine.Said(out.Error))
	}
	m.Run("m3", "systemctl", "kill", "--signal=CONT", "ployzd")
	sleeper.Wait() // its exit status is looked at
	if got := sleeper.ProcessState.ExitCode(); got == api.Committed.Exit() {
		t.Error("the coordinator that slept was told that it committed")
	}
	var list []api.CommitSummary
	m.JSON(&list, "history", "slowly")
	if len(list) != 1 || list[0].Operation != out.Operation {
		t.Errorf("history: %+v", list)
	}
	if got := page(m, "m1", "slowly.test", "/"); !strings.Contains(got.Out, "version second") {
		t.Errorf("the gateway answers %+v", got)
	}
}
