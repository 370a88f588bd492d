package first_test

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// times is how often something is repeated: few times, or many with PLOYZ_TEST_LONG.
func times(few, many int) int {
	if os.Getenv("PLOYZ_TEST_LONG") != "" {
		return many
	}
	return few
}

// chance is a source of random moments whose seed is in the test's log.
func chance(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func TestDaemonKilled(t *testing.T) {
	m := onemachine.Found(t)
	m.DeployTown()
	random := chance(t)
	before := m.Starts("ployz-*.service")
	load := m.Bear(onemachine.Outside)
	var longest api.Duration
	for range times(10, 100) {
		m.KillDaemon()
		longest = max(longest, m.AwaitDaemon().Daemon.AdoptionTook)
		time.Sleep(time.Duration(random.Int64N(int64(300 * time.Millisecond)))) // any moment is a good one
	}
	load.PutDown()
	t.Logf("the longest adoption took %s", longest)
	wantUntouched(t, before, m.Starts("ployz-*.service"))
	wantUp(t, m)
	if drift := m.Status().Workloads.Drift; len(drift) > 0 {
		t.Errorf("drift: %+v", drift)
	}
}

// wantUntouched compares the start times of every unit but ployzd's own.
func wantUntouched(t *testing.T, before, after string) {
	t.Helper()
	for line := range strings.Lines(onemachine.Differences(before, after)) {
		if !strings.Contains(line, "ployzd.service") {
			t.Errorf("a unit was restarted: %s", line)
		}
	}
}
