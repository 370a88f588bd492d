package many_test

import (
	"encoding/json"
	"os"
	"path/filepath"
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

// pinned is a service on one machine only, beside everywhere.
func pinned(host string) string {
	return everywhere + `  own:
    image: web:1
    environment: {VERSION: "1"}
    x-ployz:
      placement: {machines: [` + host + `]}
      routes: [{host: own.test, port: 8080}]
      ready: {http: {path: /healthz, port: 8080}, timeout: 30s}
`
}

// own asks machines' gateways for the service that is on one machine.
func own(hosts ...string) (p load.Plan) {
	for _, h := range hosts {
		p.HTTP = append(p.HTTP, load.HTTP{Name: "own at " + h, URL: "http://" + h + "/", Host: "own.test", Want: "version 1", Rate: 20, Fresh: true})
	}
	return p
}

// ofNamespaces are the facts that are not about machines, leases and who began what.
func ofNamespaces(facts string) string {
	var kept strings.Builder
	for line := range strings.Lines(facts) {
		if !slices.ContainsFunc([]string{"cluster ", "machine", "sharedkey", "open.", "lease.", "token."}, func(p string) bool { return strings.HasPrefix(line, p) }) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// formed runs an operation that forms the store anew, and wants it to end well in a generation.
func formed(t *testing.T, m *onemachine.Machine, generation uint64, args ...string) {
	t.Helper()
	var out api.Outcome
	m.JSON(&out, append([]string{"store"}, args...)...)
	var r api.RestoreResult
	if err := json.Unmarshal(out.Value, &r); err != nil || out.Outcome != api.Committed || r.Generation != generation {
		t.Fatalf("it ended %s in generation %d, %v: %s %+v", out.Outcome, r.Generation, err, onemachine.Said(out.Error), out.Leftovers)
	}
	t.Logf("store %s took %s", args[0], time.Duration(out.Took).Round(100*time.Millisecond))
}

// set sets a value of site.
func set(t *testing.T, m *onemachine.Machine, kind, place string) {
	t.Helper()
	if r := m.CtlWith("value", kind, "set", place); r.Status != 0 {
		t.Fatalf("%s %s: %+v", kind, place, r)
	}
}

// awaitSure waits until everything that serves on machines says that it serves what is so.
func awaitSure(m *onemachine.Machine, hosts ...string) {
	for _, host := range hosts {
		m.Eventually(host+" to be sure of itself", func() bool {
			s := m.At(host).Status()
			return !s.Store.Uncertain && !s.Gateway.Uncertain && !s.DNS.Uncertain
		})
	}
}

// wantServedOn wants nothing that serves to have been started since; ployzd and the store's core may have been.
func wantServedOn(t *testing.T, before, after string) {
	t.Helper()
	for line := range strings.Lines(onemachine.Differences(before+"\n", after+"\n")) {
		if !strings.Contains(line, "Id=ployzd.") && !strings.Contains(line, "Id=ployz-nats-core.") {
			t.Errorf("restarted: %s", line)
		}
	}
}

// digestIn finds a shown plan's digest.
func digestIn(t *testing.T, shown string) string {
	t.Helper()
	words := strings.Fields(shown[strings.LastIndex(shown, "plan "):])
	if len(words) < 2 {
		t.Fatalf("no plan in %s", shown)
	}
	return words[1]
}

// TestRestore takes a backup, goes back to it on a member while everything serves, and then restores it on a blank
// machine while the old side is gone.
func TestRestore(t *testing.T) {
	m := onemachine.StartWith(t, dev.Options{Machines: 3})
	m.Must("init")
	join(t, m, "m2")
	m.Push("web:1", nil)
	m.MustDeploy(pinned("m2"))
	file, then := filepath.Join(t.TempDir(), "backup"), ""
	inOrder(t, m, []step{
		{"a backup is taken, and life goes on", func(t *testing.T, m *onemachine.Machine) {
			set(t, m, "config", "site/before")
			set(t, m, "secret", "site/pass")
			then = ofNamespaces(awaitAgreement(t, m, machines(2)...))
			m.At("m2").Must("store", "backup", file)
			set(t, m, "config", "site/after")
		}},
		{"what is no backup is refused", func(t *testing.T, m *onemachine.Machine) { refusesOthers(t, m, file) }},
		{"a member goes back to it, and nothing that serves notices", func(t *testing.T, m *onemachine.Machine) {
			load, starts := m.Load(labtest.Client, own(machines(2)...)), m.Starts("ployz-*")
			shown := m.Must("store", "restore", file, "--preview")
			wantRefused(t, m.Ctl("store", "restore", file, "--abandon", "m2"), api.CodeStoreNotRescuable, "m2 answers")
			formed(t, m, 2, "restore", file, "--plan", digestIn(t, shown))
			wantNoneFailed(t, load)
			wantServedOn(t, starts, m.Starts("ployz-*"))
			if diff := onemachine.Differences(then, ofNamespaces(awaitAgreement(t, m, machines(2)...))); diff != "" {
				t.Errorf("other facts than in the backup:\n%s", diff)
			}
			awaitSure(m, machines(2)...)
			wantRefused(t, m.Ctl("store", "restore", file), api.CodeStoreNotRescuable, "--again")
			m.MustDeploy(pinned("m1")) // it can be worked with
			m.MustDeploy(pinned("m2"))
		}},
		{"a blank machine becomes the one that is gone", func(t *testing.T, m *onemachine.Machine) {
			for _, host := range machines(2) {
				m.Cut(host)
			}
			m3 := m.At("m3")
			before := m3.World()
			wantRefused(t, m3.Ctl("store", "restore", file), api.CodeStoreNotRescuable, "--abandon m1")
			if diff := onemachine.Differences(before, m3.World()); diff != "" {
				t.Errorf("a refused restore changed:\n%s", diff)
			}
			formed(t, m3, 2, "restore", file, "--abandon", "m1") // it was taken on m2
			if diff := onemachine.Differences(then, ofNamespaces(facts(m3))); diff != "" {
				t.Errorf("other facts than in the backup:\n%s", diff)
			}
			if got := namesOf(members(m3)); !slices.Equal(got, []string{"m2"}) {
				t.Errorf("members: %v", got)
			}
			m3.Push("web:1", nil)
			set(t, m3, "secret", "site/pass")
			m3.MustDeploy(pinned("m2"))
			if got := page(m3, "m3", "own.test", "/"); !strings.Contains(got.Out, "version 1") {
				t.Errorf("its gateway answers %+v", got)
			}
			m3.Run("m3", "systemctl", "restart", "ployzd")
			m3.AwaitDaemon()
			m3.Must("store", "verify")
		}},
	})
}

// refusesOthers tries what is cut short, what is something else, and what has another digest than the operator has.
func refusesOthers(t *testing.T, m *onemachine.Machine, file string) {
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wantUnchanged(t, m, machines(3), func() {
		for _, host := range []string{"m1", "m3"} { // a member, and one that is in no cluster
			m := m.At(host)
			wantRefused(t, m.Ctl("store", "restore", m.File("short", string(whole[:len(whole)/2]))), api.CodeStoreBackupDamaged)
			wantRefused(t, m.Ctl("store", "restore", m.File("none", "nothing")), api.CodeStoreBackupForeign)
			wantRefused(t, m.Ctl("store", "restore", file, "--digest", "sha256:"+strings.Repeat("0", 64)), api.CodeStoreBackupDamaged, "digest")
		}
	})
}

// threeVoters is a cluster of four machines, of which m4 does not vote: seats are taken in the order of joining.
func threeVoters(t *testing.T) *onemachine.Machine {
	t.Helper()
	m := onemachine.StartWith(t, dev.Options{Machines: 4})
	m.Must("init")
	for _, host := range machines(4)[1:] {
		join(t, m, host)
	}
	return m
}

// TestReform loses all three voters of four machines for good; the fourth goes on from its own copy, also when its
// ployzd is killed amid that.
func TestReform(t *testing.T) {
	m := threeVoters(t)
	m.Push("web:1", nil)
	m.MustDeploy(pinned("m4"))
	then := ofNamespaces(awaitAgreement(t, m, machines(4)...))
	m4 := m.At("m4")
	wantRefused(t, m4.Ctl("store", "reform"), api.CodeStoreNotRescuable, "a majority of the voters is there")
	load, starts := m.Load(labtest.Client, own("m4")), m4.Starts("ployz-*")
	for _, host := range machines(3) {
		m.Cut(host)
	}
	m.Eventually("writes to stop", func() bool { return write(m4, "none/left").Status == 3 })
	wantRefused(t, m4.Ctl("store", "recover", "--abandon", "m1,m2,m3"), api.CodeStoreNotRescuable, "store reform --abandon m1,m2,m3")
	wantRefused(t, m4.Ctl("store", "reform", "--abandon", "m1,m2"), api.CodeStoreNotRescuable, "m3 does not answer")
	killedAmid(t, m4, "store", "reform", "--abandon", "m1,m2,m3")
	formed(t, m4, 2, "reform", "--abandon", "m1,m2,m3")
	if diff := onemachine.Differences(then, ofNamespaces(facts(m4))); diff != "" {
		t.Errorf("other facts than before:\n%s", diff)
	}
	awaitSure(m4, "m4")
	m4.Push("web:1", nil) // its name was known on m1
	m4.MustDeploy(pinned("m4"))
	wantNoneFailed(t, load)
	wantServedOn(t, starts, m4.Starts("ployz-*"))
	oldSideStaysOut(t, m4)
}

// killedAmid kills the ployzd that forms the store anew, once it has begun to change something.
func killedAmid(t *testing.T, m *onemachine.Machine, args ...string) {
	t.Helper()
	cmd, cancel := m.Command(args...)
	defer cancel()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.Eventually("the core to be founded", func() bool { return m.Try(m.Host, "test", "-e", "/var/lib/ployz/nats/aside/machine.json").Status == 0 })
	m.KillDaemon()
	cmd.Wait() // what it says of the broken connection is its own affair
	m.AwaitDaemon()
}

// oldSideStaysOut lets the old voters come back, all three of them: they are a majority of a store that is no more.
func oldSideStaysOut(t *testing.T, m *onemachine.Machine) {
	before := ofNamespaces(facts(m))
	for _, host := range machines(3) {
		m.Boot(host)
	}
	for _, host := range machines(3) {
		m.At(host).AwaitDaemon()
	}
	m.Eventually("the old side to write", func() bool { return write(m.At("m1"), "old/side").Status == 0 })
	if diff := onemachine.Differences(before, ofNamespaces(facts(m))); diff != "" {
		t.Errorf("the new generation learned from the old side:\n%s", diff)
	}
	if got := namesOf(members(m)); !slices.Equal(got, []string{"m4"}) {
		t.Errorf("members: %v", got)
	}
	m.Must("store", "verify")
}

// TestVoterBehind leaves a voter that was off when the last facts were written, and a machine without a vote that has
// them.
func TestVoterBehind(t *testing.T) {
	m := threeVoters(t)
	m.Push("web:1", nil)
	m.MustDeploy(pinned("m4"))
	m.Cut("m3")
	m.Eventually("a write without m3", func() bool { return write(m, "late/news").Status == 0 })
	then := ofNamespaces(awaitAgreement(t, m, "m1", "m2", "m4"))
	m.Cut("m1")
	m.Cut("m2")
	m.Boot("m3")
	m3, m4 := m.At("m3"), m.At("m4")
	m3.AwaitDaemon()
	load := m.Load(labtest.Client, own("m4"))
	m.Eventually("m3 to see m4", func() bool {
		return strings.Contains(m3.Ctl("store", "recover", "--abandon", "m1,m2").Err, "ssh://root@m4 store reform --abandon m1,m2")
	})
	wantRefused(t, m3.Ctl("store", "reform", "--abandon", "m1,m2"), api.CodeStoreNotRescuable, "ssh://root@m4 store reform --abandon m1,m2")
	formed(t, m4, 2, "reform", "--abandon", "m1,m2")
	if diff := onemachine.Differences(then, ofNamespaces(awaitAgreement(t, m4, "m3", "m4"))); diff != "" {
		t.Errorf("other facts than before:\n%s", diff)
	}
	m4.Must("store", "voters", "2")
	m4.Must("store", "verify")
	m.Eventually("m3 to write", func() bool { return write(m3, "from/m3").Status == 0 })
	wantNoneFailed(t, load)
}
