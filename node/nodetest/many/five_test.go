package many_test

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/load"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

func TestFiveMachines(t *testing.T) {
	m := onemachine.StartWith(t, dev.Options{Machines: 5})
	m.Must("init")
	inOrder(t, m, []step{
		{"machines that join at once get subnets of their own", joinAtOnce},
		{"each sees all others", eachSeesAll},
		{"three of them vote", threeVote},
		{"who is to vote and is not there yet is waited for", seatsWait},
		{"an application spreads over them, and its image with it", spreads},
		{"any gateway answers for it", anyGatewayAnswers},
		{"any resolver answers for it", anyResolverAnswers},
		{"any machine tells the logs of every instance", logsFromAnywhere},
		{"any machine runs commands in every instance", execFromAnywhere},
		{"a second coordinator of a namespace is refused", secondCoordinator},
		{"two cut off from three refuse writes, and the three write", threeAgainstTwo},
		{"a drained machine gives its instances up with the next deploy", drained},
		{"a machine that was given up for lost is let in by nobody", givenUp},
		{"machines leave in any order, down to one", leaveInAnyOrder},
	})
}

func joinAtOnce(t *testing.T, m *onemachine.Machine) {
	join(t, m, "m2", "m3", "m4", "m5")
	seen := map[netip.Prefix]string{}
	for _, x := range members(m) {
		for _, subnet := range []netip.Prefix{x.Subnet4, x.Subnet6} {
			if other, taken := seen[subnet]; taken {
				t.Errorf("%s and %s have %s", x.Name, other, subnet)
			}
			seen[subnet] = x.Name
		}
	}
}

func eachSeesAll(t *testing.T, m *onemachine.Machine) {
	all := members(m)
	for _, from := range machines(5) {
		if got := namesOf(members(m.At(from))); !slices.Equal(got, machines(5)) {
			t.Errorf("%s lists %v", from, got)
		}
		for _, to := range all {
			if r := m.Try(from, "bash", "-c", `exec 3<>"/dev/tcp/$0/7480"`, to.Overlay.String()); r.Status != 0 {
				t.Errorf("%s does not reach %s at %s: %s", from, to.Name, to.Overlay, r.Err)
			}
		}
		for _, x := range members(m.At(from)) {
			if x.Seen.State != api.SeenUp && x.Name != from {
				t.Errorf("%s sees %s as %s", from, x.Name, x.Seen.State)
			}
		}
	}
}

func threeVote(t *testing.T, m *onemachine.Machine) {
	for _, host := range machines(5) {
		m.Eventually(host+" to know the voters", func() bool { return len(m.At(host).Status().Cluster.Voters) == 3 })
	}
	awaitAgreement(t, m, machines(5)...)
}

// seatsWait asks for seats while the daemon of one that is to get one is away, as it is until it has joined.
func seatsWait(t *testing.T, m *onemachine.Machine) {
	m.Run("m5", "systemctl", "stop", "ployzd.socket", "ployzd.service")
	voting, cancel := m.Command("store", "voters", "5")
	defer cancel()
	if err := voting.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // while it is away: what is refused at once is refused within that
	m.Run("m5", "systemctl", "start", "ployzd.socket", "ployzd.service")
	if err := voting.Wait(); err != nil {
		t.Errorf("store voters 5: %v", err)
	}
	m.Must("store", "voters", "3")
	threeVote(t, m)
}

func spreads(t *testing.T, m *onemachine.Machine) {
	m.At("m3").Push("web:1", nil) // it leaves, and web:1 is deployed again after that
	m.At("m4").MustDeploy(everywhere)
	for _, host := range machines(5) {
		if in := instancesOf(m.At("m3"))[host]; !in.Ready {
			t.Errorf("the instance on %s: %+v", host, in)
		}
	}
}

func anyGatewayAnswers(t *testing.T, m *onemachine.Machine) {
	for _, host := range machines(5) {
		answers := map[string]bool{}
		m.Eventually(host+"'s gateway to have asked all instances", func() bool {
			answers[page(m, host, "site.test", "/").Out] = true
			return len(answers) == 5
		})
	}
}

func anyResolverAnswers(t *testing.T, m *onemachine.Machine) {
	var want []string
	for _, in := range instancesOf(m) {
		want = append(want, in.Addresses[0].String())
	}
	slices.Sort(want)
	for _, host := range machines(5) {
		got := strings.Fields(m.Run(host, onemachine.AgentInside, "ask", "udp", "127.0.0.55:53", "web.site.ployz.internal", "A"))
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s's resolver answers %v, want %v", host, got, want)
		}
	}
}

func logsFromAnywhere(t *testing.T, m *onemachine.Machine) {
	for _, host := range machines(5) {
		for _, in := range instancesOf(m) {
			got := m.At(host).Must("logs", "site/"+in.Slot)
			if !strings.Contains(got, "serving version 1") || !strings.Contains(got, in.ID) || strings.Count(got, "\n") != 1 {
				t.Errorf("%s tells of %s on %s: %q", host, in.Slot, in.Machine, got)
			}
		}
	}
}

func execFromAnywhere(t *testing.T, m *onemachine.Machine) {
	for _, host := range machines(5) {
		for _, in := range instancesOf(m) {
			r := m.At(host).CtlWith("from "+host, "exec", "-i", in.ID, "--", "/agent", "echo", "exit=7")
			if r.Status != 7 || r.Out != "from "+host {
				t.Errorf("from %s in %s on %s: %+v", host, in.Slot, in.Machine, r)
			}
		}
	}
}

func secondCoordinator(t *testing.T, m *onemachine.Machine) {
	slow := strings.ReplaceAll(everywhere, `VERSION: "1"`, `VERSION: "2", READY: never`)
	first, cancel := m.At("m5").Command("deploy", "-f", m.File("slow.yaml", slow))
	defer cancel()
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	var running []api.OperationSummary
	m.Eventually("the first to run", func() bool {
		m.At("m1").JSON(&running, "operation", "ls", "-n", "1")
		return len(running) == 1 && running[0].State == "running"
	})
	r := m.At("m2").Ctl("deploy", "-f", m.File("compose.yaml", everywhere))
	wantRefused(t, r, api.CodeScopeBusy, running[0].Operation, "by root on m5", "since 20", "ployzctl operation watch")
	if err := first.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	first.Wait() // its exit status is looked at
	if got := first.ProcessState.ExitCode(); got != api.RolledBack.Exit() {
		t.Errorf("the first, cancelled, ended with %d", got)
	}
	if got := page(m, "m1", "site.test", "/"); !strings.Contains(got.Out, "version 1") {
		t.Errorf("after it the gateway answers %+v", got)
	}
}

// threeAgainstTwo leaves two of the three voters on the side of the three.
func threeAgainstTwo(t *testing.T, m *onemachine.Machine) {
	var voters, others []string
	for _, x := range members(m) {
		if x.Voter {
			voters = append(voters, x.Name)
		} else {
			others = append(others, x.Name)
		}
	}
	if len(voters) != 3 || len(others) != 2 {
		t.Fatalf("voters %v, others %v", voters, others)
	}
	s := split{small: []string{voters[2], others[1]}, large: []string{others[0], voters[0], voters[1]}, missing: voters[:2], linger: linger()}
	s.happens(t, m, load.Plan{})
}

func drained(t *testing.T, m *onemachine.Machine) {
	m.At("m1").Must("machine", "drain", "m5")
	if _, still := instancesOf(m)["m5"]; !still {
		t.Error("draining alone moved something")
	}
	m.At("m5").MustDeploy(everywhere)
	if in, still := instancesOf(m)["m5"]; still {
		t.Errorf("m5 still has %+v", in)
	}
}

// givenUp removes a machine that is not lost at all: it lives on with its keys, and knows where the others are.
func givenUp(t *testing.T, m *onemachine.Machine) {
	m1, m5 := member(m, "m1"), member(m, "m5")
	keys := m.Run("m5", "sh", "-c", "tar -C /var/lib/ployz -c keys | base64 -w0")
	m.Script("m1", "mkdir /root/stolen; echo "+keys+" | base64 -d | tar -C /root/stolen -x")
	knock := func(keys string, who api.MachineEntry) string {
		return m.Run("m1", onemachine.AgentInside, "knock", keys, who.ID, m1.Overlay.String())
	}
	if got := knock("/root/stolen/keys", m5); got != "let in" {
		t.Fatalf("a member's keys are %s", got)
	}
	m.Must("machine", "remove", "m5", "--lost")
	if got := knock("/root/stolen/keys", m5); got != "refused" {
		t.Errorf("the removed machine's keys, from a member's address: %s", got)
	}
	if got := knock("/var/lib/ployz/keys", m1); got != "let in" {
		t.Errorf("a member's keys are %s", got)
	}
	knew := facts(m.At("m5"))
	if r := write(m, "after/given-up"); r.Status != 0 {
		t.Errorf("a write without it: %+v", r)
	}
	awaitAgreement(t, m, machines(4)...)
	if diff := onemachine.Differences(knew, facts(m.At("m5"))); diff != "" {
		t.Errorf("the removed machine still learns:\n%s", diff)
	}
	if r := m.Try("m5", "timeout", "3", "bash", "-c", `exec 3<>"/dev/tcp/$0/7480"`, m1.Overlay.String()); r.Status == 0 {
		t.Error("the removed machine reaches m1")
	}
	wantRefused(t, write(m.At("m5"), "from/outside"), api.CodeStoreUnavailable)
}

// member is one machine as m1 lists it.
func member(m *onemachine.Machine, name string) api.MachineEntry {
	list := members(m)
	return list[slices.IndexFunc(list, func(x api.MachineEntry) bool { return x.Name == name })]
}

// leaving is the order in which machines go, and who is asked to remove each. The founder goes, and so does
// every machine that was asked before.
var leaving = []struct{ gone, asked string }{{"m1", "m3"}, {"m3", "m2"}, {"m4", "m2"}}

func leaveInAnyOrder(t *testing.T, m *onemachine.Machine) {
	last := m.At("m2")
	running := m.Load(labtest.Client, requests("m2"))
	book := scribble(t, m, "book", "m2")
	for _, l := range leaving {
		asked, begin := m.At(l.asked), time.Now()
		wantRefused(t, asked.Ctl("machine", "remove", l.gone), api.CodeMachineHolds, "web", "machine drain "+l.gone)
		asked.Must("machine", "drain", l.gone)
		asked.MustDeploy(everywhere)
		asked.Must("machine", "remove", l.gone)
		if slices.Contains(namesOf(members(asked)), l.gone) {
			t.Errorf("%s is still a member", l.gone)
		}
		t.Logf("%s left after %s", l.gone, time.Since(begin).Round(10*time.Millisecond))
	}
	wantNoneFailed(t, running)
	wantKept(t, last, "book", book.end(t))
	for _, l := range leaving {
		m.Eventually(l.gone+" to belong to nobody", func() bool { return outside(m.At(l.gone)) })
	}
	var list []api.CommitSummary
	last.JSON(&list, "history", "site")
	if len(list) != 5 || list[len(list)-1].Number != 1 {
		t.Errorf("history: %+v", list)
	}
	wantUnchanged(t, m, []string{"m2"}, func() { wantRefused(t, last.Ctl("machine", "remove", "m2"), api.CodeMachineLast, "last machine") })
}
