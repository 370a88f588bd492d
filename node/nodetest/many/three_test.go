package many_test

import (
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

func TestThreeMachines(t *testing.T) {
	m := onemachine.StartWith(t, dev.Options{Machines: 4}) // m4 stays outside until it is asked for
	m.Must("init")
	join(t, m, "m2", "m3")
	m.Push("web:1", nil)
	m.MustDeploy(sides)
	inOrder(t, m, []step{
		{"an idle cluster's facts do not grow", idle},
		{"round trips are measured, and what cannot be is named", roundTrips},
		{"two that cannot reach each other talk by a relay that they are given", relayed},
		{"a minority refuses writes and serves on, and the majority writes", minority},
		{"two of three that see nobody refuse both", nobodySees},
		{"a machine that dies moves nothing", death},
		{"what may not join is refused", mayNotJoin},
		{"what may not be removed is refused", mayNotLeave},
		{"a coordinator that slept for longer than its lease commits nothing", asleep},
		{"with ployzd masked everywhere machines come back serving", masked},
	})
}

// sides is everywhere with two services more, which stay on one side each when m1 is cut off.
const sides = everywhere + `  one:
    image: web:1
    environment: {VERSION: "1"}
    x-ployz:
      placement: {machines: [m1]}
      routes: [{host: one.test, port: 8080}]
      ready: {http: {path: /healthz, port: 8080}, timeout: 30s}
  two:
    image: web:1
    environment: {VERSION: "1"}
    x-ployz:
      placement: {machines: [m2]}
      routes: [{host: two.test, port: 8080}]
      ready: {http: {path: /healthz, port: 8080}, timeout: 30s}
`

// onItsSide asks each side for what it has itself: not a single request of these may fail.
var onItsSide = load.Plan{HTTP: []load.HTTP{
	{Name: "one at m1", URL: "http://m1/", Host: "one.test", Want: "version 1", Rate: 20, Fresh: true},
	{Name: "two at m2", URL: "http://m2/", Host: "two.test", Want: "version 1", Rate: 20, Fresh: true},
	{Name: "two at m3", URL: "http://m3/", Host: "two.test", Want: "version 1", Rate: 20, Fresh: true},
}}

// lasting is what there was before, without the tokens that have run out since: nobody wrote that.
func lasting(before, after string) string {
	now := strings.Split(after, "\n")
	return strings.Join(slices.DeleteFunc(strings.Split(before, "\n"), func(line string) bool {
		return strings.HasPrefix(line, "token.") && !slices.Contains(now, line)
	}), "\n")
}

// wantSameFacts fails the test if anything was written.
func wantSameFacts(t *testing.T, before, after string) {
	t.Helper()
	if diff := onemachine.Differences(lasting(before, after), after); diff != "" {
		t.Errorf("facts were written that nobody asked for:\n%s", diff)
	}
}

func idle(t *testing.T, m *onemachine.Machine) {
	before := awaitAgreement(t, m, machines(3)...)
	last := m.Status().Store.Sequence
	time.Sleep(time.Duration(times(5, 120)) * time.Second) // that nothing happens takes time
	wantSameFacts(t, before, awaitAgreement(t, m, machines(3)...))
	if now := m.Status().Store.Sequence; now != last {
		t.Errorf("the stream of facts went from %d to %d", last, now)
	}
}

// linger is long enough for every patience of a store when there is time.
func linger() time.Duration { return time.Duration(times(3, 60)) * time.Second }

// minority cuts m1, the founder, off from m2 and m3.
func minority(t *testing.T, m *onemachine.Machine) {
	split{small: []string{"m1"}, large: []string{"m2", "m3"}, missing: []string{"m2", "m3"}, linger: linger()}.happens(t, m, onItsSide)
	for range 6 { // the instances of the other side are among the choices
		if got := page(m, "m1", "site.test", "/"); !strings.Contains(got.Out, "version 1") {
			t.Errorf("m1's gateway answers %+v", got)
		}
	}
}

// write sets one value.
func write(m *onemachine.Machine, place string) labtest.Result {
	return m.CtlWith("written", "config", "set", place)
}

// refusedWithin is how long a command may take to be refused that needs the leader where there is none.
const refusedWithin = 10 * time.Second

// nobodySees cuts all three off from each other.
func nobodySees(t *testing.T, m *onemachine.Machine) {
	load := m.Load(labtest.Client, load.Plan{HTTP: onItsSide.HTTP[:2]})
	m.Partition("m1", "m2", "m3")
	begin := time.Now() // nobody has noticed yet
	wantRefused(t, write(m, "alone/begun"), api.CodeStoreUnavailable)
	if took := time.Since(begin); took > refusedWithin {
		t.Errorf("a write that was begun right then was refused after %s", took)
	}
	for host, missing := range map[string][]string{"m1": {"m2", "m3"}, "m2": {"m1", "m3"}, "m3": {"m1", "m2"}} {
		m.Eventually(host+" to refuse", func() bool { return write(m.At(host), "alone/"+host).Status == 3 })
		wantRefused(t, write(m.At(host), "alone/"+host), api.CodeStoreUnavailable, missing...)
	}
	m.Heal()
	m.Eventually("all to write", func() bool {
		for _, host := range machines(3) {
			if write(m.At(host), "together/"+host).Status != 0 {
				return false
			}
		}
		return true
	})
	wantNoneFailed(t, load)
	awaitAgreement(t, m, machines(3)...)
	if have := strings.Fields(m.Must("config", "ls", "alone", "-q")); len(have) > 0 {
		t.Errorf("told as refused, and there: %v", have)
	}
}

// death lets a machine that has instances lose its power for longer than any lease or patience.
func death(t *testing.T, m *onemachine.Machine) {
	load := m.Load(labtest.Client, load.Plan{HTTP: onItsSide.HTTP[:1]})
	before, had := awaitAgreement(t, m, machines(3)...), instancesOf(m)
	m.Cut("m3")
	time.Sleep(time.Duration(times(10, 120)) * time.Second) // that nothing happens takes time
	wantSameFacts(t, before, awaitAgreement(t, m, "m1", "m2"))
	now := instancesOf(m)
	for host, in := range had {
		if now[host].ID != in.ID {
			t.Errorf("on %s there was %s, and is %+v", host, in.ID, now[host])
		}
	}
	if now["m3"].Ready {
		t.Errorf("the instance on the dead machine: %+v", now["m3"])
	}
	wantNoneFailed(t, load)
	m.Boot("m3")
	m.Eventually("m3 to serve again", func() bool { return page(m, "m3", "site.test", "/").Status == 0 })
	wantSameFacts(t, before, awaitAgreement(t, m, machines(3)...))
}

// masked kills every ployzd for good and then boots machines as after a power cut.
func masked(t *testing.T, m *onemachine.Machine) {
	before := awaitAgreement(t, m, machines(3)...)
	for _, host := range machines(3) {
		m.Script(host, "systemctl mask --now ployzd.service ployzd.socket; sync")
	}
	outage := func(hosts ...string) {
		for _, host := range hosts {
			m.Cut(host)
		}
		for _, host := range hosts {
			m.Boot(host)
		}
		servesWithoutDaemon(t, m)
		wantSameFacts(t, before, awaitAgreement(t, m, machines(3)...))
	}
	load := m.Load(labtest.Client, load.Plan{HTTP: onItsSide.HTTP[:1]})
	outage("m2")
	wantNoneFailed(t, load)
	outage(machines(3)...)
	for _, host := range machines(3) {
		m.Script(host, "systemctl unmask ployzd.service ployzd.socket; systemctl start ployzd.socket ployzd.service")
		m.At(host).AwaitDaemon()
	}
	m.Eventually("writes", func() bool { return write(m, "after/outage").Status == 0 })
}

// servesWithoutDaemon asks every gateway for every instance, over the mesh, and every resolver.
func servesWithoutDaemon(t *testing.T, m *onemachine.Machine) {
	t.Helper()
	for _, host := range machines(3) {
		answers := map[string]bool{}
		m.Eventually(host+"'s gateway to ask all three instances", func() bool {
			if r := page(m, host, "site.test", "/"); r.Status == 0 {
				answers[r.Out] = true
			}
			return len(answers) == 3
		})
		got := m.Run(host, onemachine.AgentInside, "ask", "udp", "127.0.0.55:53", "web.site.ployz.internal", "A")
		if len(strings.Fields(got)) != 3 {
			t.Errorf("%s's resolver answers %q", host, got)
		}
		if r := m.Try(host, "systemctl", "is-active", "ployzd.service"); r.Status == 0 {
			t.Errorf("ployzd runs on %s", host)
		}
	}
}
