package bench_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

const (
	// machines is how many are simulated: as many consumers follow the routing events.
	machines = 200
	// fewEdges and manyEdges are how many of them have a mirror of their own, a real process each; the consumers
	// are spread over these. A long test gives each its own.
	fewEdges, manyEdges = 5, 40
	// events is over how many a figure is taken.
	events = 100
)

// BenchmarkCluster measures how routing events reach every machine, and what one machine pays for them in
// a small and in a large cluster.
func BenchmarkCluster(b *testing.B) {
	edges := manyEdges
	if testenv.Long.Missing() == "" {
		edges = machines
	}
	for b.Loop() {
		small := newFollowed(b, fewEdges, fewEdges*machines/edges)
		pays := small.spread(b)
		small.end()
		large := newFollowed(b, edges, machines)
		defer large.end()
		figures := large.spread(b)
		atMost(b, figures.slowest.Seconds(), 1, "s-event-p99")
		b.ReportMetric(figures.median.Seconds(), "s-event-p50")
		b.ReportMetric(figures.cpu, "ms-CPU-per-event-and-edge")
		atMost(b, figures.cpu/pays.cpu, 1.5, fmt.Sprintf("of-what-it-pays-among-%d", fewEdges))
		atMost(b, figures.written/pays.written, 1.1, fmt.Sprintf("of-the-bytes-among-%d", fewEdges))
		atMost(b, large.restingMB(b), 40, "MB-RSS-largest-edge")
		b.ReportMetric(float64(edges), "edges")
	}
}

// BenchmarkRebuild measures how long a consumer that starts without a file takes to 10,000 routes.
func BenchmarkRebuild(b *testing.B) {
	const namespaces, routes = 500, 20
	m := natslab.Start(b)
	s := m.Open()
	ctx, stop := context.WithTimeout(b.Context(), 5*time.Minute)
	defer stop()
	var last store.Revision
	for n := range namespaces {
		last = publish(b, s, n, routes, 0)
	}
	if err := s.AwaitMirror(ctx, last); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var took []float64
		for range 5 {
			began := time.Now()
			f := follow(b.Context(), s.View())
			f.await(b, last)
			took = append(took, time.Since(began).Seconds())
			f.end()
		}
		atMost(b, median(took), 1, "s-rebuild")
		b.ReportMetric(namespaces*routes, "routes")
	}
}

// followed is a cluster of which every machine's gateway follows the routing events.
type followed struct {
	core      *natslab.Machine
	leaves    []*natslab.Machine
	origin    *natsstore.Store
	followers []*follower
}

// newFollowed starts a core and a number of edges beside its own, and spreads consumers over these.
func newFollowed(b *testing.B, edges, consumers int) *followed {
	b.Helper()
	c := &followed{}
	for i := range edges {
		c.leaves = append(c.leaves, natslab.NewLeaf(b, fmt.Sprintf("m%d", i+2)))
	}
	c.core = natslab.Start(b, natslab.Knows(c.leaves...))
	c.origin = c.core.Open()
	began, stores := time.Now(), make([]*natsstore.Store, edges)
	for i, m := range c.leaves {
		m.Join(c.core)
		stores[i] = m.Open(func(config *natsstore.Config) {
			config.CoreURLs, config.Generation = c.core.Config().CoreURLs, c.core.CoreConfig.Generation
		})
	}
	mirrors(b, stores)
	b.Logf("%d edges were fresh after %s", edges, time.Since(began).Round(time.Second))
	for i, s := range stores {
		for range consumers/edges + min(1, max(0, consumers%edges-i)) {
			c.followers = append(c.followers, follow(b.Context(), s.View()))
		}
	}
	c.wait(b, publish(b, c.origin, 0, 20, 0))
	return c
}

// mirroring is how many edges are waited for at a time: each is asked how fresh it is forty times a second.
const mirroring = 8

// mirrors makes every edge's mirrors and waits until they are fresh.
func mirrors(b *testing.B, stores []*natsstore.Store) {
	b.Helper()
	ctx, stop := context.WithTimeout(b.Context(), 5*time.Minute)
	defer stop()
	errs := make([]error, len(stores))
	turns := make(chan struct{}, mirroring)
	var all sync.WaitGroup
	for i, s := range stores {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			if errs[i] = s.EnsureMirrors(ctx); errs[i] == nil {
				errs[i] = s.AwaitMirror(ctx, 0)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
}

func (c *followed) wait(b *testing.B, revision store.Revision) {
	b.Helper()
	for _, f := range c.followers {
		f.await(b, revision)
	}
}

func (c *followed) end() {
	for _, f := range c.followers {
		f.end()
	}
	for _, m := range c.leaves {
		m.Edge.Stop()
	}
	c.core.Edge.Stop()
	c.core.Core.Stop()
}

// spreading is how events got around, and what the machines that only have an edge paid for one.
type spreading struct {
	median, slowest time.Duration
	cpu             float64 // in milliseconds
	written         float64 // in bytes
}

// spread commits events, one after the other, so that nothing queues. What an edge pays for the time that passes
// meanwhile is measured first, and taken off.
func (c *followed) spread(b *testing.B) spreading {
	b.Helper()
	const window = 10 * time.Second
	idle := c.paid(b)
	time.Sleep(window)
	idle = c.paid(b).less(idle, 1)
	var arrivals []time.Duration
	before, first := c.paid(b), time.Now()
	for i := range events {
		began := time.Now()
		revision := publish(b, c.origin, 0, 20, i+1)
		for _, f := range c.followers {
			arrivals = append(arrivals, f.await(b, revision).Sub(began))
		}
	}
	paid := c.paid(b).less(before, 1).less(idle, time.Since(first).Seconds()/window.Seconds())
	slices.Sort(arrivals)
	return spreading{
		median: arrivals[len(arrivals)/2], slowest: arrivals[len(arrivals)*99/100],
		cpu: paid.cpu / events, written: paid.written / events,
	}
}

// price is the mean time on a CPU, and the mean number of bytes written, of an edge.
type price struct{ cpu, written float64 }

func (p price) less(q price, times float64) price {
	return price{p.cpu - times*q.cpu, p.written - times*q.written}
}

// paid is what the edges have paid since they were started.
func (c *followed) paid(b *testing.B) (p price) {
	b.Helper()
	of := float64(len(c.leaves))
	for _, m := range c.leaves {
		tasks, err := filepath.Glob(edgeProc(b, m, "task/*/schedstat"))
		if err != nil {
			b.Fatal(err)
		}
		for _, task := range tasks {
			p.cpu += number(b, strings.Fields(read(b, task))[0]) / 1e6 / of
		}
		for line := range strings.Lines(read(b, edgeProc(b, m, "io"))) {
			if value, found := strings.CutPrefix(line, "wchar: "); found {
				p.written += number(b, strings.TrimSpace(value)) / of
			}
		}
	}
	return p
}

// restingMB is the resident set of the largest edge, once nothing happens any more: with the program's own pages, which
// the edges share here and a machine has alone.
func (c *followed) restingMB(b *testing.B) float64 {
	b.Helper()
	time.Sleep(20 * time.Second) // what the events leave to do is not rest
	largest := 0.0
	for _, m := range c.leaves {
		for line := range strings.Lines(read(b, edgeProc(b, m, "smaps_rollup"))) {
			if value, found := strings.CutPrefix(line, "Rss:"); found {
				largest = max(largest, number(b, strings.Fields(value)[0])/1000)
			}
		}
	}
	return largest
}

// edgeProc is a file about the process of a machine's edge.
func edgeProc(b *testing.B, m *natslab.Machine, name string) string {
	b.Helper()
	var status struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(read(b, filepath.Join(m.Dir, "edge.status"))), &status); err != nil {
		b.Fatal(err)
	}
	return fmt.Sprintf("/proc/%d/%s", status.PID, name)
}

func read(b *testing.B, path string) string {
	b.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// follower is one consumer, and when it applied what.
type follower struct {
	end func()

	mu    sync.Mutex
	at    map[store.Revision]time.Time // guarded by mu
	moved chan struct{}                // guarded by mu; closed and replaced with every projection
}

// follow starts a consumer that keeps nothing on disk.
func follow(ctx context.Context, view store.View) *follower {
	ctx, stop := context.WithCancel(ctx)
	f := &follower{at: map[store.Revision]time.Time{}, moved: make(chan struct{})}
	r := routing.Follower{View: view, Apply: f.apply, Log: slog.New(slog.DiscardHandler)}
	r.Load()
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	f.end = func() { stop(); running.Wait() }
	return f
}

func (f *follower) apply(p routing.Projection) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at[p.Revision] = time.Now()
	close(f.moved)
	f.moved = make(chan struct{})
}

// await returns when the consumer applied a revision, and waits for that.
func (f *follower) await(b *testing.B, revision store.Revision) time.Time {
	b.Helper()
	deadline := time.After(time.Minute)
	for {
		f.mu.Lock()
		at, applied := f.at[revision]
		moved := f.moved
		f.mu.Unlock()
		if applied {
			return at
		}
		select {
		case <-moved:
		case <-deadline:
			b.Fatalf("revision %d was not applied within a minute", revision)
		}
	}
}

// publish commits a namespace's routing event with a number of routes.
func publish(b *testing.B, s *natsstore.Store, namespace, routes, commit int) store.Revision {
	b.Helper()
	name := fmt.Sprintf("n%d", namespace)
	view := routing.View{Commit: fmt.Sprint(commit), Namespace: name, Services: map[string]routing.Service{}}
	for i := range routes {
		view.Services[fmt.Sprintf("s%d", i)] = routing.Service{
			Instances: []routing.Instance{{
				ID: fmt.Sprintf("s%d-0", i), Machine: "m1",
				V4: netip.AddrFrom4([4]byte{10, 101, byte(namespace), byte(i)}), V6: netip.MustParseAddr("fd00::1"),
			}},
			Routes: []api.Route{{Host: fmt.Sprintf("s%d.%s.test", i, name), Port: 80}},
		}
	}
	value, err := view.Encode()
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithTimeout(b.Context(), time.Minute)
	defer stop()
	batch := store.Batch{ID: fmt.Sprintf("%s-%d", name, commit), Puts: []store.Put{{Key: store.Route(name), Value: value}}}
	revision, err := s.Facts().Commit(ctx, batch)
	if err != nil {
		b.Fatal(err)
	}
	return revision
}
