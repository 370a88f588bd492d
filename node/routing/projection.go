package routing

import (
	"maps"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Projection is what a consumer serves from: the last good view of every namespace. Once shown
// to a consumer it is never changed.
type Projection struct {
	Namespaces map[string]Applied `json:"namespaces"`
	// Revision is the store's revision up to which every event was looked at, rejected ones included.
	Revision store.Revision `json:"revision"`
	// Generation is the store's generation that Revision belongs to; 0 before anything was read.
	Generation uint64 `json:"generation"`
}

// Applied is one namespace's last good view, and the event that was rejected after it, if any.
// Revision 0 means that there is no view: every event so far was rejected.
type Applied struct {
	View     View           `json:"view"`
	Revision store.Revision `json:"revision"`
	Written  time.Time      `json:"written"`
	Rejected *Rejection     `json:"rejected,omitempty"`
}

// Rejection is an event that is not served, and why.
type Rejection struct {
	Revision store.Revision `json:"revision"`
	Error    *api.Error     `json:"error"`
}

// clone returns a projection that can be changed.
func (p Projection) clone() Projection {
	p.Namespaces = maps.Clone(p.Namespaces)
	if p.Namespaces == nil {
		p.Namespaces = map[string]Applied{}
	}
	return p
}

// inOrder refuses a change that a feed in order of revision cannot bring after the ones before.
// The same one again is harmless.
func (p Projection) inOrder(change store.Change) error {
	fact := change.Fact
	if fact.Key == "" || fact.Revision > p.Revision || fact.Revision == p.Namespaces[fact.Key.Last()].looked() {
		return nil
	}
	return api.Errorf(api.CodeStoreUnavailable, "the feed is out of order: %s came with revision %d after %d; the view is being rebuilt",
		fact.Key, fact.Revision, p.Revision)
}

// apply takes one change in. A bad event leaves the namespace at the view it has in last.
func (p *Projection) apply(change store.Change, last map[string]Applied, check func(View) error) {
	if change.Fact.Key == "" {
		return
	}
	p.Revision = max(p.Revision, change.Fact.Revision)
	ns := change.Fact.Key.Last()
	if change.Removed {
		delete(p.Namespaces, ns)
		return
	}
	p.Namespaces[ns] = last[ns].after(ns, change.Fact, check)
}

// after is the namespace once an event was looked at: replaced, or unchanged but for the rejection.
func (a Applied) after(ns string, fact store.Fact, check func(View) error) Applied {
	view, err := Decode(ns, fact.Value)
	if err == nil && check != nil {
		if cannot := check(view); cannot != nil {
			err = bad(ns, "cannot be served here: %w", cannot)
		}
	}
	if err != nil {
		a.Rejected = &Rejection{Revision: fact.Revision, Error: api.AsError(err)}
		return a
	}
	return Applied{View: view, Revision: fact.Revision, Written: fact.Written}
}

// looked is the revision of the namespace's last event, served or not.
func (a Applied) looked() store.Revision {
	if a.Rejected != nil {
		return max(a.Revision, a.Rejected.Revision)
	}
	return a.Revision
}

// Names returns the namespaces in order.
func (p Projection) Names() []string { return slices.Sorted(maps.Keys(p.Namespaces)) }
