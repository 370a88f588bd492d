package daemon

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/store"
)

// listMachines answers GET /v1/machines: intent from the facts, and what this machine sees now.
func listMachines(r *http.Request, m *Member) (any, error) {
	reads := newReads(m)
	fact, err := reads.Get(r.Context(), store.Cluster())
	if err != nil {
		return nil, err
	}
	var cluster machine.Cluster
	if err := store.Decode(fact, &cluster); err != nil {
		return nil, err
	}
	members, _, err := machine.Readable(r.Context(), reads)
	if err != nil {
		return nil, err
	}
	var seen map[string]api.MachineSeen
	if m.Seen != nil {
		seen = m.Seen(r.Context(), members)
	}
	list := make([]api.MachineEntry, 0, len(members))
	for _, x := range members {
		entry := machineEntry(x, slices.Contains(cluster.Voters, x.ID), seen[x.ID])
		entry.Relay = machine.NameOf(members, x.Relay)
		list = append(list, entry)
	}
	slices.SortFunc(list, func(a, b api.MachineEntry) int { return cmp.Compare(a.Name, b.Name) })
	return map[string][]api.MachineEntry{"machines": list}, nil
}

// tokenSeen answers GET /v1/tokens/seen?key=.
func tokenSeen(r *http.Request, m *Member) (any, error) {
	if m.TokenSeen == nil {
		return api.TokenSeen{Machine: m.Machine}, nil
	}
	return m.TokenSeen(r.Context(), r.URL.Query().Get("key"))
}

// roundTrips answers GET /v1/machines/rtt?from=.
func roundTrips(r *http.Request, m *Member) (any, error) {
	members, err := machine.Members(r.Context(), newReads(m))
	if err != nil {
		return nil, err
	}
	if text := r.URL.Query().Get("from"); text != "" {
		var from []machine.Member
		for _, name := range strings.Split(text, ",") {
			one, err := machine.Named(members, name)
			if err != nil {
				return nil, err
			}
			from = append(from, one)
		}
		members = from
	}
	if m.RoundTrips == nil {
		return api.RoundTrips{Trips: []api.RoundTrip{}}, nil
	}
	return m.RoundTrips(r.Context(), members), nil
}

func machineEntry(m machine.Member, votes bool, seen api.MachineSeen) api.MachineEntry {
	return api.MachineEntry{
		ID: m.ID, Name: m.Name, Region: m.Region, Zone: m.Zone, Role: string(m.Role), Labels: m.Labels, Overlay: m.Overlay,
		Subnet4: m.Subnet4, Subnet6: m.Subnet6, MeshKey: m.MeshKey, Endpoints: m.Endpoints, Voter: votes, Seen: seen,
	}
}
