package gateway

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Back-off of an upstream that could not be reached: doubles from first to longest.
const (
	backOffFirst   = 250 * time.Millisecond
	backOffLongest = 5 * time.Second
)

type upstreamKey struct{ id, address string }

func (u Upstream) key() upstreamKey { return upstreamKey{u.ID, u.Address.String()} }

// upstream is what this process observes of an Upstream, across tables.
type upstream struct {
	id, address string
	inFlight    atomic.Int64 // requests and TCP connections
	asked       atomic.Uint64
	failures    atomic.Uint64 // failed attempts to reach it, ever
	inRow       atomic.Int32  // failed attempts since the last success
	backOffTo   atomic.Int64  // unix nanoseconds; 0 = none
}

func (u *upstream) failing(now time.Time) bool { return u.backOffTo.Load() > now.UnixNano() }

func (u *upstream) noteFailure(now time.Time) {
	u.failures.Add(1)
	n := min(u.inRow.Add(1), 10)
	d := min(backOffFirst<<(n-1), backOffLongest)
	// Spread over the second half, so that gateways do not come back all at once.
	d = d/2 + rand.N(d/2)
	u.backOffTo.Store(now.Add(d).UnixNano())
}

func (u *upstream) noteSuccess() {
	if u.inRow.Load() != 0 {
		u.inRow.Store(0)
		u.backOffTo.Store(0)
	}
}

// registry holds the observations of all upstreams that are in the table or still in flight.
type registry struct {
	mu  sync.Mutex
	all map[upstreamKey]*upstream // guarded by mu
}

func (g *registry) get(u Upstream) *upstream {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := u.key()
	if g.all == nil {
		g.all = map[upstreamKey]*upstream{}
	}
	if g.all[k] == nil {
		g.all[k] = &upstream{id: k.id, address: k.address}
	}
	return g.all[k]
}

// prune forgets upstreams that no table names and nobody uses.
func (g *registry) prune(named map[upstreamKey]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, u := range g.all {
		if !named[k] && u.inFlight.Load() == 0 {
			delete(g.all, k)
		}
	}
}

func (g *registry) list() []*upstream {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]*upstream, 0, len(g.all))
	for _, u := range g.all {
		out = append(out, u)
	}
	return out
}

// pool is the pickable upstreams of one route in one table; immutable.
type pool struct {
	live     []*upstream // not draining
	draining int
	hold     hold // while it is on, none of them gets anything new
}

// choose returns one of two random upstreams, the one with less in flight, leaving out those
// already tried; those in back-off only where nothing else is left. nil: none left.
func (p pool) choose(tried []*upstream, now time.Time) *upstream {
	if len(p.live) == 1 {
		if slices.Contains(tried, p.live[0]) {
			return nil
		}
		return p.live[0]
	}
	if len(tried) == 0 && len(p.live) > 1 {
		i := rand.IntN(len(p.live))
		j := rand.IntN(len(p.live) - 1)
		if j >= i {
			j++
		}
		a, b := p.live[i], p.live[j]
		if !a.failing(now) && !b.failing(now) {
			return lighter(a, b)
		}
	}
	return chooseAmong(p.candidates(tried, now))
}

// candidates is the slow way: the upstreams worth asking, when some fail or were tried.
func (p pool) candidates(tried []*upstream, now time.Time) []*upstream {
	var good, rest []*upstream
	for _, u := range p.live {
		switch {
		case slices.Contains(tried, u):
		case u.failing(now):
			rest = append(rest, u)
		default:
			good = append(good, u)
		}
	}
	if len(good) > 0 {
		return good
	}
	return rest
}

func chooseAmong(list []*upstream) *upstream {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	i := rand.IntN(len(list))
	j := (i + 1 + rand.IntN(len(list)-1)) % len(list)
	return lighter(list[i], list[j])
}

func lighter(a, b *upstream) *upstream {
	if b.inFlight.Load() < a.inFlight.Load() {
		return b
	}
	return a
}

// Causes of a request that no upstream answered.
var (
	errNoUpstream = errors.New("no upstream is ready")
	errRouteGone  = errors.New("the route has just been removed")
)

// maxAttempts bounds how many upstreams one request or connection is tried on.
const maxAttempts = 3

// acquire picks an upstream from the newest table and counts it as used. It looks at the table
// again after counting: whoever sees an upstream draining in the table and then nothing in
// flight can rely on nothing coming any more. Errors: errNoUpstream, errRouteGone, errOnHold.
func (s *Server) acquire(find func(*state) (pool, bool), tried []*upstream) (*upstream, error) {
	for {
		st := s.state.Load()
		p, ok := find(st)
		if !ok {
			return nil, errRouteGone
		}
		if p.hold.on() {
			return nil, errOnHold
		}
		u := p.choose(tried, time.Now())
		if u == nil {
			return nil, errNoUpstream
		}
		u.inFlight.Add(1)
		if s.state.Load() == st {
			u.asked.Add(1)
			return u, nil
		}
		u.inFlight.Add(-1)
	}
}
