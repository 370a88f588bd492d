package sim

import (
	"hash/fnv"
	"time"
)

// dice decides by name: the same name falls the same way in every run of a seed, in whatever order things
// are asked. So a run can be repeated though goroutines are not in order.
type dice uint64

func (d dice) roll(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	// The finaliser of splitmix64: neighbouring seeds and names must not fall alike.
	x := h.Sum64() ^ uint64(d)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// chance is true in p of all names.
func (d dice) chance(p float64, name string) bool {
	return float64(d.roll(name)>>11)/(1<<53) < p
}

// between is a time from low to high, down to the odd nanosecond.
func (d dice) between(low, high time.Duration, name string) time.Duration {
	return low + time.Duration(d.roll(name)%uint64(high-low+1))
}
