package runc

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/units"
)

func itoa(n int) string { return strconv.Itoa(n) }

// safeBuffer is a buffer that may be read while it is written.
type safeBuffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

// BenchmarkStart compares, in one run and in turns, the start of a prepared instance through its unit
// with bare `runc create` and `runc start` of the same bundle. It reports both medians and the
// median of the ratios.
func BenchmarkStart(b *testing.B) {
	r, image := machine(b)
	spec := runtime.Spec{ID: "bench-start", Namespace: "bench", Service: "start", Slot: "start-0"}
	spec.Process.Command = []string{"serve"}
	spec.Restart.Policy = "no"
	// It is stopped before the program has got as far as to listen for a signal.
	spec.Process.StopGrace = api.Duration(50 * time.Millisecond)
	ctx := context.Background()
	if err := r.Prepare(ctx, spec, image, addresses()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := r.Stop(ctx, spec.ID); err != nil {
			b.Error(err)
		}
		if err := r.Remove(ctx, spec.ID); err != nil {
			b.Error(err)
		}
	})
	var unit, bare, ratios []float64
	for b.Loop() {
		u := startUnit(b, r, spec.ID)
		s := startBare(b, r, spec.ID)
		unit, bare, ratios = append(unit, u), append(bare, s), append(ratios, u/s)
	}
	b.ReportMetric(median(unit), "unit-ms")
	b.ReportMetric(median(bare), "bare-ms")
	b.ReportMetric(median(ratios), "ratio")
}

func median(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }

func startUnit(b *testing.B, r *Runtime, id string) float64 {
	ctx := context.Background()
	begin := time.Now()
	if err := r.Units.Start(ctx, units.WorkloadService(id)); err != nil {
		b.Fatal(err)
	}
	took := time.Since(begin)
	if err := r.Units.Stop(ctx, units.WorkloadService(id)); err != nil {
		b.Fatal(err)
	}
	return float64(took.Microseconds()) / 1000
}

// startBare runs the same bundle in a cgroup of its own, since the unit's is gone.
func startBare(b *testing.B, r *Runtime, id string) float64 {
	root := filepath.Join(testRun, "runc-bench")
	runc := func(args ...string) {
		cmd := exec.Command(r.Program, append([]string{"--root", root}, args...)...)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			b.Fatalf("runc %v: %v", args, err)
		}
	}
	begin := time.Now()
	runc("create", "--bundle", r.dir(id), id)
	runc("start", id)
	took := time.Since(begin)
	runc("delete", "--force", id)
	return float64(took.Microseconds()) / 1000
}

// BenchmarkAdopt lists 50 running instances, as a daemon does at its start.
func BenchmarkAdopt(b *testing.B) {
	r, image := machine(b)
	ctx := context.Background()
	for i := range 50 {
		spec := runtime.Spec{ID: "bench-adopt-" + itoa(i), Namespace: "bench", Service: "adopt", Slot: "adopt-" + itoa(i)}
		spec.Process.Command = []string{"serve"}
		b.Cleanup(func() {
			if err := r.Stop(ctx, spec.ID); err != nil {
				b.Error(err)
			}
			if err := r.Remove(ctx, spec.ID); err != nil {
				b.Error(err)
			}
		})
		if err := r.Prepare(ctx, spec, image, addresses()); err != nil {
			b.Fatal(err)
		}
		if err := r.Start(ctx, spec.ID); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		all, err := r.List(ctx)
		if err != nil || len(all) < 50 {
			b.Fatal(len(all), err)
		}
	}
}
