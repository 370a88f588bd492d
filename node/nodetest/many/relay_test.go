package many_test

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// relayed cuts m2 and m3 off from each other, and from nobody else.
func relayed(t *testing.T, m *onemachine.Machine) {
	answered := func(pair string) bool {
		trips, _ := tripsOf(m, "m2", "m3")
		return trips[pair].Received > 0
	}
	m.Partition("m2", "m3")
	if answered("m2 m3") {
		t.Fatal("the line between m2 and m3 is not cut")
	}
	setRelay(t, m, "m1")
	m.Eventually("m2 and m3 to talk by m1", func() bool { return answered("m2 m3") && answered("m3 m2") })
	trips, _ := tripsOf(m)
	for _, pair := range pairs(machines(3)...) {
		want := ""
		if !strings.Contains(pair, "m1") {
			want = "m1"
		}
		if trip := trips[pair]; trip.Via != want || trip.Received == 0 {
			t.Errorf("%s: %+v, want it via %q", pair, trip, want)
		}
	}
	for range 6 { // m3's instance is among the choices of m2's gateway
		if got := page(m, "m2", "site.test", "/"); !strings.Contains(got.Out, "version 1") {
			t.Errorf("m2's gateway answers %+v", got)
		}
	}
	for _, one := range members(m.At("m2")) {
		if one.Name == "m3" && (one.Relay != "m1" || one.Seen.State != api.SeenRelayed) {
			t.Errorf("m2 lists m3 as %+v", one)
		}
	}
	m.Eventually("m2 to hear of a leader again", func() bool { return write(m.At("m2"), "relayed/m2").Status == 0 })
	wantRefused(t, m.At("m2").Ctl("machine", "remove", "m1"), api.CodeMachineRelay, `machine set m3 --relay ""`)
	wantRefused(t, m.Ctl("machine", "set", "m2", "--relay", "m3"), api.CodeMachineRelay)
	m.Heal()
	setRelay(t, m, "")
	m.Eventually("m2 and m3 to talk directly", func() bool { return answered("m2 m3") && answered("m3 m2") })
}

func setRelay(t *testing.T, m *onemachine.Machine, by string) {
	t.Helper()
	var out api.Outcome
	m.Eventually("the store to have a leader whom a majority hears", func() bool {
		m.JSON(&out, "machine", "set", "m3", "--relay", by)
		return out.Outcome != api.Refused || !out.Error.Retryable
	})
	if out.Outcome != api.Committed {
		t.Fatalf("it ended %s: %s %+v", out.Outcome, onemachine.Said(out.Error), out.Leftovers)
	}
}
