package many_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/load"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// split is a partition between a minority and a majority of the voters, and who the minority must say is missing.
type split struct {
	small, large, missing []string
	linger                time.Duration // for which both sides are left alone
}

// Ten seconds is when the majority is to be writing again. Voters stand for election 4 to 6 s after they last heard of a
// leader, each in its turn; on a busy computer one may be late for it. TestEndurance tells how often; here it must not be more
// than three elections take.
const (
	writesWanted = 10 * time.Second
	writesWithin = 18 * time.Second
)

// happens makes the partition under load and writes, looks at both sides, and heals it.
func (s split) happens(t *testing.T, m *onemachine.Machine, p load.Plan) {
	book, running := scribble(t, m, "kept", s.large...), m.Load(labtest.Client, p)
	m.Partition(strings.Join(s.small, ","), strings.Join(s.large, ","))
	took := firstWrite(m.At(s.large[0]), "majority/after").Round(time.Millisecond)
	if t.Logf("the majority wrote again after %s", took); took > writesWithin {
		t.Error("that is too late")
	} else if took > writesWanted {
		t.Logf("that is later than it should be")
	}
	for _, host := range s.small {
		s.knowsIts(t, m.At(host))
	}
	for _, host := range s.small {
		refuses(t, m.At(host), s.missing)
	}
	time.Sleep(s.linger) // nor may it take its own core for the cluster's later on
	for _, host := range s.small {
		if now := m.At(host).Status(); !now.Store.Uncertain || !now.Gateway.Uncertain || !now.DNS.Uncertain {
			t.Errorf("a while later %s is sure of itself: store %+v, gateway %+v", host, now.Store, now.Gateway)
		}
	}
	m.Heal()
	begin := time.Now()
	for _, host := range s.small {
		m.Eventually(host+" to write", func() bool { return write(m.At(host), "majority/healed").Status == 0 })
	}
	t.Logf("the others wrote again %s after the heal", time.Since(begin).Round(time.Millisecond))
	wantNoneFailed(t, running)
	s.agree(t, m, book.end(t))
}

// firstWrite tries to write, twice a second and whatever became of the tries before, and returns how long it took
// until one worked.
func firstWrite(m *onemachine.Machine, place string) time.Duration {
	begin, worked := time.Now(), make(chan struct{}, 100)
	var tries sync.WaitGroup
	defer tries.Wait()
	for range cap(worked) {
		tries.Go(func() {
			if write(m, place).Status == 0 {
				worked <- struct{}{}
			}
		})
		select {
		case <-worked:
			return time.Since(begin)
		case <-time.After(500 * time.Millisecond):
		}
	}
	return time.Since(begin)
}

// knowsIts waits until a machine of the minority says that it does not know, and for how long.
func (s split) knowsIts(t *testing.T, m *onemachine.Machine) {
	t.Helper()
	m.Eventually(m.Host+" to say that it does not know", func() bool {
		now := m.Status()
		return now.Store.Uncertain && now.Gateway.Uncertain && now.DNS.Uncertain && now.Store.Age > api.Duration(5*time.Second)
	})
	if text := m.Must("status"); !strings.Contains(text, "uncertain") {
		t.Errorf("status: %s", text)
	}
}

// refuses wants a machine to refuse writing, with the names of who is missing.
func refuses(t *testing.T, m *onemachine.Machine, missing []string) {
	t.Helper()
	begin := time.Now()
	wantRefused(t, write(m, "minority/"+m.Host), api.CodeStoreUnavailable, append(missing, string(api.CodeStoreNoQuorum))...)
	if time.Since(begin) > refusedWithin {
		t.Error("that is too late")
	}
	t.Logf("%s refused within %s", m.Host, time.Since(begin).Round(time.Millisecond))
	begin = time.Now()
	wantRefused(t, m.Ctl("preview", "-f", m.File("compose.yaml", everywhere)), api.CodeStoreUnavailable, append(missing, string(api.CodeStoreNoQuorum))...)
	if took := time.Since(begin); took > refusedWithin {
		t.Errorf("a preview was refused after %s", took)
	}
	wantRefused(t, m.Ctl("deploy", "-f", m.File("compose.yaml", everywhere)), api.CodeStoreUnavailable, missing...)
}

// agree wants everybody to be sure again, of the same facts, with nothing lost that was told as committed.
func (s split) agree(t *testing.T, m *onemachine.Machine, told []string) {
	t.Helper()
	all := slices.Concat(s.small, s.large)
	awaitAgreement(t, m, all...)
	for _, host := range all {
		m.Eventually(host+" to be sure again", func() bool {
			now := m.At(host).Status()
			return !now.Store.Uncertain && !now.Gateway.Uncertain && !now.DNS.Uncertain
		})
		wantKept(t, m.At(host), "kept", told)
		wantKept(t, m.At(host), "majority", []string{"after", "healed"})
	}
	if r := m.Ctl("config", "ls", "minority", "-q"); strings.TrimSpace(r.Out) != "" {
		t.Errorf("told as refused, and there: %s", r.Out)
	}
}
