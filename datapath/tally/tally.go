// Package tally counts how long things take, cheaply enough for the packet path: one duration is two additions to
// memory that nobody locks.
//
// It needs nothing. It must never know what is being counted.
package tally

import (
	"sync/atomic"
	"time"
)

// Durations counts durations by size. Make one with New; it may be used from anywhere.
type Durations struct {
	bounds  []time.Duration
	buckets []atomic.Uint64 // one per bound for what is over the bound before, and one for the rest
	sum     atomic.Int64
}

// New tells durations apart at the bounds, which rise.
func New(bounds ...time.Duration) *Durations {
	return &Durations{bounds: bounds, buckets: make([]atomic.Uint64, len(bounds)+1)}
}

// Add counts one.
func (d *Durations) Add(took time.Duration) {
	i := 0
	for i < len(d.bounds) && took > d.bounds[i] {
		i++
	}
	d.buckets[i].Add(1)
	d.sum.Add(int64(took))
}

// Spread is what was counted up to a moment.
type Spread struct {
	Count uint64
	Sum   time.Duration
	// AtMost is, by bound in seconds, how many took at most so long.
	AtMost map[float64]uint64
}

// Spread returns what was counted. What is counted meanwhile may be in Sum already and not yet in Count.
func (d *Durations) Spread() Spread {
	s := Spread{AtMost: make(map[float64]uint64, len(d.bounds)), Sum: time.Duration(d.sum.Load())}
	for i := range d.buckets {
		s.Count += d.buckets[i].Load()
		if i < len(d.bounds) {
			s.AtMost[d.bounds[i].Seconds()] = s.Count
		}
	}
	return s
}
