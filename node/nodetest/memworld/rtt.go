package memworld

import (
	"context"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
)

// roundTrips is what machines would measure of two others: one answers, by a relay, and one does not. m9 never
// could be asked.
func roundTrips(_ context.Context, from []machine.Member) api.RoundTrips {
	var all api.RoundTrips
	for _, m := range from {
		all.Trips = append(all.Trips,
			api.RoundTrip{From: m.Name, To: "m2", Sent: 5, Received: 4, Min: api.Duration(time.Millisecond), Median: api.Duration(1500 * time.Microsecond),
				Max: api.Duration(2 * time.Millisecond), Via: "m3", Endpoint: "192.0.2.3:51820", Handshake: time.Now().Add(-time.Minute)},
			api.RoundTrip{From: m.Name, To: "m4", Sent: 5, Error: api.Errorf(api.CodeMeshNoAnswer, "no echo request was answered: no endpoint of m4 is known").About("m4")})
	}
	all.Unasked = []api.Unasked{{Machine: "m9", Error: api.Errorf(api.CodeParticipantAbsent, "the command reached nobody").About("m9")}}
	return all
}
