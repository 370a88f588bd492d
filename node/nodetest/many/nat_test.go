package many_test

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// TestBehindNAT has two of three machines behind routers of their own, which nobody can call from outside.
func TestBehindNAT(t *testing.T) {
	m := found(t, dev.Options{Machines: 3, NAT: []string{"m2", "m3"}})
	inOrder(t, m, []step{
		{"all machines talk, also the two that are hidden from each other", func(t *testing.T, m *onemachine.Machine) {
			m.Eventually("every way to be open", func() bool { return allAnswer(m) })
		}},
		{"only who is hidden keeps its ways open, and says so", keptOpen},
		{"their membership holds no address that was only observed", func(t *testing.T, m *onemachine.Machine) {
			for _, one := range members(m) {
				for _, e := range one.Endpoints {
					if one.Name != "m1" && strings.HasPrefix(e.String(), "10.90.") {
						t.Errorf("%s has %s", one.Name, e)
					}
				}
			}
		}},
		{"a hidden machine that was cut off is reached again", func(t *testing.T, m *onemachine.Machine) {
			m.Partition("m1,m3", "m2")
			m.Eventually("m2 to be lost", func() bool { trips, _ := tripsOf(m, "m1"); return trips["m1 m2"].Received == 0 })
			m.Heal()
			m.Eventually("every way to be open again", func() bool { return allAnswer(m) })
		}},
	})
}

func allAnswer(m *onemachine.Machine) bool {
	trips, _ := tripsOf(m)
	for _, pair := range pairs(machines(3)...) {
		if trips[pair].Received == 0 {
			return false
		}
	}
	return true
}

func keptOpen(t *testing.T, m *onemachine.Machine) {
	for _, host := range machines(3) {
		hidden := host != "m1"
		m.Eventually(host+" to know whether it is hidden", func() bool {
			return strings.Contains(m.Script(host, "cat /var/lib/ployz/net/mesh.json"), `"keepalive": 25000000000`) == hidden
		})
		if said := strings.Contains(strings.Join(m.At(host).Status().Notes, " "), "behind a NAT"); said != hidden {
			t.Errorf("%s says that it is hidden: %v", host, said)
		}
	}
}
