package gateway

import (
	"net/http/httputil"
	"strings"
	"sync"
	"time"
)

// state is a Table made ready to serve; immutable and replaced as a whole.
type state struct {
	table    Table
	index    index
	tcp      map[uint16]*tcpRoute
	named    map[upstreamKey]bool // every upstream of the table
	draining map[upstreamKey]bool
	applied  map[string]time.Time // by namespace: when its sequence was first served
	replaced chan struct{}        // closed once another is served
	late     sync.Once            // said that something was held too long
}

// httpRoute is an HTTPRoute made ready to serve.
type httpRoute struct {
	HTTPRoute
	namespace string
	prefix    string // Path without trailing slash
	pool      pool
	proxy     *httputil.ReverseProxy
}

type tcpRoute struct {
	TCPRoute
	namespace string
	pool      pool
}

// Apply serves t from now on. A table that does not validate changes nothing and returns a
// *TableError. A port that cannot be listened on does not fail the rest; it shows in Status.
func (s *Server) Apply(t Table) error {
	if err := t.Validate(); err != nil {
		return err
	}
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	next := s.compile(t)
	close(s.state.Swap(next).replaced)
	s.openPorts(next)
	s.upstream.prune(next.named)
	return nil
}

// Table returns the table being served.
func (s *Server) Table() Table { return s.state.Load().table }

func (s *Server) compile(t Table) *state {
	st := &state{
		table: t, tcp: map[uint16]*tcpRoute{}, applied: s.appliedTimes(t),
		named: map[upstreamKey]bool{}, draining: map[upstreamKey]bool{}, replaced: make(chan struct{}),
	}
	var routes []*httpRoute
	for _, n := range t.Namespaces {
		for _, r := range n.HTTP {
			routes = append(routes, s.compileHTTP(st, n.Name, r))
		}
		for _, r := range n.TCP {
			st.tcp[r.Port] = &tcpRoute{r, n.Name, s.compilePool(st, r.Upstreams, holdOf(r.Hold, r.HoldFor, st.applied[n.Name]))}
		}
	}
	st.index = newIndex(routes)
	return st
}

func (s *Server) compileHTTP(st *state, namespace string, r HTTPRoute) *httpRoute {
	if r.Protocol == "" {
		r.Protocol = HTTP1
	}
	c := &httpRoute{HTTPRoute: r, namespace: namespace, prefix: strings.TrimRight(r.Path, "/")}
	c.pool = s.compilePool(st, r.Upstreams, holdOf(r.Hold, r.HoldFor, st.applied[namespace]))
	c.proxy = s.newProxy(c)
	return c
}

func (s *Server) compilePool(st *state, upstreams []Upstream, hold hold) pool {
	p := pool{hold: hold}
	for _, u := range upstreams {
		st.named[u.key()] = true
		if u.Draining {
			st.draining[u.key()] = true
			p.draining++
			continue
		}
		p.live = append(p.live, s.upstream.get(u))
	}
	return p
}

// appliedTimes keeps the time of namespaces whose sequence stays.
func (s *Server) appliedTimes(t Table) map[string]time.Time {
	before := map[string]uint64{}
	old := s.state.Load()
	if old != nil {
		for _, n := range old.table.Namespaces {
			before[n.Name] = n.Sequence
		}
	}
	times := map[string]time.Time{}
	for _, n := range t.Namespaces {
		times[n.Name] = time.Now()
		if seq, ok := before[n.Name]; ok && seq == n.Sequence {
			times[n.Name] = old.applied[n.Name]
		}
	}
	return times
}

// httpPool finds the pool of the same route in whatever table is the newest.
func (r *httpRoute) httpPool(st *state) (pool, bool) {
	now, _ := st.index.find(r.Host, r.prefix+"/")
	if now == nil || now.Host != r.Host || now.prefix != r.prefix {
		return pool{}, false
	}
	return now.pool, true
}
