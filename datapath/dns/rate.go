package dns

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// limiterSlots bounds the memory of a limiter. Sources whose hashes collide share an allowance;
// the seed is secret, so nobody can aim at another.
const limiterSlots = 4096

// limiter caps queries per source with the virtual scheduling form of a leaky bucket: a slot
// holds the time at which its source will have used up what it took.
type limiter struct {
	seed  maphash.Seed
	slots [limiterSlots]atomic.Int64
}

func newLimiter() *limiter { return &limiter{seed: maphash.MakeSeed()} }

// allow takes one query from a source's allowance of perSecond, with a burst of one second's
// worth. perSecond of zero or less allows all.
func (l *limiter) allow(a netip.Addr, perSecond int, now time.Time) bool {
	return perSecond <= 0 || take(&l.slots[maphash.Comparable(l.seed, a)%limiterSlots], perSecond, now)
}

func take(slot *atomic.Int64, perSecond int, now time.Time) bool {
	cost := int64(time.Second) / int64(perSecond)
	at := now.UnixNano()
	for {
		used := slot.Load()
		next := max(used, at) + cost
		if next-at > int64(time.Second) {
			return false
		}
		if slot.CompareAndSwap(used, next) {
			return true
		}
	}
}
