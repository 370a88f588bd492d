package natsstore

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Survivor is a voter that answers, and how far its own copy goes.
type Survivor struct {
	Name   string         `json:"name"`
	Facts  store.Revision `json:"facts"`
	Ledger store.Revision `json:"ledger"`
}

// Survivors asks every core how far its own copy goes, also without a quorum. Errors: store.unavailable.
func (s *Store) Survivors(ctx context.Context) ([]Survivor, error) {
	body := map[string]any{"account": natsconf.AccountStore, "accounts": true, "streams": true, "config": true}
	var out []Survivor
	visits := each[coreReport](ctx, s, "JSZ", body)
	for _, v := range visits {
		if v.err != nil {
			continue
		}
		one := Survivor{Name: v.server.Name}
		for _, a := range v.answer.Accounts {
			for _, st := range a.Streams {
				switch st.Name {
				case natsconf.FactsStream(s.cfg.Generation):
					one.Facts = store.Revision(st.State.LastSeq)
				case natsconf.LedgerStream(s.cfg.Generation):
					one.Ledger = store.Revision(st.State.LastSeq)
				}
			}
		}
		out = append(out, one)
	}
	if len(out) == 0 {
		_, err := s.Topology(ctx)
		return nil, err
	}
	slices.SortFunc(out, func(a, b Survivor) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Recovery is how to go on after a quorum was lost for good.
type Recovery struct {
	// InPlace says that a surviving voter holds all that anybody holds: Rescue, and keep the generation.
	InPlace bool `json:"in_place"`
	// From is whose copy is the longest: a voter's server name, or a machine whose mirror to re-form from.
	From string         `json:"from"`
	Last store.Revision `json:"last"`
	// Odd are machines whose mirror disagrees with the others at the same revision: not to be used.
	Odd []string `json:"odd,omitempty"`
}

// ChooseCopy decides between a rescue in place and re-forming from a mirror. A survivor may be behind
// a mirror: it may have been down when the last facts were written. Going on from it would make the
// mirrors mix two histories. It is pure.
func ChooseCopy(survivors []Survivor, mirrors []NamedDigest) Recovery {
	odd := OddOnes(mirrors)
	var r Recovery
	for _, m := range odd {
		r.Odd = append(r.Odd, m.Name)
	}
	for _, m := range slices.SortedFunc(slices.Values(mirrors), func(a, b NamedDigest) int { return strings.Compare(a.Name, b.Name) }) {
		if !slices.Contains(r.Odd, m.Name) && (r.From == "" || m.Digest.Last > r.Last) {
			r.From, r.Last = m.Name, m.Digest.Last
		}
	}
	for _, s := range slices.SortedFunc(slices.Values(survivors), func(a, b Survivor) int { return cmp.Compare(b.Facts, a.Facts) }) {
		if s.Facts >= r.Last {
			return Recovery{true, s.Name, s.Facts, r.Odd}
		}
	}
	return r
}

// Rescue lets the voters that survive go on without the abandoned ones, which the operator named: the
// quorum is lowered for as long as it takes, the abandoned are removed, and facts and ledger get as many
// copies as there are voters. Fence the abandoned first: remove them from the mesh and change the
// route secret, since together they might still be a quorum. It may be repeated.
//
// doing is told what it waits for.
//
// Errors: store.not-rescuable (an abandoned voter answers, or one that was not named does not),
// store.unavailable.
func (s *Store) Rescue(ctx context.Context, abandoned []string, doing func(string)) error {
	t, err := s.Topology(ctx)
	if err != nil {
		return err
	}
	if err := rescuable(t, abandoned); err != nil {
		return err
	}
	if t.Leader == "" {
		doing("waiting until those that are left elect a leader by themselves: up to 20 seconds")
		if err := s.lowerQuorum(ctx, len(t.Voters)-len(t.lost(abandoned))); err != nil {
			return err
		}
	}
	for _, v := range t.lost(abandoned) {
		doing("taking " + v.Called() + " out of the core")
		if err := s.expel(ctx, v.Peer); err != nil {
			return err
		}
	}
	doing("waiting until facts and ledger are whole on those that are left")
	return s.Scale(ctx, len(t.Voters)-len(t.lost(abandoned)))
}

// lost are the members that the abandoned names mean.
func (t Topology) lost(abandoned []string) []Voter {
	var out []Voter
	for _, v := range t.Voters {
		if slices.ContainsFunc(abandoned, func(name string) bool { return v.Peer == name || v.Peer == PeerID(name) }) {
			out = append(out, v)
		}
	}
	return out
}

// rescuable compares what the operator said with what is seen.
func rescuable(t Topology, abandoned []string) error {
	lost := t.lost(abandoned)
	for _, v := range t.Voters {
		gone := slices.ContainsFunc(lost, func(l Voter) bool { return l.Peer == v.Peer })
		switch {
		case gone && v.Answers:
			return notRescuable(v, "%s answers, so it is not lost", "remove it in the ordinary way, or switch it off")
		case !gone && !v.Answers:
			return notRescuable(v, "%s does not answer, and was not named as lost", "bring it back, or name it too")
		}
	}
	if len(lost) == len(t.Voters) {
		return api.Errorf(api.CodeStoreNotRescuable, "no voter is left to go on with").WithHint("restore from a mirror or a backup")
	}
	return nil
}

func notRescuable(v Voter, format, hint string) error {
	return api.Errorf(api.CodeStoreNotRescuable, format, v.Called()).About(v.Called()).WithHint("%s", hint)
}

// lowerQuorum asks the survivors, each of which decides for itself, and waits for a leader. An
// election takes up to six seconds.
func (s *Store) lowerQuorum(ctx context.Context, survivors int) error {
	lowered := time.Time{}
	return s.awaitTopology(ctx, "the survivors", func(t Topology) string {
		if t.Leader != "" {
			return ""
		}
		if time.Since(lowered) < 10*time.Second {
			return "they have not elected a leader"
		}
		// Refused for as long as they still believe in the dead one.
		err := s.admin(ctx, "$JS.API.META.RESCUE", map[string]int{"quorum_needed": survivors/2 + 1}, nil)
		if err == nil {
			lowered = time.Now()
		}
		return fmt.Sprintf("they were asked to elect a leader: %v", err)
	})
}

// Reform fills this store, of a new generation on a core that was just founded, from the mirror of an older
// generation on the same machine: the way back when no voter holds what this mirror holds. The spool
// is a file of the caller's to work in, empty, and needed no more afterwards. What is true of Restore is
// true here.
func (s *Store) Reform(ctx context.Context, old *Store, cluster string, spool io.ReadWriteSeeker) (Manifest, error) {
	m, err := old.Backup(ctx, spool, cluster)
	if err != nil {
		return m, err
	}
	b, err := OpenBackup(spool, m.Digest)
	if err != nil {
		return m, err
	}
	return m, s.Restore(ctx, b, cluster)
}
