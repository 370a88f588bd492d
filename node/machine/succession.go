package machine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Source is what the store is formed anew from: a backup, or a machine's own copy.
type Source struct {
	// Facts are those of the source, with the revisions that they keep.
	Facts Reader
	// Machine is the id of the one whose copy it is.
	Machine    string
	Generation uint64
	// Digest is a backup's; "" for a copy.
	Digest string
	// Last is the copy's last revision.
	Last store.Revision
	// Taken is when; zero for a copy that is read now.
	Taken time.Time
}

// ends says in words where the source's history ends.
func (s Source) ends() string {
	if s.Taken.IsZero() {
		return fmt.Sprintf("from this machine's own copy, up to revision %d; what was committed after that, and is in no copy that answers, is lost", s.Last)
	}
	return fmt.Sprintf("from a backup of %s, up to revision %d; what was committed after that is lost", s.Taken.UTC().Format("2006-01-02 15:04:05Z"), s.Last)
}

// id is what a generation that is formed from the source remembers of it.
func (s Source) id() string {
	if s.Digest != "" {
		return s.Digest
	}
	return fmt.Sprintf("copy of %s in generation %d", s.Machine, s.Generation)
}

// succession is how the facts of a source become those of the next generation: one voter, the machines that stay as
// they are now, and nothing of those that are given up.
type succession struct {
	cluster    Cluster // as it will be, but for the operation
	stay, gone []Member

	drop []store.Key
	seen map[store.Key]store.Revision
}

func claimsOf(m Member) []store.Key {
	return []store.Key{store.Machine(m.ID), store.MachineName(m.Name), store.MachineSubnet(m.Number)}
}

// look notes what the facts, those of the source or of a store that has been filled from it, have of every machine.
// also are further keys to drop.
func (s *succession) look(ctx context.Context, facts Reader, also ...store.Key) error {
	had, err := Members(ctx, facts)
	if err != nil {
		return err
	}
	var keep []store.Key
	for _, m := range s.stay {
		keep = append(keep, claimsOf(m)...)
	}
	s.drop, s.seen = nil, map[store.Key]store.Revision{}
	for _, m := range had {
		also = append(also, claimsOf(m)...)
	}
	for _, key := range append(append(also, keep...), store.Cluster()) {
		fact, err := facts.Get(ctx, key)
		if err != nil && !store.IsNotFound(err) {
			return err
		}
		s.seen[key] = fact.Revision
		if err == nil && key != store.Cluster() && !slices.Contains(keep, key) {
			s.drop = append(s.drop, key)
		}
	}
	return nil
}

// batch writes the new generation's membership.
func (s *succession) batch(op string) ([]store.Put, error) {
	c := s.cluster
	c.Operation, c.Gone = op, s.gone
	facts := map[store.Key]any{store.Cluster(): c}
	for _, m := range s.stay {
		m.Operation = op
		facts[store.Machine(m.ID)], facts[store.MachineName(m.Name)], facts[store.MachineSubnet(m.Number)] = m, claim{Machine: m.ID}, claim{Machine: m.ID}
	}
	list, err := puts(facts, s.seen)
	for _, key := range s.drop {
		list = append(list, store.Put{Key: key, Remove: true, Expect: store.Expect(s.seen[key])})
	}
	return list, err
}

// changes say who is given up.
func (s *succession) changes(reason string) []api.Change {
	var list []api.Change
	for _, m := range s.gone {
		list = append(list, api.Change{Action: "remove", Subject: "machine " + m.Name, Machine: m.Name, From: m.Subnet4.String(), Reason: reason})
	}
	return list
}

// split splits members into those that a request gives up and the rest. Errors: machine.not-found.
func split(members, before []Member, abandon []string) (gone, stay []Member, err error) {
	for _, name := range abandon {
		m, err := Named(members, name)
		if err != nil {
			m, err = Named(before, name) // an earlier try committed
		}
		if err != nil {
			return nil, nil, err
		}
		gone = append(gone, m)
	}
	for _, m := range members {
		if !containsMember(gone, m) {
			stay = append(stay, m)
		}
	}
	return gone, stay, nil
}
