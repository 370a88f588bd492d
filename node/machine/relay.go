package machine

import (
	"net/netip"
	"slices"

	"github.com/ployz/ployz/node/api"
)

// A machine that not all others can reach may be given a relay: a fact of its membership, which an operator set. All
// that goes to it and comes from it passes the relay, for everybody but the relay itself, by plain routing: WireGuard
// vouches hop by hop. A relay has no relay, so that a way has three hops at most.

// Via returns the machine by which one reaches another; false where they talk directly.
func Via(members []Member, from, to Member) (Member, bool) {
	for _, relay := range []string{from.Relay, to.Relay} { // its own comes first: it reaches nobody else
		if relay == "" || relay == from.ID || relay == to.ID || from.ID == to.ID {
			continue
		}
		if m, known := (Roster{Members: members}).Self(relay); known {
			return m, true
		}
	}
	return Member{}, false
}

// Peers are the other machines as one of them is to know them: those that it talks to directly, each with the
// subnets of those that lie behind it.
func Peers(members []Member, self Member) []api.MeshPeer {
	behind := map[string][]netip.Prefix{}
	var direct []Member
	for _, m := range members {
		if m.ID == self.ID || m.MeshKey == "" {
			continue
		}
		if relay, relayed := Via(members, self, m); relayed {
			behind[relay.ID] = append(behind[relay.ID], m.Subnet6, m.Subnet4)
			continue
		}
		direct = append(direct, m)
	}
	peers := make([]api.MeshPeer, len(direct))
	for i, m := range direct {
		peers[i] = m.Peer()
		peers[i].Allowed = append(peers[i].Allowed, behind[m.ID]...)
	}
	return peers
}

// relayedBy are the machines that have one as their relay.
func relayedBy(members []Member, id string) []Member {
	return slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.Relay != id })
}

// chooseRelay finds the machine that is to relay for another; "" is none. Errors: machine.not-found, machine.relay-unfit.
func chooseRelay(members []Member, m Member, name string) (id string, err error) {
	if name == "" {
		return "", nil
	}
	relay, err := Named(members, name)
	if err != nil {
		return "", err
	}
	if relay.ID == m.ID {
		return "", api.Errorf(api.CodeMachineRelay, "a machine cannot be its own relay").About(m.Name).WithHint("ployzctl machine rtt")
	}
	if relay.Relay != "" {
		return "", api.Errorf(api.CodeMachineRelay, "it is itself reached by a relay, and those are not chained").About(relay.Name).
			WithHint("choose another, or first: ployzctl machine set %s --relay \"\"", relay.Name)
	}
	if behind := relayedBy(members, m.ID); len(behind) > 0 {
		return "", api.Errorf(api.CodeMachineRelay, "it is the relay of %s, and those are not chained", names(behind)).About(m.Name).
			WithHint("first: ployzctl machine set %s --relay \"\"", behind[0].Name)
	}
	return relay.ID, nil
}

// relaysNobody is unmet while others are reached by a machine that is to go.
func relaysNobody(members []Member, gone Member) *api.Error {
	behind := relayedBy(members, gone.ID)
	if len(behind) == 0 {
		return nil
	}
	return api.Errorf(api.CodeMachineRelay, "it is the relay of %s, which could not be reached any more", names(behind)).About(gone.Name).
		WithHint("give them another, or none: ployzctl machine set %s --relay \"\"", behind[0].Name)
}
