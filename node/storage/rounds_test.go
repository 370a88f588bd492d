package storage_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

const mb = 1_000_000

// full is the first round of 10 GB at 100 MB/s.
var full = storage.Round{Bytes: 10_000 * mb, Took: 100 * time.Second}

func TestPlanRound(t *testing.T) {
	for _, c := range []struct {
		name string
		r    storage.Rounds
		next storage.Next
		stop time.Duration
		says []string
	}{
		{
			name: "after the first, what was written meanwhile is much",
			r:    storage.Rounds{Done: []storage.Round{full}, LeftBytes: 1000 * mb, Since: 100 * time.Second, Fixed: time.Second},
			next: storage.NextRound, stop: 11 * time.Second, says: []string{"from 11s to about 2s"},
		},
		{
			name: "little is left, and a round would bring little",
			r: storage.Rounds{
				Done: []storage.Round{full, {Bytes: 1000 * mb, Took: 10 * time.Second, Span: 100 * time.Second}}, LeftBytes: 10 * mb, Since: time.Second,
				Overhead: 500 * time.Millisecond, Fixed: time.Second, MaxStop: 5 * time.Second,
			},
			next: storage.NextCutOver, stop: 1100 * time.Millisecond, says: []string{"1.1s", "10000000 bytes", "100.0 MB/s", "1s besides"},
		},
		{
			name: "nothing was written",
			r:    storage.Rounds{Done: []storage.Round{full}, Since: time.Minute, Fixed: time.Second, MaxStop: time.Second},
			next: storage.NextCutOver, stop: time.Second,
		},
		{
			name: "it fits, and another round is worth it",
			r:    storage.Rounds{Done: []storage.Round{full}, LeftBytes: 400 * mb, Since: 100 * time.Second, Fixed: 100 * time.Millisecond, MaxStop: 5 * time.Second},
			next: storage.NextRound, stop: 4100 * time.Millisecond,
		},
		{
			name: "more is written than carried",
			r:    storage.Rounds{Done: []storage.Round{full}, LeftBytes: 12_000 * mb, Since: 100 * time.Second, MaxStop: 10 * time.Second},
			next: storage.NextRefuse, stop: 120 * time.Second, says: []string{"120.0 MB/s are written", "100.0 MB/s are carried", "2m0s now", "10s"},
		},
		{
			name: "more is written than carried, and any stop is allowed",
			r:    storage.Rounds{Done: []storage.Round{full}, LeftBytes: 12_000 * mb, Since: 100 * time.Second},
			next: storage.NextCutOver, stop: 120 * time.Second,
		},
		{
			name: "more is written than carried, and what is left fits all the same",
			r:    storage.Rounds{Done: []storage.Round{full}, LeftBytes: 120 * mb, Since: time.Second, MaxStop: 2 * time.Second},
			next: storage.NextCutOver, stop: 1200 * time.Millisecond,
		},
		{
			name: "the rounds shrink, but not so far",
			r: storage.Rounds{
				Done: []storage.Round{full}, LeftBytes: 9000 * mb, Since: 100 * time.Second,
				Overhead: time.Second, Fixed: time.Second, MaxStop: 9 * time.Second, // the least is 90 MB/s × 1 s / 0.1 = 900 MB
			},
			next: storage.NextRefuse, stop: 91 * time.Second, says: []string{"90.0 MB/s", "below 10s", "may take 9s"},
		},
		{
			name: "the rounds shrink far enough",
			r: storage.Rounds{
				Done: []storage.Round{full}, LeftBytes: 5000 * mb, Since: 100 * time.Second,
				Overhead: time.Second, Fixed: time.Second, MaxStop: 3 * time.Second,
			},
			next: storage.NextRound, stop: 51 * time.Second,
		},
		{
			name: "the fixed part alone is too long",
			r:    storage.Rounds{Done: []storage.Round{full}, LeftBytes: 1, Since: time.Minute, Fixed: 3 * time.Second, MaxStop: 2 * time.Second},
			next: storage.NextRefuse, stop: 3 * time.Second, says: []string{"nothing left", "3s", "2s"},
		},
		{
			name: "there were enough rounds",
			r: storage.Rounds{
				Done: []storage.Round{full, {Bytes: 2000 * mb, Took: 20 * time.Second, Span: 100 * time.Second}}, LeftBytes: 400 * mb, Since: 20 * time.Second,
				MaxStop: time.Second, MostRounds: 2,
			},
			next: storage.NextRefuse, stop: 4 * time.Second, says: []string{"after 2 rounds"},
		},
		{
			name: "a small round does not spoil the bandwidth",
			r: storage.Rounds{
				Done: []storage.Round{full, {Bytes: mb, Took: time.Second, Span: 100 * time.Second}}, LeftBytes: 100 * mb, Since: time.Millisecond,
				MaxStop: 2 * time.Second, Overhead: time.Second, Fixed: 900 * time.Millisecond,
			},
			next: storage.NextRound, stop: 1900 * time.Millisecond,
		},
	} {
		p := storage.PlanRound(c.r)
		if p.Next != c.next || (p.Stop-c.stop).Abs() > time.Millisecond {
			t.Errorf("%s: %+v, want %s with a stop of %s", c.name, p, c.next, c.stop)
		}
		for _, says := range c.says {
			if !strings.Contains(p.Why, says) {
				t.Errorf("%s: %q does not say %q", c.name, p.Why, says)
			}
		}
		err := p.Refusal("shop/data")
		if refused := c.next == storage.NextRefuse; refused != (api.CodeOf(err) == api.CodeVolumeNotConverging) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && api.AsError(err).Hint == "" {
			t.Errorf("%s: %v has no hint", c.name, err)
		}
	}
}

// migrate runs rounds in a world where written bytes and bandwidth are constant, and says how it ended and how long the
// stop then is.
func migrate(size, writtenPerSecond, bytesPerSecond float64, overhead, fixed, maxStop time.Duration) (p storage.RoundPlan, stop time.Duration, rounds int) {
	left, span := size, time.Duration(0)
	r := storage.Rounds{Overhead: overhead, Fixed: fixed, MaxStop: maxStop}
	for {
		wire := time.Duration(left / bytesPerSecond * float64(time.Second))
		r.Done = append(r.Done, storage.Round{Bytes: int64(left), Took: wire, Span: span})
		span = wire + overhead
		left = writtenPerSecond * span.Seconds()
		r.LeftBytes, r.Since = int64(left), span
		p = storage.PlanRound(r)
		if p.Next != storage.NextRound {
			return p, time.Duration(left/bytesPerSecond*float64(time.Second)) + fixed, len(r.Done)
		}
	}
}

// TestPlanRoundEnds: in a steady world it ends for every load; the stop that it states is the one that comes, never above
// the limit; and it refuses only where the limit cannot be had.
func TestPlanRoundEnds(t *testing.T) {
	const bandwidth = 100 * mb
	for _, size := range []float64{mb, 1000 * mb, 1_000_000 * mb} {
		for load := 0.0; load < 2; load += 0.05 {
			for _, maxStop := range []time.Duration{0, 500 * time.Millisecond, 2 * time.Second, time.Minute} {
				const overhead, fixed = 200 * time.Millisecond, 400 * time.Millisecond
				p, stop, rounds := migrate(size, load*bandwidth, bandwidth, overhead, fixed, maxStop)
				if rounds > 20 {
					t.Fatalf("%.0f bytes, load %.2f: %d rounds", size, load, rounds)
				}
				switch {
				case p.Next == storage.NextCutOver && (maxStop > 0 && stop > maxStop+time.Millisecond || math.Abs(stop.Seconds()-p.Stop.Seconds()) > 0.1*stop.Seconds()):
					t.Errorf("%.0f bytes, load %.2f: stated %s, was %s, allowed %s", size, load, p.Stop, stop, maxStop)
				case p.Next == storage.NextRefuse && maxStop == 0:
					t.Errorf("%.0f bytes, load %.2f: refused without a limit: %s", size, load, p.Why)
				case p.Next == storage.NextRefuse && load < 0.5 && maxStop >= 2*time.Second:
					t.Errorf("%.0f bytes, load %.2f, at most %s: refused: %s", size, load, maxStop, p.Why)
				}
			}
		}
	}
}
