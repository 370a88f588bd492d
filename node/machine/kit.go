package machine

import (
	"context"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// Kit is what the operations on memberships need from the composition root.
type Kit struct {
	Facts store.Facts
	Fleet Fleet
	Seats Seats
	// Packages reaches the appliance's own package on every machine.
	Packages Packages
	// Holds names the instances that the last commits of all namespaces have on a machine.
	Holds func(ctx context.Context, machine string) ([]string, error)
	// SealShared seals the key that all machines share to their recipients; nil where there is none.
	SealShared func(recipients []string) ([]byte, error)
	// Machine is the name of the one that coordinates.
	Machine string
	// Version is the program's own; see Compatible.
	Version string
	Now     func() time.Time
}

// Fleet reaches the machines of the cluster through their daemons.
type Fleet interface {
	// Obey waits, until ctx ends, for a machine to obey commands: one whose daemon is about to listen, as while it
	// joins, or whose edge is taken over anew, is not there for a moment. From then on it obeys none whose fence of
	// the scope is older than by's; a preview has none, and changes nothing. Errors: participant.absent,
	// participant.silent, operation.lease-lost.
	Obey(ctx context.Context, m Member, scope string, by operation.Situation) error
	// Follow waits until a machine's peers, and where it votes its store's users, are those of the facts
	// up to a revision. Errors: machine.not-followed, participant.absent, participant.silent.
	Follow(ctx context.Context, id string, revision store.Revision) error
	// Revoke makes sure that the store's cores let nobody in any more with a removed machine's keys.
	Revoke(ctx context.Context, gone Member) error
	// Leave tells a machine that it is none of the cluster's any more: it stops what serves and forgets who
	// it was. Its workloads' files stay.
	Leave(ctx context.Context, act *operation.Act, gone Member) error
}

// Seats changes who votes in the store's core: one seat at a time, each change safe to repeat.
type Seats interface {
	// Check returns what stands in the way of a change of seats: no leader, a voter that is behind, too few
	// voters for a majority afterwards. gone is about to leave, or zero; lost says that it will not answer.
	Check(ctx context.Context, gone Member, lost bool) ([]*api.Error, error)
	// Voting returns those of the given machines that have a seat in truth, whatever the facts say.
	Voting(ctx context.Context, members []Member) ([]Member, error)
	// Add gives a machine a seat, beside those that have one, and returns once the store has so many copies
	// of every fact, all of them current. Errors: store.*, participant.*.
	Add(ctx context.Context, act *operation.Act, m Member, beside []Member, copies int) error
	// Take takes a machine's seat away and wipes its core, unless it is lost. rest keep theirs.
	Take(ctx context.Context, act *operation.Act, m Member, rest []Member, lost bool) error
}

// read reads the cluster's fact and every membership.
func (k Kit) read(ctx context.Context, cluster *Cluster) ([]Member, error) {
	_, err := k.readCluster(ctx, cluster)
	if err != nil {
		return nil, err
	}
	return Members(ctx, k.Facts)
}

func (k Kit) readCluster(ctx context.Context, cluster *Cluster) (store.Revision, error) {
	fact, err := k.Facts.Get(ctx, store.Cluster())
	if err != nil {
		return fact.Revision, err
	}
	return fact.Revision, store.Decode(fact, cluster)
}

// obeyWithin is how long a machine that is to vote may take until it obeys commands. One that was just admitted has
// its parts to make first; several that join at once take turns on the store.
const obeyWithin = 45 * time.Second

// newcomersObey wants every machine that is to be given a seat to be there before any seat is begun: the facts know
// a machine from its admission on, and its daemon listens only once it has joined.
func (k Kit) newcomersObey(ctx context.Context, from, to []Member, scope string, by operation.Situation) []operation.Requirement {
	ctx, cancel := context.WithTimeout(ctx, obeyWithin)
	defer cancel()
	var needs []operation.Requirement
	for _, m := range to {
		if containsMember(from, m) {
			continue
		}
		need := operation.Requirement{Name: "who is to vote is there"}
		if err := k.Fleet.Obey(ctx, m, scope, by); err != nil {
			need.Unmet = notThere(m, err)
		}
		needs = append(needs, need)
	}
	return needs
}

// fenceWithin is how long a machine may take to hear that its scope has another coordinator.
const fenceWithin = 5 * time.Second

// takeOver shuts out whoever coordinated an operation on the scope that did not come to its end: he may be asleep, and
// wake up in the midst of it. From here on no machine that answers obeys him, so that what is seen then stays so. One
// that does not answer is not waited for: it may be the one that is to go.
func (k Kit) takeOver(ctx context.Context, members []Member, scope string, by operation.Situation) error {
	if by.Unfinished == nil || by.Fence == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fenceWithin)
	defer cancel()
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() { errs[i] = k.Fleet.Obey(ctx, m, scope, by) })
	}
	all.Wait()
	for _, err := range errs {
		if api.CodeOf(err) == api.CodeLeaseLost {
			return err
		}
	}
	return nil
}

func notThere(m Member, err error) *api.Error {
	switch code := api.CodeOf(err); code {
	case api.CodeParticipantAbsent, api.CodeParticipantSilent:
		return api.Errorf(code, "it is to vote, and obeys no command: %w", err).About(m.Name).Again().
			WithHint("see its own: ployzctl status; if it never came to an end with joining: ployzctl machine remove %s --lost", m.Name)
	}
	return api.AsError(err)
}

// followTimeout is what a machine gets to take a change of membership over. A peer takes a second.
const followTimeout = 20 * time.Second

// electionPause is the pause between two looks at a store without a leader.
const electionPause = 300 * time.Millisecond

// written is the revision of a key's last write. What was just committed may have cost the store its leader, as does a change
// of who reaches whom: the next one is waited for.
func (k Kit) written(ctx context.Context, key store.Key) (store.Revision, error) {
	for {
		fact, err := k.Facts.Get(ctx, key)
		switch {
		case err == nil || store.IsNotFound(err):
			return fact.Revision, nil
		case api.CodeOf(err) != api.CodeStoreUnavailable:
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, err
		case <-time.After(electionPause):
		}
	}
}

// follow is the step that waits until a machine has taken over what was committed under a key.
func (k Kit) follow(m Member, key store.Key) operation.Step {
	return operation.Step{
		Name: "followed by " + m.Name, Participant: m.Name, Timeout: followTimeout, Clear: "ployzctl machine ls",
		Do: func(ctx context.Context, act *operation.Act) error {
			at, err := k.written(ctx, key)
			if err != nil {
				return err
			}
			err = k.Fleet.Follow(ctx, m.ID, at)
			if api.CodeOf(err) == api.CodeParticipantSilent { // its answer may be lost with the connection that this very change ends
				err = k.Fleet.Follow(ctx, m.ID, at)
			}
			if api.CodeOf(err) == api.CodeParticipantAbsent {
				act.Note(m.Name + " is not there; it follows from its own mirror once it is back")
				return nil
			}
			return err
		},
	}
}
