package bench_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// inLab is how many machines are brought together.
const inLab = 10

// BenchmarkJoin adds machines to a cluster of one: one alone, five at once, and the rest of ten. Each time is that from
// the commands to when all of them are ready: every command has ended, every machine lists all others, and serves.
func BenchmarkJoin(b *testing.B) {
	for b.Loop() {
		m := onemachine.StartWith(b, dev.Options{Machines: inLab})
		m.Must("init")
		atMost(b, joined(b, m, 2, 2).Seconds(), 10, "s-one-alone")
		atMost(b, joined(b, m, 3, 7).Seconds(), 20, "s-five-at-once")
		b.ReportMetric(joined(b, m, 8, inLab).Seconds(), "s-the-rest-of-ten")
		b.ReportMetric(ready(b, m, inLab), "machines")
	}
}

// joined adds the machines from one number to another at once.
func joined(b *testing.B, m *onemachine.Machine, from, to int) time.Duration {
	b.Helper()
	begin, outcomes := time.Now(), make([]api.Outcome, to+1)
	took := make([]time.Duration, to+1)
	var all sync.WaitGroup
	for n := from; n <= to; n++ {
		all.Go(func() {
			m.JSON(&outcomes[n], "machine", "add", fmt.Sprintf("dev://%s/m%d", m.Name, n))
			took[n] = time.Since(begin).Round(time.Millisecond)
		})
	}
	all.Wait()
	for n := from; n <= to; n++ {
		if outcomes[n].Outcome != api.Committed {
			b.Fatalf("adding m%d ended %s: %s %+v", n, outcomes[n].Outcome, onemachine.Said(outcomes[n].Error), outcomes[n].Leftovers)
		}
		b.Logf("m%d: the command took %s, of which the join %s", n, took[n], time.Duration(outcomes[n].Took))
	}
	ready(b, m, to)
	b.Logf("m%d to m%d were ready after %s", from, to, time.Since(begin).Round(time.Millisecond))
	return time.Since(begin)
}

// ready waits until every machine lists all of them, and serves.
func ready(b *testing.B, m *onemachine.Machine, machines int) float64 {
	b.Helper()
	for n := 1; n <= machines; n++ {
		at := m.At(fmt.Sprintf("m%d", n))
		at.Eventually(at.Host+" to be ready", func() bool {
			var list []api.MachineEntry
			s := at.Status()
			at.JSON(&list, "machine", "ls")
			away := slices.ContainsFunc(list, func(x api.MachineEntry) bool { return x.Name != at.Host && x.Seen.State != api.SeenUp })
			return len(list) == machines && !away && s.Gateway.State == api.StateUp && s.DNS.State == api.StateUp && s.Store.State == api.StateUp
		})
	}
	return float64(machines)
}
