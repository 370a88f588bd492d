package runc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/runtimetest"
)

// limited starts an instance with limits that waits to be asked.
func limited(t *testing.T, resources api.Resources) (r *Runtime, id string) {
	t.Helper()
	testenv.Require(t, testenv.Controllers)
	r, image := machine(t)
	spec := runtimetest.Spec(t, "", "serve")
	spec.Resources = resources
	launch(t, r, image, spec)
	return r, spec.ID
}

// TestLimitsBite asks for more than each limit allows, where the kernel has the controllers; what is asked for
// within them, and without them, is given.
func TestLimitsBite(t *testing.T) {
	t.Run("cpu", func(t *testing.T) {
		r, id := limited(t, api.Resources{CPUs: 0.2})
		var burnt time.Duration
		text := strings.TrimSpace(ask(t, r, id, "burn=3s"))
		if d, err := time.ParseDuration(strings.TrimPrefix(text, "burnt ")); err == nil {
			burnt = d
		}
		// A machine that shares its processor may give less, and one period more than the limit.
		if burnt <= 0 || burnt > 900*time.Millisecond {
			t.Errorf("0.2 processors for 3 s: %q", text)
		}
	})
	t.Run("memory", func(t *testing.T) {
		r, image := machine(t)
		testenv.Require(t, testenv.Controllers)
		for _, c := range []struct {
			name, eat string
			state     string
		}{{"enough", "eat=16", runtime.StateStopped}, {"too much", "eat=256", runtime.StateFailed}} {
			spec := runtimetest.Spec(t, strings.ReplaceAll(c.name, " ", ""), c.eat)
			spec.Job, spec.Resources.MemoryBytes = true, 64<<20
			launch(t, r, image, spec)
			eventually(t, c.name+" ended", func() bool { return look(t, r, spec.ID).State == c.state })
			if o := look(t, r, spec.ID); c.state == runtime.StateFailed && o.ExitCode != 137 {
				t.Errorf("%s: exit code %d, want 137 (killed)", c.name, o.ExitCode)
			}
		}
	})
	t.Run("pids", func(t *testing.T) {
		const wanted = 24
		free, freeID := limited(t, api.Resources{})
		if got := ask(t, free, freeID, fmt.Sprintf("fork=%d", wanted)); got != fmt.Sprintf("forked %d\n", wanted) {
			t.Errorf("without a limit: %q", got)
		}
		r, id := limited(t, api.Resources{PIDs: 40}) // a Go program is several threads
		got := ask(t, r, id, fmt.Sprintf("fork=%d", wanted))
		if n := 0; !scanned(got, "forked %d\n", &n) || n >= wanted {
			t.Errorf("at most 40 threads: %q", got)
		}
	})
	t.Run("io", func(t *testing.T) {
		r, id := limited(t, api.Resources{IOWeight: 25})
		// Whether a weight has an effect is the disk's scheduler's; that the kernel has it is ours.
		group := filepath.Join("/sys/fs/cgroup", filepath.Dir(look(t, r, id).Cgroup))
		text, err := os.ReadFile(filepath.Join(group, "io.weight"))
		if err != nil {
			text, err = os.ReadFile(filepath.Join(group, "io.bfq.weight"))
		}
		if err != nil || !strings.Contains(string(text), "default 25") {
			t.Errorf("the weight in %s is %q, %v", group, text, err)
		}
	})
}

func scanned(text, format string, n *int) bool {
	count, err := fmt.Sscanf(text, format, n)
	return err == nil && count == 1
}
