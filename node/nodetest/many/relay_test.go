package many_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/nodetest/labtest"
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
	m.Eventually("m2 to list m3 as relayed by m1", func() bool {
		return slices.ContainsFunc(members(m.At("m2")), func(one api.MachineEntry) bool {
			return one.Name == "m3" && one.Relay == "m1" && one.Seen.State == api.SeenRelayed
		})
	})
	wantRefused(t, led(m.At("m2"), "machine", "remove", "m1"), api.CodeMachineRelay, `machine set m3 --relay ""`)
	wantRefused(t, led(m, "machine", "set", "m2", "--relay", "m3"), api.CodeMachineRelay)
	m.Heal()
	setRelay(t, m, "")
	m.Eventually("m2 and m3 to talk directly", func() bool { return answered("m2 m3") && answered("m3 m2") })
}

// led runs a command once the store has a leader: whom a cut takes away is followed by another within seconds, and the
// relay lets them all hear each other again.
func led(m *onemachine.Machine, args ...string) (r labtest.Result) {
	m.Eventually("the store to have a leader", func() bool {
		r = m.Ctl(args...)
		return !strings.Contains(r.Err, string(api.CodeStoreUnavailable)) && !strings.Contains(r.Err, string(api.CodeStoreNoQuorum))
	})
	return r
}

// setRelay may lose the store's leader once it has committed, for a cut between two voters has one stand for election again
// and again until the relay is in place.
func setRelay(t *testing.T, m *onemachine.Machine, by string) {
	t.Helper()
	wantEnd(t, m, []api.Result{api.Committed, api.CommittedLeftovers}, "machine", "set", "m3", "--relay", by)
}

// committed is led for a command that is to change something.
func committed(t *testing.T, m *onemachine.Machine, args ...string) api.Outcome {
	t.Helper()
	return wantEnd(t, m, []api.Result{api.Committed}, args...)
}

// wantEnd runs a command, again while the store has no leader whom a majority hears, and wants one of some ends. One that lost
// the leader while it began may not have given its scope back, which the next then waits for.
func wantEnd(t *testing.T, m *onemachine.Machine, ends []api.Result, args ...string) (out api.Outcome) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("%s said last: %s %+v", strings.Join(args, " "), onemachine.Said(out.Error), out.Error)
		}
	}()
	m.Within(2*coordination.TTL, "the store to have a leader whom a majority hears", func() bool {
		out = api.Outcome{}
		m.JSON(&out, args...)
		return out.Outcome != api.Refused || !out.Error.Retryable
	})
	if !slices.Contains(ends, out.Outcome) {
		t.Fatalf("%s ended %s: %s %+v %s", strings.Join(args, " "), out.Outcome, onemachine.Said(out.Error), out.Leftovers, out.Value)
	}
	return out
}
