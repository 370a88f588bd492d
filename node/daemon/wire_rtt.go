package daemon

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ployz/ployz/datapath/echo"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/mesh"
)

// verbRTT has a machine measure the way to all others.
const verbRTT = "mesh.rtt"

// rttWithin bounds one machine's measurement, which takes two seconds and a half.
const rttWithin = 10 * time.Second

// roundTrips has machines measure, all at the same time. Who does not answer is named.
func (d *Daemon) roundTrips(ctx context.Context, from []machine.Member) api.RoundTrips {
	ctx, cancel := context.WithTimeout(ctx, rttWithin)
	defer cancel()
	measured, errs := everywhere(ctx, from, func(ctx context.Context, m machine.Member) ([]api.RoundTrip, error) {
		return command[[]api.RoundTrip](ctx, d, m.ID, coordination.Command{Verb: verbRTT}, struct{}{})
	})
	all := api.RoundTrips{Trips: slices.Concat(append([][]api.RoundTrip{{}}, measured...)...)}
	for i, err := range errs {
		if err != nil {
			all.Unasked = append(all.Unasked, api.Unasked{Machine: from[i].Name, Error: aboutMachine(err, from[i].Name)})
		}
	}
	slices.SortFunc(all.Trips, func(a, b api.RoundTrip) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return all
}

// roundTripsHere measures from this machine to all others.
func (d *Daemon) roundTripsHere(ctx context.Context) ([]api.RoundTrip, error) {
	self, err := machine.LoadIdentity(d.State)
	if err != nil {
		return nil, err
	}
	members, err := d.peering.Load().members(ctx)
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(slices.Clone(members), func(m machine.Member) bool { return m.ID == self.ID })
	targets := make([]netip.Addr, len(others))
	for i, m := range others {
		targets[i] = m.Overlay
	}
	trips, err := echo.Measure(ctx, self.Overlay, targets, echo.Default())
	if err != nil {
		return nil, api.Errorf(api.CodeNetworkFailed, "measuring: %w", err).About(self.Name)
	}
	seen, seenErr := d.meshSeen(ctx)
	list := make([]api.RoundTrip, len(others))
	for i, m := range others {
		list[i] = roundTrip(trips[i])
		list[i].From, list[i].To = self.Name, m.Name
		by := m
		if relay, relayed := machine.Via(members, memberOf(members, self.ID), m); relayed {
			by, list[i].Via = relay, relay.Name
		}
		way := describeWay(&list[i], seen, by)
		if list[i].Received == 0 {
			list[i].Error = noAnswer(m.Name, trips[i].Err, cmp.Or(seenErr, way))
		}
	}
	return list, nil
}

// aboutMachine puts a machine's name where a command's error has its id.
func aboutMachine(err error, name string) *api.Error {
	e := *api.AsError(err)
	e.Subject = name
	return &e
}

func roundTrip(t echo.Trip) api.RoundTrip {
	r := api.RoundTrip{Sent: t.Sent, Received: len(t.Times)}
	if times := slices.Sorted(slices.Values(t.Times)); len(times) > 0 {
		r.Min, r.Median, r.Max = api.Duration(times[0]), api.Duration(times[len(times)/2]), api.Duration(times[len(times)-1])
	}
	return r
}

// describeWay says where packets for a member go, and returns what speaks against their arriving.
func describeWay(r *api.RoundTrip, seen mesh.Seen, by machine.Member) error {
	at := slices.IndexFunc(seen.Peers, func(p mesh.SeenPeer) bool { return p.PublicKey.String() == by.MeshKey })
	if at < 0 {
		return fmt.Errorf("%s is no peer of this machine's WireGuard device", by.Name)
	}
	p := seen.Peers[at]
	r.Handshake = p.LastHandshake
	if p.Endpoint.IsValid() {
		r.Endpoint = p.Endpoint.String()
	}
	switch {
	case !p.Endpoint.IsValid():
		return fmt.Errorf("no endpoint of %s is known", by.Name)
	case p.LastHandshake.IsZero():
		return fmt.Errorf("there was no handshake with %s yet, at %s", by.Name, p.Endpoint)
	}
	return fmt.Errorf("the last handshake with %s, at %s, was %s ago", by.Name, p.Endpoint, time.Since(p.LastHandshake).Round(time.Second))
}

func noAnswer(to string, sendErr, way error) *api.Error {
	why := way.Error()
	if sendErr != nil {
		why = fmt.Sprintf("nothing could be sent (%v); %s", sendErr, why)
	}
	return api.Errorf(api.CodeMeshNoAnswer, "no echo request was answered: %s", why).About(to).Again().
		WithHint("is UDP open both ways? ployzctl machine show %s", to)
}
