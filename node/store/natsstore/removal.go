package natsstore

import (
	"strings"

	"github.com/ployz/ployz/node/api"
)

// CheckRemoval says why a voter, by server name or peer id, must not be removed as things are. It is
// pure: a plan asks it of the topology that it saw, and RemoveVoter asks it again before it acts.
//
// Reasons: store.no-quorum, request.not-found, store.would-lose-quorum, store.change-in-flight.
func CheckRemoval(t Topology, nameOrPeer string) []*api.Error {
	if !t.HasQuorum() {
		return []*api.Error{noQuorum(t)}
	}
	v, found := t.Voter(nameOrPeer)
	if !found {
		return []*api.Error{api.Errorf(api.CodeNotFound, "the store has no voter %s", nameOrPeer).About(nameOrPeer)}
	}
	var out []*api.Error
	if e := t.wouldLoseQuorum(v); e != nil {
		out = append(out, e)
	}
	return append(out, t.inFlight(v)...)
}

// noQuorum names who is missing.
func noQuorum(t Topology) *api.Error {
	e := api.Errorf(api.CodeStoreNoQuorum, "the store has no leader: %d of %d voters must be there", t.Quorum, len(t.Voters)).Again()
	if off := t.absent(); len(off) > 0 {
		e = api.Errorf(api.CodeStoreNoQuorum, "the store has no quorum: %d of %d voters must be there, and these are not: %s",
			t.Quorum, len(t.Voters), strings.Join(off, ", ")).Again()
	}
	return e.WithHint("bring a missing machine back, or give it up: ployzctl machine remove --lost")
}

// wouldLoseQuorum counts who would be left. A voter that is off counts as a member until it is removed itself.
func (t Topology) wouldLoseQuorum(v Voter) *api.Error {
	left := len(t.Voters) - 1
	there := online(t.Voters)
	if v.Online {
		there--
	}
	if left > 0 && there >= left/2+1 {
		return nil
	}
	if left == 0 {
		e := api.Errorf(api.CodeStoreWouldLoseQuorum, "%s is the only voter: without it there is no store", v.Called())
		return e.About(v.Called()).WithHint("make another machine a voter first")
	}
	var off []string
	for _, o := range t.Voters {
		if o.Peer != v.Peer && !o.Online {
			off = append(off, o.Called())
		}
	}
	e := api.Errorf(api.CodeStoreWouldLoseQuorum, "without %s only %d of %d voters are there, and %d must be; not there: %s",
		v.Called(), there, left, left/2+1, strings.Join(off, ", "))
	return e.About(v.Called()).WithHint("bring the missing ones back, or remove those first")
}

// inFlight are the reasons that pass by themselves: copies on their way, or behind. The copy of the
// voter itself does not matter, nor do those on voters that are off: the quorum was counted.
func (t Topology) inFlight(v Voter) []*api.Error {
	var out []*api.Error
	for _, o := range t.Voters {
		if o.Online && !o.Current && o.Peer != v.Peer {
			out = append(out, inFlight(o.Called(), "%s is still catching up with the group (%d behind)", o.Called(), o.Lag))
		}
	}
	for _, c := range t.Streams {
		if c.Changing {
			out = append(out, inFlight(c.Stream, "copies of %s are being made or moved", c.Stream))
		}
		for _, o := range c.Replicas {
			if o.Online && !o.Current && o.Peer != v.Peer {
				out = append(out, inFlight(c.Stream, "the copy of %s on %s is %d behind", c.Stream, o.Called(), o.Lag))
			}
		}
	}
	return out
}

func inFlight(about, format string, args ...any) *api.Error {
	e := api.Errorf(api.CodeStoreChangeInFlight, format, args...).About(about).Again()
	return e.WithHint("wait until ployzctl store status shows every copy current, and repeat")
}
