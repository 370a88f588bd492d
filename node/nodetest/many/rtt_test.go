package many_test

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// tripsOf are the round trips that machines measure, by "from to".
func tripsOf(m *onemachine.Machine, from ...string) (map[string]api.RoundTrip, []api.Unasked) {
	var r api.RoundTrips
	m.JSON(&r, append([]string{"machine", "rtt"}, from...)...)
	trips := map[string]api.RoundTrip{}
	for _, t := range r.Trips {
		trips[t.From+" "+t.To] = t
	}
	return trips, r.Unasked
}

// pairs are all ways between some machines.
func pairs(hosts ...string) (list []string) {
	for _, a := range hosts {
		for _, b := range hosts {
			if a != b {
				list = append(list, a+" "+b)
			}
		}
	}
	return list
}

func roundTrips(t *testing.T, m *onemachine.Machine) {
	trips, unasked := tripsOf(m)
	if len(trips) != 6 || len(unasked) > 0 {
		t.Errorf("%d round trips, not asked: %+v", len(trips), unasked)
	}
	for _, pair := range pairs(machines(3)...) {
		if trip := trips[pair]; trip.Received != trip.Sent || trip.Median <= 0 || trip.Endpoint == "" || trip.Handshake.IsZero() || trip.Via != "" {
			t.Errorf("%s: %+v", pair, trip)
		}
	}
	m.Partition("m1", "m2,m3")
	defer m.Heal()
	trips, unasked = tripsOf(m.At("m2"), "m1", "m2")
	if e := trips["m2 m1"].Error; e == nil || e.Code != api.CodeMeshNoAnswer || !strings.Contains(e.Message, "the last handshake with m1") {
		t.Errorf("cut off from m1, m2 says %+v", trips["m2 m1"])
	}
	if trip := trips["m2 m3"]; trip.Received == 0 {
		t.Errorf("m3 is on the same side: %+v", trip)
	}
	if len(unasked) != 1 || unasked[0].Machine != "m1" || !strings.HasPrefix(string(unasked[0].Error.Code), "participant.") {
		t.Errorf("not asked: %+v", unasked)
	}
}
