package tally

import (
	"maps"
	"sync"
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	d := New(time.Millisecond, 5*time.Millisecond, time.Second)
	for _, took := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 5 * time.Millisecond, time.Minute} {
		d.Add(took)
	}
	got := d.Spread()
	if want := map[float64]uint64{0.001: 2, 0.005: 4, 1: 4}; !maps.Equal(got.AtMost, want) || got.Count != 5 {
		t.Errorf("%+v, want %v and 5", got, want)
	}
	if want := time.Minute + 7*time.Millisecond + 1; got.Sum != want {
		t.Errorf("the sum is %s, want %s", got.Sum, want)
	}
}

func TestManyAtOnce(t *testing.T) {
	d := New(time.Second)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				d.Add(time.Millisecond)
			}
		})
	}
	all.Wait()
	if got := d.Spread(); got.Count != 8000 || got.AtMost[1] != 8000 || got.Sum != 8*time.Second {
		t.Errorf("%+v", got)
	}
}

func BenchmarkAdd(b *testing.B) {
	d := New(time.Millisecond, 5*time.Millisecond, 25*time.Millisecond, time.Second)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			d.Add(3 * time.Millisecond)
		}
	})
}
