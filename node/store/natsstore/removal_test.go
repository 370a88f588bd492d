package natsstore_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
)

// group describes voters by a letter each: L leads, c is current, b is behind, - is off.
func group(states string) natsstore.Topology {
	t := natsstore.Topology{Quorum: len(states)/2 + 1}
	for i, state := range states {
		name := string(rune('a'+i)) + "-1"
		v := natsstore.Voter{Name: name, Peer: natsstore.PeerID(name), Online: state != '-', Current: state == 'L' || state == 'c', Answers: state != '-'}
		if v.Leads = state == 'L'; v.Leads {
			t.Leader = name
		}
		t.Voters = append(t.Voters, v)
	}
	t.Streams = []natsstore.Copies{{Stream: "FACTS", Want: len(states), Leader: t.Leader, Replicas: slices.Clone(t.Voters)}}
	return t
}

func TestCheckRemoval(t *testing.T) {
	moving := group("Lcc")
	moving.Streams[0].Changing = true
	leaderless := group("Lcc")
	leaderless.Streams[0].Leader = ""
	for _, c := range []struct {
		what string
		t    natsstore.Topology
		name string
		want []api.Code
	}{
		{"one of two", group("Lc"), "b-1", nil},
		{"the leader", group("Lcc"), "a-1", nil},
		{"by its peer id", group("Lcc"), natsstore.PeerID("a-1"), nil},
		{"the dead one", group("Lc-"), "c-1", nil},
		{"two dead of five", group("Lcc--"), "e-1", nil},
		{"the only one", group("L"), "a-1", []api.Code{api.CodeStoreWouldLoseQuorum}},
		{"one that is needed", group("Lc-"), "b-1", []api.Code{api.CodeStoreWouldLoseQuorum}},
		{"one that is needed of five", group("Lcc--"), "b-1", []api.Code{api.CodeStoreWouldLoseQuorum}},
		{"one that is not there", group("Lcc"), "z-1", []api.Code{api.CodeNotFound}},
		{"without a leader", group("-c"), "a-1", []api.Code{api.CodeStoreNoQuorum}},
		{"a stream without a leader", leaderless, "a-1", []api.Code{api.CodeStoreNoQuorum}},
		{"another is behind", group("Lcb"), "b-1", []api.Code{api.CodeStoreChangeInFlight, api.CodeStoreChangeInFlight}},
		{"itself is behind", group("Lcb"), "c-1", nil},
		{"copies are moving", moving, "c-1", []api.Code{api.CodeStoreChangeInFlight}},
	} {
		var got []api.Code
		for _, e := range natsstore.CheckRemoval(c.t, c.name) {
			if got = append(got, e.Code); e.Hint == "" && e.Code != api.CodeNotFound {
				t.Errorf("%s: no hint: %v", c.what, e)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

func TestStatement(t *testing.T) {
	short := group("Lcc")
	short.Streams[0].Want = 2
	full := group("Lc-")
	full.Voters[2].NoRoom = true
	for _, c := range []struct {
		t    natsstore.Topology
		want string
	}{
		{group("L"), "There is one voter."},
		{group("Lc"), "Either may be lost without losing anything"},
		{group("Lcc"), "Any one may be lost"},
		{group("Lc-"), "not there: c-1. No further one may go off"},
		{group("Lcccc"), "Any 2 may be lost"},
		{group("Lccc-"), "not there: e-1. Any one may be lost"},
		{group("-c"), "of 2 voters 2 must be there, and these are not: a-1"},
		{group("cc"), "though every voter answers"},
		{short, "FACTS has 2 of 3 copies"},
		{group("Lcb"), "the copy on c-1 is 0 behind"},
		{full, "Out of room on the disk of the store, and therefore not voting: c-1."},
		{natsstore.Topology{Voters: full.Voters[2:]}, "no voter that answers has room"},
	} {
		if got := strings.Join(c.t.Statement(), "\n"); !strings.Contains(got, c.want) {
			t.Errorf("%q is not in %q", c.want, got)
		}
	}
}

func TestOddOnes(t *testing.T) {
	of := func(name string, generation uint64, last store.Revision, sum string) natsstore.NamedDigest {
		return natsstore.NamedDigest{Name: name, Digest: natsstore.Digest{Generation: generation, Last: last, Sum: sum}}
	}
	for _, c := range []struct {
		what   string
		copies []natsstore.NamedDigest
		want   string
	}{
		{"all alike", []natsstore.NamedDigest{of("m1", 1, 5, "a"), of("m2", 1, 5, "a"), of("core", 1, 5, "a")}, ""},
		{"one differs", []natsstore.NamedDigest{of("m1", 1, 5, "a"), of("m2", 1, 5, "b"), of("core", 1, 5, "a")}, "m2"},
		{"one is behind", []natsstore.NamedDigest{of("m1", 1, 5, "a"), of("m2", 1, 4, "b"), of("core", 1, 5, "a")}, ""},
		{"another generation", []natsstore.NamedDigest{of("m1", 2, 5, "a"), of("m2", 1, 5, "b")}, ""},
		{"one against one", []natsstore.NamedDigest{of("m1", 1, 5, "a"), of("m2", 1, 5, "b")}, "m1 m2"},
		{"two pairs of which one is split", []natsstore.NamedDigest{of("m1", 1, 5, "a"), of("m2", 1, 5, "a"), of("m3", 1, 4, "x"), of("m4", 1, 4, "y")}, "m3 m4"},
	} {
		var names []string
		for _, d := range natsstore.OddOnes(c.copies) {
			names = append(names, d.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}
