package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/mesh"
)

// TestOddMembersAreLeftOut: a member that cannot be a peer does not keep the others from being known, and is named.
func TestOddMembersAreLeftOut(t *testing.T) {
	self := machine.Identity{ID: "a1", Name: "m1", Subnet4: netip.MustParsePrefix("10.101.1.0/24"), Subnet6: netip.MustParsePrefix("fd00:1:2:1::/64")}
	member := func(number uint16, name, four string) machine.Member {
		return machine.Member{
			ID: "a" + name, Name: name, Number: number, MeshKey: mesh.GenerateKey().Public().String(), Subnet4: netip.MustParsePrefix(four),
			Subnet6: netip.MustParsePrefix(fmt.Sprintf("fd00:1:2:%d::/64", number)),
		}
	}
	var r machine.Roster
	for i, four := range []string{"10.101.1.0/24", "10.101.2.0/24", "10.101.2.0/24", "10.101.1.0/24", "10.101.5.0/24", "10.101.6.0/24", "10.101.6.0/24"} {
		r.Members = append(r.Members, member(uint16(i+1), fmt.Sprintf("m%d", i+1), four))
	}
	r.Members[0].ID = self.ID
	r.Members[4].MeshKey = "no key"
	slices.Reverse(r.Members) // the oldest stays, in whatever order they come
	peers, left := peersOf(self, r)
	var known, odd []string
	for _, p := range peers {
		known = append(known, p.Machine)
	}
	for _, e := range left {
		odd = append(odd, e.Subject)
		if e.Code != api.CodeMeshInvalid {
			t.Errorf("%s: %v", e.Subject, e)
		}
	}
	slices.Sort(odd)
	if got := strings.Join(known, " "); got != "m2 m6" {
		t.Errorf("known: %s", got)
	}
	if got := strings.Join(odd, " "); got != "m3 m4 m5 m7" {
		t.Errorf("left out: %s", got)
	}
	d := &Daemon{}
	f := &membership{daemon: d}
	f.left.Store(&left)
	d.following.Store(f)
	if c := d.checkMembers(); c.Result != api.CheckFailed || len(c.Error.Details) != 4 {
		t.Errorf("doctor: %+v", c)
	}
	if err := (&mesh.State{Interface: "ployz-wg", ListenPort: 1, KeyFile: "/k", Peers: peers}).Validate(); err != nil {
		t.Errorf("those that are known: %v", err)
	}
}
