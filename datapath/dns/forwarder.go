package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

// Forwarder asks upstream resolvers and remembers what they said. The fields must not be
// changed once it is in use.
type Forwarder struct {
	// Upstreams are asked in this order; those in ResolvConf come after them.
	Upstreams []netip.AddrPort
	// ResolvConf is a file whose nameserver lines name upstreams, or "". It is read again
	// when it has changed.
	ResolvConf string
	// Timeout is how long one upstream may take, over each of UDP and TCP.
	Timeout time.Duration
	// StaleAfter is how long a client waits for an upstream where a stale answer is there.
	StaleAfter time.Duration
	// StaleFor is how long an expired answer may be served while no upstream answers.
	StaleFor time.Duration
	// CacheBytes bounds the memory of remembered answers.
	CacheBytes int

	self    func(netip.AddrPort) bool // says which addresses are this resolver's own
	conf    resolvConf
	cache   *cache
	flights singleflight.Group
	hits    atomic.Int64
	misses  atomic.Int64
	stale   atomic.Int64

	mu     sync.Mutex
	health map[netip.AddrPort]*upstreamHealth // guarded by mu
}

// pauseAfterFailure is how long an upstream that failed is asked only after those that did not.
const pauseAfterFailure = 5 * time.Second

// UpstreamStatus is what was seen of an upstream since start. These are observations.
type UpstreamStatus struct {
	Address   netip.AddrPort `json:"address"`
	Answered  int            `json:"answered"`
	Failed    int            `json:"failed"`
	LastError string         `json:"lastError,omitempty"`
	FailedAt  time.Time      `json:"failedAt,omitzero"`
}

type upstreamHealth struct {
	UpstreamStatus
	avoidUntil time.Time
}

// NewForwarder returns one without upstreams and with the usual limits.
func NewForwarder() *Forwarder {
	return &Forwarder{
		Timeout:    1200 * time.Millisecond,
		StaleAfter: 1800 * time.Millisecond,
		StaleFor:   24 * time.Hour,
		CacheBytes: 8 << 20,
		self:       func(netip.AddrPort) bool { return false },
		cache:      newCache(),
		health:     map[netip.AddrPort]*upstreamHealth{},
	}
}

// fill completes the reply of an exchange with what an upstream says.
func (f *Forwarder) fill(x *exchange) {
	q := x.req.Question[0]
	key := upstreamKey{name: strings.ToLower(q.Name), qtype: q.Qtype, cd: x.req.CheckingDisabled}
	if opt := x.req.IsEdns0(); opt != nil {
		key.do = opt.Do()
	}
	m, stale, err := f.resolve(key)
	if err != nil || m.Truncated && x.tcp {
		x.server.count.failed.Add(1)
		x.reply.Rcode = dns.RcodeServerFailure
		x.explain(dns.ExtendedErrorCodeNoReachableAuthority, "")
		return
	}
	if stale {
		x.explain(staleCode(m.Rcode), "")
	}
	x.reply.Rcode, x.reply.Truncated = m.Rcode, m.Truncated
	x.reply.AuthenticatedData = m.AuthenticatedData && (x.req.AuthenticatedData || key.do)
	x.reply.Answer, x.reply.Ns, x.reply.Extra = m.Answer, m.Ns, withoutHopByHop(m.Extra)
	for _, rr := range x.reply.Answer {
		// The client's own spelling, which some check (0x20), instead of ours.
		if h := rr.Header(); strings.EqualFold(h.Name, q.Name) {
			h.Name = q.Name
		}
	}
}

func staleCode(rcode int) uint16 {
	if rcode == dns.RcodeNameError {
		return dns.ExtendedErrorCodeStaleNXDOMAINAnswer
	}
	return dns.ExtendedErrorCodeStaleAnswer
}

// withoutHopByHop drops what belongs to the exchange with the upstream alone.
func withoutHopByHop(rrs []dns.RR) []dns.RR {
	var out []dns.RR
	for _, rr := range rrs {
		if t := rr.Header().Rrtype; t != dns.TypeOPT && t != dns.TypeTSIG {
			out = append(out, rr)
		}
	}
	return out
}

// resolve returns a message that the caller may change. Errors: ErrNoUpstream, ErrUpstreams.
func (f *Forwarder) resolve(k upstreamKey) (m *dns.Msg, stale bool, err error) {
	now := time.Now()
	held, ok := f.cache.get(k, now, f.StaleFor)
	switch {
	case ok && now.Before(held.expires):
		f.hits.Add(1)
		return held.aged(now), false, nil
	case ok && now.Before(held.retry):
		f.stale.Add(1)
		return held.old(), true, nil
	}
	f.misses.Add(1)
	var patience <-chan time.Time
	if ok {
		timer := time.NewTimer(f.StaleAfter)
		defer timer.Stop()
		patience = timer.C
	}
	select {
	case r := <-f.shared(k):
		if r.Err == nil {
			return r.Val.(*dns.Msg).Copy(), false, nil
		}
		err = r.Err
	case <-patience:
		err = ErrUpstreams
	}
	if !ok {
		return nil, false, err
	}
	f.stale.Add(1)
	return held.old(), true, nil
}

// shared asks the upstreams, once for all who want to know the same at the same time.
func (f *Forwarder) shared(k upstreamKey) <-chan singleflight.Result {
	id := fmt.Sprint(k.qtype, k.do, k.cd, k.name)
	return f.flights.DoChan(id, func() (any, error) {
		m, err := f.ask(k)
		if err != nil {
			f.cache.postpone(k, time.Now().Add(staleRetry))
			return nil, err
		}
		f.cache.put(k, m, time.Now(), f.CacheBytes)
		return m, nil
	})
}

// ask tries one upstream after the other. A truncated answer is better than none.
func (f *Forwarder) ask(k upstreamKey) (*dns.Msg, error) {
	upstreams := f.order(time.Now())
	if len(upstreams) == 0 {
		return nil, ErrNoUpstream
	}
	var truncated *dns.Msg
	failures := []error{ErrUpstreams}
	for _, u := range upstreams {
		m, err := exchangeWith(u, k, f.Timeout)
		f.saw(u, err)
		if err == nil {
			return m, nil
		}
		if m != nil {
			truncated = m
		}
		failures = append(failures, err)
	}
	if truncated != nil {
		return truncated, nil
	}
	return nil, errors.Join(failures...)
}

// order returns the upstreams to ask: without ourselves, and those that failed of late last.
func (f *Forwarder) order(now time.Time) []netip.AddrPort {
	var good, avoided []netip.AddrPort
	all := append(append([]netip.AddrPort(nil), f.Upstreams...), f.conf.servers(f.ResolvConf, now)...)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range all {
		switch h := f.health[u]; {
		case f.self(u):
		case h != nil && now.Before(h.avoidUntil):
			avoided = append(avoided, u)
		default:
			good = append(good, u)
		}
	}
	return append(good, avoided...)
}

// maxHealth bounds what is remembered of upstreams that a changing ResolvConf named.
const maxHealth = 64

func (f *Forwarder) saw(u netip.AddrPort, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.health[u]
	if h == nil {
		if len(f.health) >= maxHealth {
			clear(f.health)
		}
		h = &upstreamHealth{UpstreamStatus: UpstreamStatus{Address: u}}
		f.health[u] = h
	}
	if err == nil {
		h.Answered++
		h.avoidUntil = time.Time{}
		return
	}
	h.Failed++
	h.LastError, h.FailedAt = err.Error(), time.Now()
	h.avoidUntil = h.FailedAt.Add(pauseAfterFailure)
}

// status lists the upstreams in the order in which they would be asked now.
func (f *Forwarder) status() []UpstreamStatus {
	var out []UpstreamStatus
	for _, u := range f.order(time.Now()) {
		f.mu.Lock()
		h := f.health[u]
		s := UpstreamStatus{Address: u}
		if h != nil {
			s = h.UpstreamStatus
		}
		f.mu.Unlock()
		out = append(out, s)
	}
	return out
}

// CacheStatus is what the forwarder remembers and how often that helped.
type CacheStatus struct {
	Entries int   `json:"entries"`
	Bytes   int   `json:"bytes"`
	Hits    int64 `json:"hits"`
	Misses  int64 `json:"misses"`
	Stale   int64 `json:"stale"` // answers served after they had expired
}

func (f *Forwarder) cacheStatus() CacheStatus {
	entries, bytes := f.cache.size()
	return CacheStatus{entries, bytes, f.hits.Load(), f.misses.Load(), f.stale.Load()}
}
