package bench_test

import (
	"fmt"
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
// the commands to when all of them are ready: every command has ended, every machine lists and reaches all others, and serves.
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

// ready waits until every machine lists all of them, reaches each, and serves.
func ready(b *testing.B, m *onemachine.Machine, machines int) float64 {
	b.Helper()
	var list []api.MachineEntry
	m.JSON(&list, "machine", "ls")
	reach := []string{"bash", "-c", `for at; do exec 3<>"/dev/tcp/$at/7480" || exit 1; done`, "reach"}
	for _, x := range list {
		reach = append(reach, x.Overlay.String())
	}
	for n := 1; n <= machines; n++ {
		at := m.At(fmt.Sprintf("m%d", n))
		at.Eventually(at.Host+" to be ready", func() bool {
			at.JSON(&list, "machine", "ls")
			s := at.Status()
			up := s.Gateway.State == api.StateUp && s.DNS.State == api.StateUp && s.Store.State == api.StateUp
			return len(list) == machines && up && m.Try(at.Host, reach...).Status == 0
		})
	}
	return float64(machines)
}
