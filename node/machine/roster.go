package machine

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Roster is the cluster's membership as this machine last read it: a copy of facts on its own disk, from which
// mesh and store are configured also while no store answers.
type Roster struct {
	// Revision is how far the copy was read.
	Revision store.Revision `json:"revision"`
	Cluster  Cluster        `json:"cluster"`
	Members  []Member       `json:"members"`
	// Tokens are the open invitations that this machine itself gave.
	Tokens []Token `json:"tokens,omitempty"`
	// Unreadable are the facts in whose place an older roster stands.
	Unreadable []*api.Error `json:"unreadable,omitempty"`
}

// Reader is the part of a store that a roster is read from; store.View is.
type Reader interface {
	Lister
	Get(ctx context.Context, key store.Key) (store.Fact, error)
}

// ReadRoster reads the membership from the machine's own mirror. Tokens of others, and those whose time is up,
// are left out. Of a fact that cannot be read stays what last has. Errors: store.not-found (no cluster fact),
// store.fact-unreadable (the cluster fact, and last has none), store.unavailable.
func ReadRoster(ctx context.Context, view Reader, self string, now time.Time, last Roster) (Roster, error) {
	var r Roster
	fact, err := view.Get(ctx, store.Cluster())
	if err != nil {
		return r, err
	}
	r.Revision = fact.Revision
	if err := store.Decode(fact, &r.Cluster); err != nil {
		if last.Cluster.ID == "" {
			return r, err
		}
		r.Cluster, r.Unreadable = last.Cluster, []*api.Error{api.AsError(err)}
	}
	var unread []*api.Error
	if r.Members, unread, err = Readable(ctx, view); err != nil {
		return r, err
	}
	r.Unreadable = append(r.Unreadable, unread...)
	r.Members = withLast(r.Members, unread, last)
	tokens, err := Tokens(ctx, view)
	r.Tokens = slices.DeleteFunc(tokens, func(t Token) bool { return t.Machine != self || !now.Before(t.Closes()) })
	return r, err
}

// withLast puts what was last known of members in the place of those that cannot be read.
func withLast(members []Member, unread []*api.Error, last Roster) []Member {
	for _, e := range unread {
		if was, known := last.Self(store.Key(e.Subject).Last()); known {
			members = append(members, was)
		}
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return members
}

// Self finds the machine with an id; false when it is no member any more.
func (r Roster) Self(id string) (Member, bool) {
	at := slices.IndexFunc(r.Members, func(m Member) bool { return m.ID == id })
	if at < 0 {
		return Member{}, false
	}
	return r.Members[at], true
}

// Keep adds the members of an older roster that are gone from this one, and the voters of the same kind, so that
// they can still be spoken to: what must be told to a machine that leaves is told after it has left.
func (r Roster) Keep(older Roster) Roster {
	for _, m := range older.Members {
		if _, there := r.Self(m.ID); !there {
			r.Members = append(slices.Clone(r.Members), m)
		}
	}
	return r
}

// rosterFile is the roster's name in the state folder.
const rosterFile = "roster.json"

// LoadRoster reads the copy on disk. Errors: fs.ErrNotExist; machine.identity-damaged.
func LoadRoster(state string) (Roster, error) {
	var r Roster
	text, err := os.ReadFile(filepath.Join(state, rosterFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return r, api.Errorf(api.CodeMachineDamaged, "%s is damaged: %w", rosterFile, err).About(state).
			WithHint("remove it; it is read again from the store's mirror")
	}
	return r, nil
}

// Save writes the copy durably.
func (r Roster) Save(state string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = durable.WriteFile(filepath.Join(state, rosterFile), append(text, '\n'), 0o600)
	}
	if err != nil {
		return api.Errorf(api.CodeInternal, "writing the roster: %w", err)
	}
	return nil
}

// RemoveRoster forgets the copy; safe when there is none.
func RemoveRoster(state string) error {
	if err := os.Remove(filepath.Join(state, rosterFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return api.Errorf(api.CodeInternal, "removing the roster: %w", err)
	}
	return nil
}
