package many_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/load"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// everywhere is one instance on each machine, behind a route.
const everywhere = `name: site
services:
  web:
    image: web:1
    environment: {VERSION: "1"}
    deploy: {mode: global}
    x-ployz:
      routes: [{host: site.test, port: 8080}]
      ready: {http: {path: /healthz, port: 8080}, timeout: 30s}
`

// step is one sentence about a cluster; the next may build on it.
type step struct {
	says string
	test func(*testing.T, *onemachine.Machine)
}

func inOrder(t *testing.T, m *onemachine.Machine, steps []step) {
	for _, s := range steps {
		if !t.Run(s.says, func(t *testing.T) { s.test(t, m.In(t)) }) {
			t.FailNow()
		}
	}
}

// machines are m1, m2 and so on.
func machines(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("m%d", i+1)
	}
	return names
}

// times is how often something is repeated: few times, or many with PLOYZ_TEST_LONG.
func times(few, many int) int {
	if os.Getenv("PLOYZ_TEST_LONG") != "" {
		return many
	}
	return few
}

// found boots a lab and makes one cluster of its machines.
func found(t *testing.T, o dev.Options) *onemachine.Machine {
	t.Helper()
	m := onemachine.StartWith(t, o)
	m.Must("init")
	join(t, m, machines(o.Machines)[1:]...)
	return m
}

// join adds machines, all at once.
func join(t *testing.T, m *onemachine.Machine, hosts ...string) {
	t.Helper()
	outcomes := make([]api.Outcome, len(hosts))
	var all sync.WaitGroup
	for i, host := range hosts {
		all.Go(func() { m.JSON(&outcomes[i], "machine", "add", "dev://"+m.Name+"/"+host) })
	}
	all.Wait()
	for i, out := range outcomes {
		if out.Outcome != api.Committed {
			t.Fatalf("adding %s ended %s: %s %+v", hosts[i], out.Outcome, onemachine.Said(out.Error), out.Leftovers)
		}
	}
}

// members are the machines as one of them lists them.
func members(m *onemachine.Machine) []api.MachineEntry {
	var list []api.MachineEntry
	m.JSON(&list, "machine", "ls")
	return list
}

func namesOf(list []api.MachineEntry) []string {
	var names []string
	for _, m := range list {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

// instancesOf are the instances of site/web, by the machine that has them.
func instancesOf(m *onemachine.Machine) map[string]api.InstanceStatus {
	var list []api.ServiceStatus
	m.JSON(&list, "service", "ls", "site")
	found := map[string]api.InstanceStatus{}
	for _, s := range list {
		for _, in := range s.Instances {
			if s.Service == "web" {
				found[in.Machine] = in
			}
		}
	}
	return found
}

// page asks a machine's gateway from outside.
func page(m *onemachine.Machine, host, name, path string) labtest.Result {
	return m.Try(labtest.Client, "curl", "-sS", "--fail-with-body", "--max-time", "10", "-H", "Host: "+name, "http://"+host+path)
}

// requests ask the gateways of some machines, without a pause.
func requests(hosts ...string) (p load.Plan) {
	for _, h := range hosts {
		p.HTTP = append(p.HTTP, load.HTTP{Name: "gateway of " + h, URL: "http://" + h + "/", Host: "site.test", Want: "version 1", Rate: 20, Fresh: true})
	}
	return p
}

// wantNoneFailed ends a load of which every single request must have been answered.
func wantNoneFailed(t *testing.T, running *labtest.Running) {
	t.Helper()
	sum := running.Stop()
	t.Logf("%d requests in %s, %d failed\n%s", sum.Asked(), sum.Took.Round(time.Second), sum.Failed(), sum)
	if sum.Failed() > 0 {
		t.Errorf("%d of %d requests failed", sum.Failed(), sum.Asked())
	}
}

// facts are the cluster's facts as a machine's own mirror has them.
func facts(m *onemachine.Machine) string { return m.Run(m.Host, onemachine.AgentInside, "facts") }

// awaitAgreement waits until machines have the same facts, and returns them.
func awaitAgreement(t *testing.T, m *onemachine.Machine, hosts ...string) string {
	t.Helper()
	var differ, all string
	agree := func() bool {
		all = facts(m.At(hosts[0]))
		for _, h := range hosts[1:] {
			if differ = onemachine.Differences(all, facts(m.At(h))); differ != "" {
				differ = hosts[0] + " and " + h + ":\n" + differ
				return false
			}
		}
		return true
	}
	begin := time.Now()
	for deadline := begin.Add(30 * time.Second); !agree(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the machines do not agree: %s", differ)
		}
	}
	t.Logf("%s agree on %d facts after %s", strings.Join(hosts, " "), strings.Count(all, "\n")+1, time.Since(begin).Round(10*time.Millisecond))
	return all
}

// wantRefused fails the test unless a command was refused with a code and certain words.
func wantRefused(t *testing.T, r labtest.Result, code api.Code, words ...string) {
	t.Helper()
	if r.Status != 3 {
		t.Errorf("exit status %d, want 3", r.Status)
	}
	for _, word := range append(words, string(code)) {
		if !strings.Contains(r.Err, word) {
			t.Errorf("it does not say %q", word)
		}
	}
	if t.Failed() {
		t.Logf("%s%s", r.Out, r.Err)
	}
}
