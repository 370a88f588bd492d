package routing

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
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

// Report is what a consumer's status says of routing, under "routing".
type Report struct {
	Freshness
	Namespaces map[string]NamespaceReport `json:"namespaces"`
}

// NamespaceReport is one namespace of a Report.
type NamespaceReport struct {
	// Sequence is the revision that is served, 0 for none.
	Sequence store.Revision `json:"sequence"`
	// Rejected is the event after it that is not.
	Rejected *Rejection `json:"rejected,omitempty"`
}

// Report says what the follower knows; served is the revision a namespace is served at.
func (f *Follower) Report(served func(namespace string) store.Revision) Report {
	p := f.Projection()
	r := Report{Freshness: f.Freshness(), Namespaces: make(map[string]NamespaceReport, len(p.Namespaces))}
	for ns, a := range p.Namespaces {
		r.Namespaces[ns] = NamespaceReport{served(ns), a.Rejected}
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

// Asker asks a consumer's status socket for statements. It keeps its connection, so that asking
// every few milliseconds is cheap. It must not be copied.
type Asker struct{ client *http.Client }

// NewAsker asks at the Unix socket with that path, which need not be there yet.
func NewAsker(socket string) *Asker {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Asker{&http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DialContext: dial, MaxIdleConns: 2, IdleConnTimeout: 5 * time.Second,
	}}}
}

// Ask returns the statement of all of the consumer's processes, or with own that of the one that
// answers. Errors: those of the socket, api.CodeInternal for an answer that is none.
func (a *Asker) Ask(ctx context.Context, namespace string, own bool) (Statement, error) {
	query := url.Values{"namespace": {namespace}}
	if own {
		query.Set("own", "1")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://consumer/applied?"+query.Encode(), nil)
	if err != nil {
		return Statement{}, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return Statement{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return Statement{}, err
	}
	var s Statement
	if err := json.Unmarshal(text, &s); err != nil || resp.StatusCode != http.StatusOK {
		return Statement{}, api.Errorf(api.CodeInternal, "the answer %s to what is applied: %.200s", resp.Status, text)
	}
	return s, nil
}

// Close lets go of the connection.
func (a *Asker) Close() { a.client.CloseIdleConnections() }

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
