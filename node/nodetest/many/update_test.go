package many_test

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// the package that machines are updated to, and one that is too far ahead.
const (
	nextVersion   = "0.2.0"
	tooFarVersion = "0.3.0"
)

// TestUpdate updates three machines, all of which vote, while every gateway is asked all the time. The update fails
// on one of them at first.
func TestUpdate(t *testing.T) {
	m := found(t, dev.Options{Machines: 3})
	m.Push("web:1", nil)
	m.MustDeploy(everywhere)
	next, tooFar := onemachine.NewerDeb(t, nextVersion), onemachine.RenamedDeb(t, tooFarVersion)
	before := versions(m)
	load := m.Load(labtest.Client, requests(machines(3)...))
	had := instancesOf(m)
	inOrder(t, m, []step{
		{"what is no package, or two minor versions ahead, is refused", func(t *testing.T, m *onemachine.Machine) {
			wantRefused(t, m.Ctl("machine", "update"), api.CodePackageAbsent)
			wantRefused(t, m.Ctl("machine", "update", "--package", m.File("no.deb", "no package")), api.CodePackageInvalid)
			wantRefused(t, m.Ctl("machine", "update", "--package", tooFar), api.CodeMachineVersion, "m1", "m2", "m3")
		}},
		{"a preview shows the order, and changes nothing", func(t *testing.T, m *onemachine.Machine) { previewed(t, m, next, before) }},
		{"the first machine that fails stops the rest", func(t *testing.T, m *onemachine.Machine) { stopped(t, m, next, before["m1"]) }},
		{"the update goes on, and ends with the machine that is asked", wentOn},
	})
	wantNoneFailed(t, load)
	for host, in := range instancesOf(m) {
		if was := had[host]; in.PID != was.PID || in.ID != was.ID || in.PID == 0 {
			t.Errorf("on %s %s had process %d, and it is %s with %d", host, was.ID, was.PID, in.ID, in.PID)
		}
	}
	awaitAgreement(t, m, machines(3)...)
}

// versions are the daemons' on all machines.
func versions(m *onemachine.Machine) map[string]string {
	found := map[string]string{}
	for _, host := range machines(3) {
		found[host] = m.At(host).Status().Daemon.Version
	}
	return found
}

func previewed(t *testing.T, m *onemachine.Machine, deb string, before map[string]string) {
	var plan api.Plan
	m.JSON(&plan, "machine", "update", "--package", deb, "--preview")
	var order []string
	for _, c := range plan.Changes {
		order = append(order, c.Machine)
		if c.From != before[c.Machine] || c.To != nextVersion || !strings.Contains(c.Reason, "the store's core") {
			t.Errorf("the plan says %+v", c)
		}
	}
	if got := strings.Join(order, " "); got != "m2 m3 m1" {
		t.Errorf("in the order %s", got)
	}
	for host, version := range versions(m) {
		if version != before[host] {
			t.Errorf("%s runs %s", host, version)
		}
	}
}

// spoilt is what makes dpkg fail.
const spoilt = "/etc/dpkg/dpkg.cfg.d/spoilt"

func stopped(t *testing.T, m *onemachine.Machine, deb, before string) {
	m.Script("m3", "mkdir -p /etc/dpkg/dpkg.cfg.d && echo no-such-option > "+spoilt)
	r := m.Ctl("machine", "update", "--package", deb)
	m.Script("m3", "rm "+spoilt)
	for _, want := range []string{"update m3", "no-such-option", string(api.CodePackageFailed), "update m1", string(api.CodeMachineNotBegun), "ployzctl machine update"} {
		if !strings.Contains(r.Out+r.Err, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if now := versions(m); r.Status != 7 || now["m2"] != nextVersion || now["m3"] != before || now["m1"] != before {
		t.Errorf("exit status %d, the machines run %v\n%s%s", r.Status, now, r.Out, r.Err)
	}
	if r := write(m, "mixed/value"); r.Status != 0 { // N beside N+1
		t.Errorf("while versions are mixed: %+v", r)
	}
}

func wentOn(t *testing.T, m *onemachine.Machine) {
	if out := committed(t, m, "machine", "update"); !strings.Contains(string(out.Value), `"m1"`) {
		t.Errorf("it updated %s", out.Value)
	}
	for host, version := range versions(m) {
		if version != nextVersion {
			t.Errorf("%s runs %s", host, version)
		}
	}
	committed(t, m, "machine", "update") // nothing is left to do
}
