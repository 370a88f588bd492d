package routing

import (
	"maps"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Projection is what a consumer serves from: the last good view of every namespace.
type Projection struct {
	Namespaces map[string]Applied `json:"namespaces"`
	// Revision is the highest store revision that has been looked at, rejected ones included.
	Revision store.Revision `json:"revision"`
	// Generation is the store's generation that Revision belongs to.
	Generation uint64 `json:"generation"`
}

// Applied is one namespace's last good view, and the event that was rejected after it, if any.
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

// with returns the projection after one change; the receiver is not modified, so that a consumer
// may keep reading it.
func (p Projection) with(change store.Change) Projection {
	next := Projection{Namespaces: maps.Clone(p.Namespaces), Revision: p.Revision, Generation: p.Generation}
	if next.Namespaces == nil {
		next.Namespaces = map[string]Applied{}
	}
	if change.Fact.Key == "" {
		return next
	}
	next.Revision = max(next.Revision, change.Fact.Revision)
	ns := change.Fact.Key.Last()
	if change.Removed {
		delete(next.Namespaces, ns)
		return next
	}
	next.Namespaces[ns] = p.Namespaces[ns].after(ns, change.Fact)
	return next
}

// after is the namespace once an event was looked at: replaced, or unchanged but for the rejection.
func (a Applied) after(ns string, fact store.Fact) Applied {
	if fact.Revision < a.Revision {
		err := bad(ns, "has revision %d, older than %d which is served", fact.Revision, a.Revision)
		a.Rejected = &Rejection{Revision: fact.Revision, Error: api.AsError(err)}
		return a
	}
	view, err := Decode(ns, fact.Value)
	if err != nil {
		a.Rejected = &Rejection{Revision: fact.Revision, Error: api.AsError(err)}
		return a
	}
	return Applied{View: view, Revision: fact.Revision, Written: fact.Written}
}

// Names returns the namespaces in order.
func (p Projection) Names() []string { return slices.Sorted(maps.Keys(p.Namespaces)) }
