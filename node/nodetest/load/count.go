package load

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Failure is one request that was not answered as wanted.
type Failure struct {
	// At is when it was sent.
	At   time.Time
	Load string
	Why  string
}

func (f Failure) String() string {
	return fmt.Sprintf("%s %s: %s", f.At.Format("15:04:05.000"), f.Load, f.Why)
}

// Count is what became of one load. The times are of right answers only.
type Count struct {
	Asked, Failed int
	Median, P99   time.Duration
	Longest       time.Duration
	LongestAt     time.Time
	took          []time.Duration
}

// Report is what became of a plan.
type Report struct {
	Took     time.Duration
	Counts   map[string]Count
	Failures []Failure
}

// Failed counts the failures of all loads.
func (r Report) Failed() int { return len(r.Failures) }

// Asked counts the requests of all loads.
func (r Report) Asked() (n int) {
	for _, c := range r.Counts {
		n += c.Asked
	}
	return n
}

// maxShown is how many failures String spells out.
const maxShown = 30

// String names every load with its figures, then each failure.
func (r Report) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.Counts)) {
		c := r.Counts[name]
		fmt.Fprintf(&b, "%-22s %6d asked, %d failed; median %s, 99%% %s, longest %s at %s\n", name, c.Asked, c.Failed,
			round(c.Median), round(c.P99), round(c.Longest), c.LongestAt.Format("15:04:05.000"))
	}
	for i, f := range r.Failures {
		if i == maxShown {
			fmt.Fprintf(&b, "and %d failures more\n", len(r.Failures)-i)
			break
		}
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// counter collects while a plan runs.
type counter struct {
	mu       sync.Mutex
	counts   map[string]*Count // guarded by mu
	failures []Failure         // guarded by mu
	answered chan string       // the name of a load at its first right answer
}

func newCounter(loads int) *counter {
	return &counter{counts: map[string]*Count{}, answered: make(chan string, loads)}
}

// add records one request that was sent at a time, and how it ended.
func (c *counter) add(name string, at time.Time, err error) {
	took := time.Since(at)
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.counts[name]
	if n == nil {
		n = &Count{}
		c.counts[name] = n
	}
	n.Asked++
	if err != nil {
		n.Failed++
		c.failures = append(c.failures, Failure{At: at, Load: name, Why: fmt.Sprintf("%v (after %s)", err, round(took))})
		return
	}
	if n.took = append(n.took, took); len(n.took) == 1 {
		c.answered <- name
	}
	if took > n.Longest {
		n.Longest, n.LongestAt = took, at
	}
}

func (c *counter) report(took time.Duration) Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := Report{Took: took, Counts: map[string]Count{}, Failures: slices.Clone(c.failures)}
	for name, n := range c.counts {
		if slices.Sort(n.took); len(n.took) > 0 {
			n.Median, n.P99 = n.took[len(n.took)/2], n.took[len(n.took)*99/100]
		}
		r.Counts[name] = *n
	}
	slices.SortFunc(r.Failures, func(a, b Failure) int { return a.At.Compare(b.At) })
	return r
}
