package dns

import (
	"container/list"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	maxTTL         = time.Hour        // longest that an upstream's answer counts as fresh
	maxNegativeTTL = 5 * time.Minute  // the same for one that says there is nothing
	staleTTL       = 30               // seconds, of a stale answer (RFC 8767 §4)
	staleRetry     = 30 * time.Second // pause after a failed refresh (RFC 8767 §5)
	entryOverhead  = 512              // bytes that an entry takes next to its message, roughly
)

// upstreamKey is what answers of upstreams are kept and shared by.
type upstreamKey struct {
	name   string // lower case, fully qualified
	qtype  uint16
	do, cd bool
}

// cached is one answer. msg is shared and must not be changed.
type cached struct {
	key     upstreamKey
	msg     *dns.Msg
	stored  time.Time
	expires time.Time // stale from here on
	retry   time.Time // no refresh before; set when one failed
	bytes   int
}

// aged returns a copy of the message with the time to live that is left.
func (c *cached) aged(now time.Time) *dns.Msg {
	age := uint32(max(0, now.Sub(c.stored)/time.Second))
	left := uint32(max(1, c.expires.Sub(now)/time.Second))
	return withTTL(c.msg, func(t uint32) uint32 { return max(1, min(t-min(t, age), left)) })
}

// old returns a copy of the message fit for serving stale.
func (c *cached) old() *dns.Msg {
	return withTTL(c.msg, func(uint32) uint32 { return staleTTL })
}

func withTTL(m *dns.Msg, change func(uint32) uint32) *dns.Msg {
	m = m.Copy()
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			rr.Header().Ttl = change(rr.Header().Ttl)
		}
	}
	return m
}

// cache keeps answers of upstreams, bounded in bytes; the longest unused one goes first.
type cache struct {
	mu    sync.Mutex
	byKey map[upstreamKey]*list.Element // guarded by mu; values are *cached
	order *list.List                    // guarded by mu; most recently used first
	bytes int                           // guarded by mu
}

func newCache() *cache {
	return &cache{byKey: map[upstreamKey]*list.Element{}, order: list.New()}
}

// get returns a copy of the entry, also a stale one that expired less than staleFor ago.
func (c *cache) get(k upstreamKey, now time.Time, staleFor time.Duration) (cached, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[k]
	if e == nil {
		return cached{}, false
	}
	held := e.Value.(*cached)
	if now.Sub(held.expires) > staleFor {
		c.dropLocked(e)
		return cached{}, false
	}
	c.order.MoveToFront(e)
	return *held, true
}

// put keeps an answer if it may be kept at all.
func (c *cache) put(k upstreamKey, m *dns.Msg, now time.Time, maxBytes int) {
	life := lifetime(m)
	size := m.Len() + len(k.name) + entryOverhead
	if life <= 0 || m.Truncated || size > maxBytes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[k]; e != nil {
		c.dropLocked(e)
	}
	c.byKey[k] = c.order.PushFront(&cached{key: k, msg: m, stored: now, expires: now.Add(life), bytes: size})
	c.bytes += size
	for c.bytes > maxBytes {
		c.dropLocked(c.order.Back())
	}
}

// postpone keeps a stale entry from being refreshed for a while.
func (c *cache) postpone(k upstreamKey, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[k]; e != nil {
		e.Value.(*cached).retry = until
	}
}

func (c *cache) size() (entries, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byKey), c.bytes
}

func (c *cache) dropLocked(e *list.Element) {
	held := c.order.Remove(e).(*cached)
	delete(c.byKey, held.key)
	c.bytes -= held.bytes
}

// lifetime is how long an answer counts as fresh, 0 if it must not be kept.
func lifetime(m *dns.Msg) time.Duration {
	if len(m.Answer) > 0 && m.Rcode == dns.RcodeSuccess {
		least := uint32(maxTTL / time.Second)
		for _, rr := range m.Answer {
			least = min(least, rr.Header().Ttl)
		}
		return time.Duration(least) * time.Second
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok { // RFC 2308 §5
			return min(maxNegativeTTL, time.Duration(min(soa.Hdr.Ttl, soa.Minttl))*time.Second)
		}
	}
	return 0
}
