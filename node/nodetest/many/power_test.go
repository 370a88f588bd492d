package many_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// TestPowerCutOfAll takes the power of all machines at one moment, while somebody writes without a pause: what
// was told as committed is there afterwards, on every machine.
func TestPowerCutOfAll(t *testing.T) {
	testenv.Require(t, testenv.Loop)
	m := found(t, dev.Options{Machines: 3, DiskImages: true})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	told := map[string][]string{} // by the machine that was asked
	for round := range times(2, 50) {
		var books []*scribe
		for _, host := range machines(3) {
			books = append(books, scribbleFrom(t, m, "book-"+host, round*10000, host))
		}
		time.Sleep(time.Second + time.Duration(random.Int64N(int64(2*time.Second)))) // any moment is a good one
		together(machines(3), m.Cut)
		for i, host := range machines(3) {
			told[host] = append(told[host], books[i].soFar(t)...)
		}
		together(machines(3), m.Boot)
		m.Eventually("the cluster to write again", func() bool { return write(m, "after/outage").Status == 0 })
		awaitAgreement(t, m, machines(3)...)
		for _, host := range machines(3) {
			wantKept(t, m.At(host), "book-"+host, told[host])
		}
	}
	for _, host := range machines(3) {
		if len(told[host]) == 0 {
			t.Errorf("nothing was committed at %s in all rounds", host)
		}
	}
}

// together does something to machines at the same time.
func together(hosts []string, do func(string)) {
	var all sync.WaitGroup
	for _, host := range hosts {
		all.Go(func() { do(host) })
	}
	all.Wait()
}
