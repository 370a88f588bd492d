package many_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/mesh"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// wantUnchanged does something that must leave the worlds of machines as they were.
func wantUnchanged(t *testing.T, m *onemachine.Machine, hosts []string, do func()) {
	t.Helper()
	before := map[string]string{}
	for _, host := range hosts {
		before[host] = m.At(host).World()
	}
	do()
	for _, host := range hosts {
		after := m.At(host).World()
		if diff := onemachine.Differences(lasting(before[host], after), after); diff != "" {
			t.Errorf("on %s it changed:\n%s", host, diff)
		}
	}
}

// token invites a machine over m1.
func token(m *onemachine.Machine) string { return strings.TrimSpace(m.Must("machine", "token")) }

// forged is a token that was changed by somebody who knows its form.
func forged(t *testing.T, text string, change func(*machine.TokenText)) string {
	t.Helper()
	token, err := machine.DecodeToken(text)
	if err != nil {
		t.Fatal(err)
	}
	change(&token)
	if text, err = token.Encode(); err != nil {
		t.Fatal(err)
	}
	return text
}

// meshKey is one that nobody has.
func meshKey() string { return mesh.GenerateKey().Public().String() }

// mayNotJoin has m4 ask in every way that is refused, and once rightly.
func mayNotJoin(t *testing.T, m *onemachine.Machine) {
	m4, text := m.At("m4"), token(m)
	wide := []string{"m1", "m4"}
	t.Run("under a name that is taken", func(t *testing.T) {
		wantUnchanged(t, m.In(t), wide, func() {
			wantRefused(t, m4.Ctl("join", "--token", text, "--name", "m2"), api.CodeMachineNameTaken, "machine m2")
		})
	})
	for _, way := range []dev.Direction{dev.To, dev.From} {
		t.Run("with UDP blocked, only "+string(way), func(t *testing.T) {
			m.Block("m4", "udp", way)
			wantUnchanged(t, m.In(t), wide, func() {
				wantRefused(t, m4.Ctl("join", "--token", text), api.CodeTokenUnreachable, "51820", map[dev.Direction]string{
					dev.To: "UDP from it to this machine is blocked", dev.From: "UDP from this machine to it is blocked",
				}[way])
			})
			// Who adds it asks m1, too, what arrived there.
			wantRefused(t, m.Ctl("machine", "add", "dev://"+m.Name+"/m4"), api.CodeTokenUnreachable, map[dev.Direction]string{
				dev.To: "m1 heard the new machine at", dev.From: "nothing of the new machine arrived at m1",
			}[way])
			m.Heal()
		})
	}
	t.Run("with a token that was changed", func(t *testing.T) {
		changed := strings.Replace(text, "A", "B", 1)
		wantUnchanged(t, m.In(t), wide, func() { wantRefused(t, m4.Ctl("join", "--token", changed), api.CodeTokenInvalid) })
	})
	for name, change := range map[string]func(*machine.TokenText){
		"with a token that no machine gave":     func(t *machine.TokenText) { t.Private = meshKey() },
		"with a token of another cluster's key": func(t *machine.TokenText) { t.MeshKey = meshKey() },
	} {
		t.Run(name, func(t *testing.T) {
			wantUnchanged(t, m.In(t), wide, func() {
				wantRefused(t, m4.Ctl("join", "--token", forged(t, text, change)), api.CodeTokenUnreachable, "UDP", "51820")
			})
		})
	}
	t.Run("with a token that ran out", func(t *testing.T) {
		brief := strings.TrimSpace(m.Must("machine", "token", "--ttl", "10s"))
		given, err := machine.DecodeToken(brief)
		if err != nil {
			t.Fatal(err)
		}
		m.Eventually("the token to have run out", func() bool { return given.Late(time.Now()) != nil })
		honest := func(*machine.TokenText) {}
		later := func(t *machine.TokenText) { t.Expires = t.Expires.Add(time.Hour) }
		wantUnchanged(t, m.In(t), wide, func() {
			wantRefused(t, m4.Ctl("join", "--token", forged(t, brief, honest)), api.CodeTokenUsed, "ran out", "machine token")
			wantRefused(t, m4.Ctl("join", "--token", forged(t, brief, later)), api.CodeTokenUnreachable)
		})
	})
	m4.Must("join", "--token", text)
	t.Run("by another token, though it is a member", func(t *testing.T) {
		again := token(m)
		wantUnchanged(t, m.In(t), wide, func() { wantRefused(t, m4.Ctl("join", "--token", again), api.CodeMachineInitialised) })
	})
	m.Must("machine", "remove", "m4")
	m4.Eventually("m4 to have left", func() bool { return outside(m4) })
	if left := m.Script("m4", "cd /var/lib/ployz; ls -d */projection.json net/mesh.json nats keys 2>/dev/null || true"); left != "" {
		t.Errorf("m4 still has of the cluster that it left:\n%s", left)
	}
	t.Run("by a token that was used before", func(t *testing.T) {
		wantUnchanged(t, m.In(t), wide, func() { wantRefused(t, m4.Ctl("join", "--token", text), api.CodeTokenUsed, "machine token") })
	})
}

// outside says that a machine belongs to no cluster, and that its daemon answers.
func outside(m *onemachine.Machine) bool {
	r := m.Ctl("status")
	return r.Status == 0 && strings.Contains(r.Out, "belongs to no cluster")
}

func mayNotLeave(t *testing.T, m *onemachine.Machine) {
	all := machines(3)
	refused := func(m *onemachine.Machine, gone string, code api.Code, words ...string) func(*testing.T) {
		return func(t *testing.T) {
			wantUnchanged(t, m.In(t), all, func() { wantRefused(t, m.Ctl("machine", "remove", gone), code, words...) })
		}
	}
	t.Run("the machine that is asked", refused(m.At("m2"), "m2", api.CodeMachineLast, "ask another"))
	t.Run("a machine that is not there", refused(m, "m9", api.CodeMachineAbsent, "m9"))
	t.Run("a machine that holds instances", refused(m, "m3", api.CodeMachineHolds, "site/web", "machine drain m3"))
	m.Cut("m3")
	t.Run("a voter whose loss stops writing", func(t *testing.T) {
		var r labtest.Result
		m.Eventually("m1 to miss m3", func() bool {
			r = m.Ctl("machine", "remove", "m2")
			return strings.Contains(r.Err, string(api.CodeStoreWouldLoseQuorum))
		})
		wantRefused(t, r, api.CodeStoreWouldLoseQuorum, "m3")
		if got := namesOf(members(m)); len(got) != 3 {
			t.Errorf("members: %v", got)
		}
	})
	m.Boot("m3")
	m.At("m3").AwaitDaemon()
	awaitAgreement(t, m, all...)
}
