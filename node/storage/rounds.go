package storage

import (
	"fmt"
	"time"

	"github.com/ployz/ployz/node/api"
)

// A volume is moved while it is written: in full, then what was written meanwhile, and so on, until what is
// left is so little that the writer can be stopped for it. PlanRound says after each round what comes next.
//
// With a rate of writing g and a bandwidth b, a round that carries D bytes takes D/b + o, where o is what a
// round takes with nothing to carry, and leaves g × (D/b + o) for the next. So the rounds shrink where g < b,
// towards g × o / (1 - g/b) bytes and no further; and the stop is
//
//	what is left / b + the fixed part
//
// where the fixed part is everything else that happens inside it: to stop the writer, to snapshot, to mount and
// start on the other machine, to be ready, and to be routed to.

// Round is one that has been.
type Round struct {
	// Bytes went over the wire in Took, which does not count what would have passed without a byte.
	Bytes int64         `json:"bytes"`
	Took  time.Duration `json:"took"`
	// Span is the time in which what it carried was written: from the snapshot before to its own; 0 for the
	// first, which carried all.
	Span time.Duration `json:"span,omitempty"`
}

// Rounds is what is known of a migration between two rounds.
type Rounds struct {
	// Done are the rounds so far, oldest first.
	Done []Round
	// LeftBytes is what was written since the last one's snapshot, as a stream, within Since.
	LeftBytes int64
	Since     time.Duration
	// Overhead is what a round takes with nothing to carry.
	Overhead time.Duration
	// Fixed is what a stop takes with nothing left.
	Fixed time.Duration
	// MaxStop is the longest stop that is allowed; 0 takes the shortest that can be had.
	MaxStop time.Duration
	// MostRounds bounds them; 0 means 20.
	MostRounds int
}

// Next is what to do after a round.
type Next string

// What can come after a round.
const (
	NextRound   Next = "round"
	NextCutOver Next = "cut-over"
	NextRefuse  Next = "refuse"
)

// RoundPlan is the answer, with the numbers that it stands on.
type RoundPlan struct {
	Next Next `json:"next"`
	// BytesPerSecond is the bandwidth as measured, WrittenPerSecond the rate at which the volume is written.
	BytesPerSecond   float64 `json:"bytesPerSecond"`
	WrittenPerSecond float64 `json:"writtenPerSecond"`
	// Stop is the expected stop if the cut-over is now: LeftBytes/BytesPerSecond + Fixed. After is the one that
	// is expected after one more round, Least the one that no number of rounds gets below.
	Stop  time.Duration `json:"stop"`
	After time.Duration `json:"after"`
	Least time.Duration `json:"least"`
	// Why says it as a sentence, with the numbers.
	Why string `json:"why"`
}

const (
	defaultMostRounds = 20
	// worthIt is the part of the stop that a further round must take away: it costs bandwidth and time, and its
	// estimate is no better than that.
	worthIt = 0.2
	// telling is the part of the largest round's bytes that another must have to say something of the bandwidth.
	telling = 0.25
)

// PlanRound decides what comes after the rounds so far; it needs at least one. It is a pure function. Where the stop
// cannot be had, RoundPlan.Refusal is the error to give.
func PlanRound(r Rounds) RoundPlan {
	p := RoundPlan{BytesPerSecond: r.bandwidth(), WrittenPerSecond: r.written()}
	p.Stop = p.stop(float64(r.LeftBytes), r)
	p.After = p.stop(p.WrittenPerSecond*(float64(r.LeftBytes)/p.BytesPerSecond+r.Overhead.Seconds()), r)
	p.Least = p.least(r)
	p.decide(r)
	return p
}

func (p *RoundPlan) decide(r Rounds) {
	most := r.MostRounds
	if most == 0 {
		most = defaultMostRounds
	}
	fits := r.MaxStop == 0 || p.Stop <= r.MaxStop
	gain := float64(p.Stop - p.After)
	// Where the stop is not short enough yet, every round that shortens it is worth it, if enough of them can.
	better := fits && gain > worthIt*float64(p.Stop) || !fits && gain > 0 && p.Least <= r.MaxStop
	switch {
	case better && len(r.Done) < most:
		p.Next, p.Why = NextRound, fmt.Sprintf("another round takes the stop from %s to about %s", api.Rounded(p.Stop), api.Rounded(p.After))
	case fits:
		p.Next = NextCutOver
	case r.Fixed > r.MaxStop:
		p.Next, p.Why = NextRefuse, fmt.Sprintf("with nothing left to carry the stop takes about %s, and it may take %s", api.Rounded(r.Fixed), r.MaxStop)
	case p.WrittenPerSecond >= p.BytesPerSecond:
		p.Next, p.Why = NextRefuse, fmt.Sprintf("%s are written and %s are carried, so that what is left does not shrink; the stop would take %s now, and it may take %s",
			perSecond(p.WrittenPerSecond), perSecond(p.BytesPerSecond), api.Rounded(p.Stop), r.MaxStop)
	case p.Least > r.MaxStop:
		p.Next, p.Why = NextRefuse, fmt.Sprintf("%s are written and %s are carried: no number of rounds takes the stop below %s, and it may take %s",
			perSecond(p.WrittenPerSecond), perSecond(p.BytesPerSecond), api.Rounded(p.Least), r.MaxStop)
	default:
		p.Next, p.Why = NextRefuse, fmt.Sprintf("after %d rounds the stop would take %s, and it may take %s", len(r.Done), api.Rounded(p.Stop), r.MaxStop)
	}
	if p.Next == NextCutOver {
		p.Why = fmt.Sprintf("the stop takes about %s: %d bytes at %s, and %s besides", api.Rounded(p.Stop), r.LeftBytes, perSecond(p.BytesPerSecond), api.Rounded(r.Fixed))
	}
}

// Refusal is the error of a plan that refuses, about a volume; nil for others. Errors: volume.not-converging.
func (p RoundPlan) Refusal(volume string) error {
	if p.Next != NextRefuse {
		return nil
	}
	return api.Errorf(api.CodeVolumeNotConverging, "%s", p.Why).About(volume).Again().
		WithHint("nothing was stopped, and what was carried stays: allow a longer stop (--max-stop %s), or try again while less is written", p.Stop.Round(time.Second)+time.Second)
}

// bandwidth is the rate of the rounds that were large enough to tell it.
func (r Rounds) bandwidth() float64 {
	var largest int64
	for _, d := range r.Done {
		largest = max(largest, d.Bytes)
	}
	var bytes, seconds float64
	for _, d := range r.Done {
		if float64(d.Bytes) < telling*float64(largest) {
			continue
		}
		bytes += float64(d.Bytes)
		seconds += d.Took.Seconds()
	}
	return bytes / max(seconds, time.Millisecond.Seconds())
}

// written is the rate at which the volume is written at present: over what is left, if that is long enough to tell,
// else over the last round. Who writes the same pages again leaves less the longer one waits, so that the newest is the
// best.
func (r Rounds) written() float64 {
	last := Round{}
	if len(r.Done) > 0 {
		last = r.Done[len(r.Done)-1]
	}
	if r.Since >= time.Second || r.Since > 0 && last.Span == 0 {
		return float64(r.LeftBytes) / r.Since.Seconds()
	}
	if last.Span > 0 {
		return float64(last.Bytes) / last.Span.Seconds()
	}
	return 0
}

func (p RoundPlan) stop(leftBytes float64, r Rounds) time.Duration {
	return seconds(leftBytes/max(p.BytesPerSecond, 1)) + r.Fixed
}

// least is the stop that the rounds go towards; where they do not shrink it is the one now.
func (p RoundPlan) least(r Rounds) time.Duration {
	ratio := p.WrittenPerSecond / max(p.BytesPerSecond, 1)
	if ratio >= 1 {
		return p.Stop
	}
	return min(p.Stop, p.stop(p.WrittenPerSecond*r.Overhead.Seconds()/(1-ratio), r))
}

// longest bounds what a number of seconds is believed: a year.
const longest = 365 * 24 * 3600

func seconds(s float64) time.Duration { return time.Duration(min(s, longest) * float64(time.Second)) }

func perSecond(bytes float64) string { return fmt.Sprintf("%.1f MB/s", bytes/1e6) }
