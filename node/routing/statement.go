package routing

import (
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Statement is what a consumer says of one namespace: the answer to GET /applied?namespace=NS on
// its status socket.
type Statement struct {
	// Revision is that of the namespace's event which all of the consumer's processes serve. For a
	// namespace that is not served it is the revision up to which every event was looked at, so
	// that a removal can be waited for too; 0 while an event of it was looked at and none served.
	Revision  store.Revision `json:"revision"`
	Uncertain bool           `json:"uncertain,omitempty"`
	Why       string         `json:"why,omitempty"`
	// InFlight counts open requests and connections by instance, those of processes that are being
	// replaced included, whatever the instance's namespace. None is left out.
	InFlight map[string]int64 `json:"inFlight,omitempty"`
}

// Report is a consumer's whole word on routing: the answer to GET /freshness on its status socket.
type Report struct {
	PID     int       `json:"pid"`
	Version string    `json:"version,omitempty"`
	Started time.Time `json:"started"`
	Freshness
	// Rejected are the namespaces whose last event is not served, in order.
	Rejected   []string                   `json:"rejectedNamespaces,omitempty"`
	Namespaces map[string]NamespaceReport `json:"namespaces"`
}

// NamespaceReport is one namespace of a Report.
type NamespaceReport struct {
	// Sequence is the revision that is served, 0 for none.
	Sequence store.Revision `json:"sequence"`
	// Rejected is the event after it that is not.
	Rejected *Rejection `json:"rejected,omitempty"`
}

// Report says what the follower knows, and of each namespace at which revision it is served and
// why not at a later one. The process's own fields are left to the caller.
func (f *Follower) Report(served func(namespace string) store.Revision) Report {
	p := f.Projection()
	r := Report{Freshness: f.Freshness(), Namespaces: make(map[string]NamespaceReport, len(p.Namespaces))}
	for _, ns := range p.Names() {
		a := p.Namespaces[ns]
		at := served(ns)
		if a.Rejected == nil && at < a.Revision {
			a.Rejected = &Rejection{a.Revision, api.AsError(bad(ns, "cannot be served beside the other namespaces; see the consumer's log"))}
		}
		if a.Rejected != nil {
			r.Rejected = append(r.Rejected, ns)
		}
		r.Namespaces[ns] = NamespaceReport{at, a.Rejected}
	}
	return r
}

// Statement says what the follower knows of a namespace that the consumer serves at a revision, 0 for
// not at all.
func (f *Follower) Statement(namespace string, served store.Revision) Statement {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Statement{Revision: served, Uncertain: f.freshness.Uncertain, Why: f.freshness.Why}
	if _, ok := f.now.Namespaces[namespace]; !ok {
		s.Revision = f.now.Revision
	}
	return s
}

// Merge is the statement of two processes of one consumer: only what both serve is served.
func (s Statement) Merge(other Statement) Statement {
	s.Revision = min(s.Revision, other.Revision)
	if !s.Uncertain {
		s.Uncertain, s.Why = other.Uncertain, other.Why
	}
	in := make(map[string]int64, len(s.InFlight)+len(other.InFlight))
	for _, part := range []map[string]int64{s.InFlight, other.InFlight} {
		for instance, n := range part {
			in[instance] += n
		}
	}
	s.InFlight = in
	return s
}
