package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// plan is everything that is decided before a run begins.
type plan struct {
	seed     uint64
	machines int
	// spare are machines that may be admitted while the run goes on.
	spare   int
	asks    []ask
	faults  []fault
	weather weather
}

// ask is one operation that somebody asks a machine for.
type ask struct {
	at      time.Duration
	machine string
	kind    string
	// subject is a namespace, or a machine's name.
	subject string
	version int
	number  int
	// patience is when the caller cancels; 0 is never.
	patience time.Duration
}

func (a ask) String() string {
	return fmt.Sprintf("%s %s v%d #%d by %s", a.kind, a.subject, a.version, a.number, a.machine)
}

// fault is one thing that breaks, and for how long.
type fault struct {
	at, lasts time.Duration
	kind      string
	machine   string
	other     string // of a cut between two
}

func (f fault) String() string {
	return fmt.Sprintf("%s %s %s for %s", f.kind, f.machine, f.other, f.lasts.Round(time.Millisecond))
}

// weather is how often small things go wrong, in parts of one.
type weather struct {
	lost, doubled, late          float64 // of messages between machines
	rejected, unsent, unheard    float64 // of batches: refused, not sent, answer lost
	postponed                    float64 // of batches: without an answer now, landing later
	refuses, neverReady, crashes float64 // of instances
	slow                         float64 // of starts and stops
}

// active is how long a run is disturbed.
const active = 4 * time.Minute

// draw makes the plan of a seed.
func draw(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 0))
	p := plan{seed: seed, machines: size(seed, r), weather: drawWeather(r)}
	p.spare = 1 + r.IntN(3)
	for _, ns := range namespaces {
		if r.IntN(4) > 0 { // most of what can be asked for needs something to be there
			p.asks = append(p.asks, ask{kind: "deploy", machine: machineName(1), subject: ns, version: 1, number: 1 + r.IntN(4)})
		}
	}
	for range 3 + r.IntN(6) {
		p.asks = append(p.asks, p.drawAsks(r)...)
	}
	for range r.IntN(7) {
		p.faults = append(p.faults, p.drawFault(r))
	}
	if r.IntN(2) == 0 {
		p.drawDuel(r)
	}
	if p.machines > 1 && r.IntN(3) == 0 {
		p.drawParting(r)
	}
	return p
}

// drawDuel lets a coordinator sleep over its lease in the midst of a deploy, while another takes the scope: when it
// wakes up, it believes what was true a minute ago.
func (p *plan) drawDuel(r *rand.Rand) {
	one, two := p.drawAsk(r), p.drawAsk(r)
	one.at, one.kind, one.subject, one.patience = active, "deploy", namespaces[0], 0
	two.at, two.kind, two.subject = active+time.Duration(31+r.IntN(20))*time.Second, namespaceKinds[r.IntN(len(namespaceKinds))], one.subject
	p.asks = append(p.asks, one, two)
	p.faults = append(p.faults, fault{
		kind: "pause", machine: one.machine, at: one.at + time.Duration(r.Int64N(int64(100*time.Millisecond))),
		lasts: time.Duration(32+r.IntN(30)) * time.Second,
	})
}

// drawParting removes a machine at nearly the moment at which a deploy may choose it.
func (p *plan) drawParting(r *rand.Rand) {
	one, two := p.drawAsk(r), p.drawAsk(r)
	one.at, one.kind, one.subject, one.patience = active+2*time.Minute, "deploy", namespaces[1], 0
	two.at, two.kind, two.subject, two.patience = one.at+time.Duration(r.Int64N(int64(100*time.Millisecond))), "remove", p.someMachine(r, p.machines), 0
	if r.IntN(2) == 0 {
		one.at, two.at = two.at, one.at
	}
	p.asks = append(p.asks, one, two)
}

// size is mostly small: what goes wrong between three machines is found there sooner.
func size(seed uint64, r *rand.Rand) int {
	switch {
	case seed%500 == 499:
		return 200
	case r.IntN(100) == 0:
		return 13 + r.IntN(30)
	case r.IntN(4) == 0:
		return 6 + r.IntN(7)
	}
	return 1 + r.IntN(5)
}

func drawWeather(r *rand.Rand) weather {
	some := func(most float64) float64 {
		if r.IntN(3) > 0 {
			return 0
		}
		return r.Float64() * most
	}
	return weather{
		lost: some(0.05), doubled: some(0.2), late: some(0.05),
		rejected: some(0.2), unsent: some(0.1), unheard: some(0.2), postponed: some(0.1),
		refuses: some(0.2), neverReady: some(0.2), crashes: some(0.1), slow: some(0.3),
	}
}

// coordinators are how many machines are asked for anything: few, so that they meet.
const coordinators = 3

func (p plan) someMachine(r *rand.Rand, among int) string {
	return machineName(1 + r.IntN(min(p.machines, among)))
}

func machineName(n int) string { return fmt.Sprintf("m%d", n) }

// drawAsks draws one, and often a second at nearly the same moment on another machine: scopes that nobody
// disputes prove nothing.
func (p plan) drawAsks(r *rand.Rand) []ask {
	one := p.drawAsk(r)
	one.at = time.Duration(r.Int64N(int64(active)))
	if r.IntN(2) == 0 {
		return []ask{one}
	}
	two := p.drawAsk(r)
	if r.IntN(2) == 0 {
		two.subject, two.kind = one.subject, one.kind
	}
	two.at = one.at + time.Duration(r.Int64N(int64(40*time.Second)))
	if r.IntN(3) == 0 {
		two.at = one.at + time.Duration(r.Int64N(int64(time.Millisecond)))
	}
	return []ask{one, two}
}

// What is asked for, by how often.
var (
	namespaceKinds = []string{"deploy", "deploy", "deploy", "deploy", "scale", "scale", "rollback", "restart", "rm", "clear"}
	kinds          = append(slices.Clone(namespaceKinds), "set", "admit", "admit", "remove", "voters")
)

func (p plan) drawAsk(r *rand.Rand) ask {
	a := ask{
		kind: kinds[r.IntN(len(kinds))], machine: p.someMachine(r, coordinators),
		subject: namespaces[r.IntN(len(namespaces))], version: 1 + r.IntN(3), number: 1 + r.IntN(4),
	}
	switch a.kind {
	case "set", "remove":
		a.subject = p.someMachine(r, p.machines)
	case "admit":
		a.subject = machineName(p.machines + 1 + r.IntN(p.spare))
	}
	if a.kind == "voters" {
		a.number = []int{0, 1, 3, 3}[a.number-1]
	}
	if r.IntN(8) == 0 {
		a.patience = time.Duration(r.Int64N(int64(10 * time.Second)))
	}
	return a
}

var namespaces = []string{"shop", "blog"}

var faultKinds = []string{"death", "death", "pause", "pause", "cut", "apart", "store away", "cut off"}

// drawFault hits an operation under way, most of which take less than a tenth of a second.
func (p plan) drawFault(r *rand.Rand) fault {
	hit := p.asks[r.IntN(len(p.asks))]
	f := fault{
		kind: faultKinds[r.IntN(len(faultKinds))], machine: hit.machine, other: p.someMachine(r, p.machines),
		at: hit.at + time.Duration(r.Int64N(int64(150*time.Millisecond))), lasts: time.Duration(r.Int64N(int64(50 * time.Second))),
	}
	if r.IntN(3) == 0 {
		f.machine = p.someMachine(r, p.machines)
	}
	return f
}
