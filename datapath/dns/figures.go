package dns

import (
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/ployz/ployz/datapath/tally"
)

// Figures are what a resolver process has counted since its start, in numbers only; Status has the rest.
type Figures struct {
	Counts
	Cache CacheStatus
	// Replies are those that were sent, by response code; codes above 15 count as what their lower four bits say.
	Replies map[string]uint64
	// Forward is how long forwarded queries took.
	Forward tally.Spread
}

// newForwardDurations tells what was remembered from what an upstream was asked for.
func newForwardDurations() *tally.Durations {
	return tally.New(100*time.Microsecond, time.Millisecond, 5*time.Millisecond, 10*time.Millisecond, 25*time.Millisecond, 50*time.Millisecond,
		100*time.Millisecond, 250*time.Millisecond, time.Second, 2500*time.Millisecond)
}

// replies count sent ones by the response code of their header.
type replies [16]atomic.Uint64

func (r *replies) sent(reply []byte) {
	if len(reply) >= headerLen {
		r[reply[3]&15].Add(1)
	}
}

// Figures returns the numbers of now; those of different kinds are not of one instant.
func (s *Server) Figures() Figures {
	f := Figures{Counts: s.count.counts(), Cache: s.Forwarder.cacheStatus(), Replies: map[string]uint64{}, Forward: s.count.forward.Spread()}
	for code := range s.count.replies {
		if name, known := dns.RcodeToString[code]; known {
			f.Replies[name] = s.count.replies[code].Load()
		}
	}
	return f
}
