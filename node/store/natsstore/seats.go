package natsstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Errors of the group's own API that are looked at.
const (
	errMemberChange   = 10202 // another removal is under way
	errNotMember      = 10044
	errPeerNotInGroup = 10040
)

// AwaitVoter waits until the group has taken the core of that server name in and it is current. Call
// it after the new core was started with routes to every voter, and every voter reloaded its own.
// Errors: store.unavailable (ctx ended; the message says what was still missing).
func (s *Store) AwaitVoter(ctx context.Context, serverName string) error {
	return s.awaitTopology(ctx, "voter "+serverName, func(t Topology) string {
		v, found := t.Voter(serverName)
		switch {
		case !found:
			return "the group has not taken it in"
		case t.Leader == "":
			return "the group has no leader"
		case !v.Answers || !v.Online:
			return "it does not answer"
		case !v.Current || v.Lag > 0:
			return fmt.Sprintf("it is %d behind", v.Lag)
		}
		return ""
	})
}

func (s *Store) awaitTopology(ctx context.Context, what string, missing func(Topology) string) error {
	seen := kept{}
	err := poll(ctx, func() (string, error) {
		t, err := s.Topology(ctx)
		if err != nil {
			return err.Error(), nil
		}
		return missing(seen.over(t)), nil
	})
	if err != nil {
		return unavailable(what, err)
	}
	return nil
}

// kept remembers which copies were current at some look. Under writes each look finds one or another
// a write behind, and waiting for a look at which all are current might take for ever.
type kept map[[2]string]bool

func (k kept) over(t Topology) Topology {
	k.mark("", t.Voters)
	for _, c := range t.Streams {
		k.mark(c.Stream, c.Replicas)
	}
	return t
}

func (k kept) mark(group string, voters []Voter) {
	for i, v := range voters {
		at := [2]string{group, v.Peer}
		k[at] = v.Online && (v.Current || k[at])
		voters[i].Current = k[at]
	}
}

// settleWithin is how long Settled looks again: for as long as an election may take.
const settleWithin = 10 * time.Second

// Settled is the topology for a decision: it looks again for up to ten seconds while there is no
// leader, or a copy is on its way or a write behind; and it counts as current what was so at one of the looks. Errors: as Topology.
func (s *Store) Settled(ctx context.Context) (Topology, error) {
	seen := kept{}
	var t Topology
	for deadline := time.Now().Add(settleWithin); ; {
		var err error
		if t, err = s.Topology(ctx); err != nil {
			return t, err
		}
		t = seen.over(t)
		if t.HasQuorum() && len(t.inFlight(Voter{})) == 0 || time.Now().After(deadline) {
			return t, nil
		}
		select {
		case <-ctx.Done():
			return t, nil
		case <-time.After(again):
		}
	}
}

func (s *Store) streams() []string {
	return []string{natsconf.FactsStream(s.cfg.Generation), natsconf.LedgerStream(s.cfg.Generation)}
}

// Scale sets the copies of facts and ledger and waits until all of them are current. Repeating it is
// nothing. Errors: store.unavailable, store.unsafe-settings (refused for good).
func (s *Store) Scale(ctx context.Context, replicas int) error {
	for _, stream := range s.streams() {
		if err := s.scale(ctx, stream, replicas); err != nil {
			return err
		}
	}
	return s.awaitTopology(ctx, "the copies of facts and ledger", func(t Topology) string {
		return t.missingCopies(s.streams(), replicas)
	})
}

// missingCopies says which copy is not there yet. Those on voters that are off are not waited for:
// they come when the voter does, and a dead one must not block its own removal.
func (t Topology) missingCopies(streams []string, want int) string {
	for _, name := range streams {
		i := slices.IndexFunc(t.Streams, func(c Copies) bool { return c.Stream == name })
		if i < 0 {
			return name + " is not seen"
		}
		c := t.Streams[i]
		if c.Leader == "" || c.Changing || c.Want != want {
			return fmt.Sprintf("%s has %d of %d copies, leader %q", name, len(c.Replicas), want, c.Leader)
		}
		for _, v := range c.Replicas {
			if v.Online && !v.Current {
				return fmt.Sprintf("%s on %s is %d behind", name, v.Called(), v.Lag)
			}
		}
	}
	return ""
}

// scale repeats until the server answers; what it asks for is the same each time.
func (s *Store) scale(ctx context.Context, stream string, replicas int) error {
	err := poll(ctx, func() (string, error) {
		info, err := s.streamState(ctx, s.core, stream)
		if err != nil {
			return err.Error(), forGood(err)
		}
		if n, _ := info.Config["num_replicas"].(float64); int(n) == replicas {
			return "", nil
		}
		info.Config["num_replicas"] = replicas
		if err := s.core.callWithin(ctx, createWithin, "$JS.API.STREAM.UPDATE."+stream, info.Config); err != nil {
			return err.Error(), forGood(err)
		}
		return "", nil
	})
	if errors.Is(err, errRefused) {
		return api.Errorf(api.CodeStoreSettings, "the copies of %s cannot be set to %d: %w", stream, replicas, err).About(stream)
	}
	if err != nil {
		return unavailable("stream "+stream, err)
	}
	return nil
}

var errRefused = errors.New("refused")

// forGood passes only a server's "no" on, marked: a "not yet" is asked again.
func forGood(err error) error {
	if errors.Is(err, errNotConfigured) {
		return err
	}
	if refusedForGood(err) {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return nil
}

// Evacuate moves every copy off a voter, by peer id, and waits until no stream lists it. There must be
// another voter for each. Errors: store.unavailable.
func (s *Store) Evacuate(ctx context.Context, peerID string) error {
	asked := false
	err := poll(ctx, func() (string, error) {
		t, err := s.Topology(ctx)
		if err != nil {
			return err.Error(), nil
		}
		holding := t.holding(peerID)
		if holding == "" {
			return "", nil
		}
		if !asked {
			err := s.admin(ctx, "$JS.API.SERVER.EVACUATE", map[string]string{"peer_id": peerID}, nil)
			if isAPIError(err, errNotMember, errPeerNotInGroup) {
				return "", err
			}
			if asked = err == nil; err != nil {
				return err.Error(), nil
			}
		}
		return holding, nil
	})
	if err != nil {
		return unavailable("moving the copies off "+peerID, err)
	}
	return nil
}

// holding says which stream still lists the peer, or has not settled after it.
func (t Topology) holding(peerID string) string {
	for _, c := range t.Streams {
		if c.Leader == "" || c.Changing {
			return c.Stream + " has not settled"
		}
		if slices.ContainsFunc(c.Replicas, func(v Voter) bool { return v.Peer == peerID }) {
			return c.Stream + " still has a copy there"
		}
	}
	return ""
}

// StepDown moves the leadership of the group and of both streams away from a voter, and waits until
// others lead. Do so before a voter is stopped on purpose. A lone voter keeps it. Errors: store.unavailable.
func (s *Store) StepDown(ctx context.Context, peerID string) error {
	return s.awaitTopology(ctx, "another leader", func(t Topology) string {
		if len(t.Voters) < 2 {
			return ""
		}
		to := t.successor(peerID)
		placement := map[string]any{"placement": map[string]string{"preferred": to}}
		missing := ""
		if t.Leader == "" || PeerID(t.Leader) == peerID {
			missing = "the group is led by " + t.Leader
			_ = s.admin(ctx, "$JS.API.META.LEADER.STEPDOWN", placement, nil) // the next look says whether it worked
		}
		for _, c := range t.Streams {
			if len(c.Replicas) > 1 && PeerID(c.Leader) == peerID {
				missing = c.Stream + " is led by " + c.Leader
				_ = s.core.callWithin(ctx, createWithin, "$JS.API.STREAM.LEADER.STEPDOWN."+c.Stream, nil) // as above
			}
		}
		return missing
	})
}

// successor is a voter that may lead instead.
func (t Topology) successor(peerID string) string {
	for _, v := range t.Voters {
		if v.Peer != peerID && v.Online && v.Current {
			return v.Name
		}
	}
	for _, v := range t.Voters {
		if v.Peer != peerID && v.Answers {
			return v.Name
		}
	}
	return ""
}

// RemoveVoter takes a voter out of the group: it moves the leadership off it, scales the streams to the
// voters that stay, moves the copies off it, and removes it, each verified before the next; one that is off is
// removed first, and the streams follow. It works
// also where the voter leads and is the one that we are connected to, and where it is off for good
// while the others are a quorum. A voter that is no member is nothing to do. The voter goes by its
// peer id, since names may be forgotten. Stop and wipe its core afterwards (RetireCore).
//
// Errors: those of CheckRemoval, nothing having been done; store.unavailable.
func (s *Store) RemoveVoter(ctx context.Context, peerID string) error {
	t, err := s.Settled(ctx)
	if err != nil {
		return err
	}
	v, found := t.Voter(peerID)
	if !found {
		return nil
	}
	if reasons := CheckRemoval(t, peerID); len(reasons) > 0 {
		e := *reasons[0]
		e.Details = reasons
		return &e
	}
	copies := min(t.copies(), len(t.Voters)-1)
	if !v.Online {
		// A copy on a voter that is off may be the one that scaling keeps, and would be waited for. Once
		// the voter is no member, the streams drop its copies by themselves, or make them where there is none yet.
		if err := s.expel(ctx, v.Peer); err != nil {
			return err
		}
		return s.Scale(ctx, copies)
	}
	if err := s.empty(ctx, v, copies); err != nil {
		return err
	}
	return s.expel(ctx, v.Peer)
}

// copies is how many copies the streams are set to have, at most.
func (t Topology) copies() int {
	most := 1
	for _, c := range t.Streams {
		most = max(most, c.Want)
	}
	return most
}

// empty leaves a voter without copies and without leadership, and the others with so many copies, all of them current. The
// leadership goes first: a stream's leader keeps its own copy when copies are given up, and moving a lone copy
// afterwards can take minutes under writes.
func (s *Store) empty(ctx context.Context, v Voter, copies int) error {
	if err := s.StepDown(ctx, v.Peer); err != nil {
		return err
	}
	if err := s.Scale(ctx, copies); err != nil {
		return err
	}
	if err := s.Evacuate(ctx, v.Peer); err != nil {
		return err
	}
	if err := s.Scale(ctx, copies); err != nil { // it is that many already: those that moved are waited for
		return err
	}
	return s.StepDown(ctx, v.Peer)
}

// expel removes the member and waits until the group says so. The leader answers only once the
// others agreed, so a request without an answer is looked after, not repeated blindly.
func (s *Store) expel(ctx context.Context, peerID string) error {
	asked := time.Time{}
	err := poll(ctx, func() (string, error) {
		t, err := s.Topology(ctx)
		if err != nil {
			return err.Error(), nil
		}
		v, found := t.Voter(peerID)
		switch {
		case !found && t.Leader != "":
			return "", nil
		case !found:
			return "the group has no leader", nil
		case len(t.Voters) == 1:
			// A sole survivor asked to remove itself never finishes.
			return "", fmt.Errorf("%s is the only voter", v.Called())
		case time.Since(asked) < 2*time.Second:
			return v.Called() + " is still a member", nil
		}
		asked = time.Now()
		err = s.admin(ctx, "$JS.API.SERVER.REMOVE", map[string]string{"peer_id": peerID}, nil)
		if err != nil && !isAPIError(err, errNotMember, errMemberChange) {
			return err.Error(), nil
		}
		return v.Called() + " was asked to go", nil
	})
	if err != nil {
		return unavailable("removing "+peerID, err)
	}
	return nil
}
