package sim

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

var (
	oneSeed = flag.Int64("sim.seed", -1, "run this seed alone, and print its timeline")
	from    = flag.Uint64("sim.from", 0, "the first seed")
	part    = flag.String("sim.part", "", "of this process's own making")
	count   = flag.Uint64("sim.count", 0, "how many seeds; 0 is what fits into CI")
)

func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1) // fewer orders in which things at the same instant can happen
	os.Exit(m.Run())
}

// disk is a folder in memory, where there is one: the kernel syncs what it writes.
func disk(t *testing.T) string {
	t.Helper()
	for _, parent := range []string{"/dev/shm", ""} {
		if dir, err := os.MkdirTemp(parent, "ployz-sim"); err == nil {
			return dir
		}
	}
	t.Fatal("there is no room for the machines' disks")
	return ""
}

// live runs one seed in a bubble of its own.
func live(t *testing.T, seed uint64, m mutant) (v verdict) {
	t.Helper()
	dir := disk(t)
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}()
	cryptotest.SetGlobalRandom(t, seed) // for the ids that the kernel draws
	synctest.Test(t, func(t *testing.T) {
		var err error
		if v, err = run(draw(seed), m, dir); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	})
	return v
}

// seeds is how many runs fit into CI, or into a long test.
func seeds() uint64 {
	switch {
	case *count > 0:
		return *count
	case testenv.Long.Missing() == "":
		return 20_000
	case testing.Short():
		return 100
	}
	return 1_500
}

// TestSim runs every seed of a range, on every core at once: each in a process of its own, since a process here
// runs on one.
func TestSim(t *testing.T) {
	switch {
	case *oneSeed >= 0:
		v := live(t, uint64(*oneSeed), mutant{})
		t.Log("\n" + strings.Join(v.timeline, "\n"))
		report(t, v)
	case *part != "":
		runPart(t)
	default:
		runParts(t)
	}
}

func runParts(t *testing.T) {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	for i := range runtime.NumCPU() {
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.v", "-test.run=TestSim$", "-test.timeout=0",
			fmt.Sprintf("-sim.part=%d/%d", i, runtime.NumCPU()), fmt.Sprintf("-sim.from=%d", *from), fmt.Sprintf("-sim.count=%d", seeds()))
		alive, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer alive.Close()
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
				return
			}
			t.Logf("%s", out)
		})
	}
}

// runPart runs those seeds of the range that are this process's, up to the first that fails.
func runPart(t *testing.T) {
	var i, of uint64
	if _, err := fmt.Sscanf(*part, "%d/%d", &i, &of); err != nil {
		t.Fatal(err)
	}
	go func() { // whoever started this process holds its input open
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	began, runs, ended := time.Now(), 0, map[api.Result]int{}
	for seed := *from + i; seed < *from+*count && !t.Failed(); seed += of {
		v := live(t, seed, mutant{})
		report(t, v)
		runs++
		for result, n := range v.outcomes {
			ended[result] += n
		}
	}
	t.Logf("%d runs, every %d. seed from %d, in %s; their operations ended:", runs, of, *from+i, time.Since(began).Round(time.Second))
	for _, result := range slices.Sorted(maps.Keys(ended)) {
		t.Logf("%8d %s", ended[result], result)
	}
}

// report says what a run broke, and how to see it again.
func report(t *testing.T, v verdict) {
	t.Helper()
	if len(v.broken) == 0 {
		return
	}
	const shown = 150
	lines := v.timeline[max(0, len(v.timeline)-shown):]
	t.Errorf("seed %d, %d machines:\n%s\n\n%s\n\nagain: go test ./node/nodetest/sim -run 'TestSim$' -sim.seed=%d",
		v.plan.seed, v.plan.machines, strings.Join(v.broken, "\n"), strings.Join(lines, "\n"), v.plan.seed)
}

// TestRepeats: a seed that failed must fail again, so most runs must be the same in every line the second time, and
// the verdict must be.
func TestRepeats(t *testing.T) {
	const runs = 40
	differ := 0
	for seed := range uint64(runs) {
		one, two := live(t, seed, mutant{}), live(t, seed, mutant{})
		if (len(one.broken) == 0) != (len(two.broken) == 0) {
			t.Errorf("seed %d: %v the first time, %v the second", seed, one.broken, two.broken)
		}
		if !slices.Equal(one.timeline, two.timeline) {
			differ++
		}
	}
	t.Logf("%d of %d runs differ the second time", differ, runs)
	if differ >= runs/2 {
		t.Errorf("%d of %d runs differ the second time", differ, runs)
	}
}

// TestMutants wants every known fault to be found, by its pinned seed at once.
func TestMutants(t *testing.T) {
	for _, m := range mutants() {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			if v := live(t, m.pinned, m); len(v.broken) > 0 {
				t.Logf("seed %d: %s", m.pinned, v.broken[0])
				return
			}
			t.Errorf("the pinned seed %d does not find it", m.pinned)
			for seed := range m.within {
				if v := live(t, seed, m); len(v.broken) > 0 {
					t.Errorf("seed %d does: pin that: %s", seed, v.broken[0])
					return
				}
			}
			t.Errorf("none of %d seeds finds it", m.within)
		})
	}
}
