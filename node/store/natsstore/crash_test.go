package natsstore_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// writer commits batches of which each leaves a trace of its own, an immutable fact, and moves
// two counters together; so a lost batch and a torn one can both be seen.
type writer struct {
	s  *natsstore.Store
	mu sync.Mutex
	// acked are the batches that were told as committed, by number.
	acked []int
	tried int
	// last is when, and worst the longest time between two of them.
	last  time.Time
	worst time.Duration
}

const batchSize = 4

func (w *writer) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		b := store.Batch{ID: fmt.Sprintf("w-%p-%d", w, n), Puts: []store.Put{put("x", fmt.Sprint(n)), put("y", fmt.Sprint(n))}}
		for i := range batchSize {
			b.Puts = append(b.Puts, put(store.Key(fmt.Sprintf("log.%06d.%d", n, i)), "v"))
		}
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := w.s.Facts().Commit(try, b)
		cancel()
		w.mu.Lock()
		if w.tried = n; err == nil {
			w.acked = append(w.acked, n)
			if !w.last.IsZero() {
				w.worst = max(w.worst, time.Since(w.last))
			}
			w.last = time.Now()
		}
		w.mu.Unlock()
		if err != nil {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// await waits until n more batches are acknowledged.
func (w *writer) await(t *testing.T, n int) {
	t.Helper()
	until := w.count() + n
	for deadline := time.Now().Add(natslab.Patience); w.count() < until; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("writes did not resume: %d acknowledged", w.count())
		}
	}
}

// judge wants every acknowledged batch whole, and no batch in part.
func (w *writer) judge(t *testing.T, facts []store.Fact) {
	t.Helper()
	parts, values := map[int]int{}, map[store.Key]string{}
	for _, f := range facts {
		values[f.Key] = string(f.Value)
		var n, i int
		if _, err := fmt.Sscanf(string(f.Key), "log.%06d.%d", &n, &i); err == nil {
			parts[n]++
		}
	}
	lost, torn := 0, 0
	for _, n := range w.acked {
		if parts[n] == 0 {
			lost++
		}
	}
	for _, n := range parts {
		if n != batchSize {
			torn++
		}
	}
	if lost > 0 || torn > 0 || values["x"] != values["y"] {
		t.Errorf("%d of %d acknowledged batches lost, %d of %d torn, counters %s and %s", lost, len(w.acked), torn, len(parts), values["x"], values["y"])
	}
	t.Logf("%d tried, %d acknowledged, %d found; 0 lost, 0 torn", w.tried+1, len(w.acked), len(parts))
}

// TestKilledAmidBatches kills the only voter while batches are under way.
func TestKilledAmidBatches(t *testing.T) {
	m := natslab.Start(t)
	s := m.Open()
	ready(t, s)
	w := &writer{s: s}
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { w.run(ctx) })
	for i := range 4 {
		w.await(t, 15+7*i)
		m.Core.Kill()
		m.Core.Start()
	}
	w.await(t, 20)
	stop()
	done.Wait()
	facts, err := s.Facts().List(within(t, natslab.Patience), "")
	if err != nil {
		t.Fatal(err)
	}
	w.judge(t, facts)
	eventuallyVerified(t, s)
}

func eventuallyVerified(t *testing.T, s *natsstore.Store) {
	t.Helper()
	if err := s.Verify(within(t, natslab.Patience)); err != nil {
		t.Errorf("the mirror differs from the core: %v", err)
	}
}

// TestPausedCore stops the core's process for longer than the writer's patience. What was sent
// before is uncertain, what comes later is refused; and sending the same batch again settles it.
func TestPausedCore(t *testing.T) {
	m := natslab.Start(t)
	s := m.Open(func(c *natsstore.Config) { c.Timeout = 700 * time.Millisecond })
	ready(t, s)
	mustPut(t, s, "a", "0") // vouches for a quorum, so that the next write is sent
	m.Core.Signal(syscall.SIGSTOP)
	b := store.Batch{ID: "paused", Puts: []store.Put{
		{Key: "a", Value: []byte("1"), Expect: store.Expect(1)}, put("b", "1"),
	}}
	if _, err := s.Facts().Commit(within(t, natslab.Patience), b); !store.IsUncertain(err) {
		t.Fatalf("a write to a paused core: %v, want store.uncertain", err)
	}
	time.Sleep(time.Second) // the vouching ends
	other := store.Batch{ID: "later", Puts: []store.Put{put("c", "1")}}
	if _, err := s.Facts().Commit(within(t, natslab.Patience), other); !store.IsUnavailable(err) {
		t.Fatalf("a later write to a paused core: %v, want store.unavailable", err)
	}
	m.Core.Signal(syscall.SIGCONT)
	for deadline := time.Now().Add(natslab.Patience); ; time.Sleep(20 * time.Millisecond) {
		r, err := s.Facts().Commit(within(t, natslab.Patience), b)
		if err == nil {
			if r != 3 {
				t.Errorf("settled at revision %d, want 3: it was written twice", r)
			}
			break
		}
		if store.IsConflict(err) || time.Now().After(deadline) {
			t.Fatalf("settling: %v", err)
		}
	}
	wantFacts(t, s, "a=1 b=1")
}

// TestViewServesWithoutTheCore cuts the edge off: all it knows stays readable, it says that it is
// not fresh, and it catches up by itself.
func TestViewServesWithoutTheCore(t *testing.T) {
	m := natslab.Start(t)
	s := m.Open()
	ready(t, s)
	ctx := within(t, 3*natslab.Patience)
	if err := s.AwaitMirror(ctx, mustPut(t, s, "a", "1")); err != nil {
		t.Fatal(err)
	}
	feed, err := s.View().Follow(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	if c, err := feed.Next(ctx); err != nil || !c.Current || string(c.Fact.Value) != "1" {
		t.Fatalf("%+v, %v", c, err)
	}
	m.Core.Kill()
	m.Edge.Kill()
	m.Edge.Start() // boots alone, as after a power cut of the voters
	wantView(t, s, "a", "1")
	f, err := s.View().Freshness(ctx)
	if err != nil || f.Fresh || f.Why == "" || f.Last != 1 {
		t.Fatalf("cut off: %+v, %v", f, err)
	}
	m.Core.Start()
	eventuallyPut(t, s, "a", "2")
	start := time.Now()
	if c, err := feed.Next(ctx); err != nil || string(c.Fact.Value) != "2" || c.Fact.Revision != 2 {
		t.Fatalf("the feed lost its place: %+v, %v", c, err)
	}
	t.Logf("the feed went on %s after the write", time.Since(start).Round(time.Millisecond))
	if err := s.AwaitMirror(ctx, 2); err != nil {
		t.Fatal(err)
	}
}

func wantView(t *testing.T, s *natsstore.Store, k store.Key, want string) {
	t.Helper()
	var f store.Fact
	var err error
	for deadline := time.Now().Add(natslab.Patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if f, err = s.View().Get(within(t, natslab.Patience), k); err == nil {
			break
		}
	}
	if err != nil || string(f.Value) != want {
		t.Fatalf("the view says %q, %v", f.Value, err)
	}
	if list, err := s.View().List(within(t, natslab.Patience), ""); err != nil || len(list) != 1 {
		t.Fatalf("the view lists %v, %v", list, err)
	}
}

// TestMirrorOfAnotherHistory makes the origin anew under a mirror. The mirror claims to be
// current; the digest tells.
func TestMirrorOfAnotherHistory(t *testing.T) {
	testenv.Require(t, testenv.Long)
	m := natslab.Start(t)
	s := m.Open()
	ready(t, s)
	ctx := within(t, natslab.Patience)
	mustPut(t, s, "old", "1")
	r := mustPut(t, s, "both", "1")
	if err := s.AwaitMirror(ctx, r); err != nil {
		t.Fatal(err)
	}
	eventuallyVerified(t, s)
	m.Core.Stop()
	m.CoreConfig.StoreDir += "-anew"
	m.Render()
	m.Found()
	m.Core.Start()
	if err := s.CreateStreams(ctx, 1, natsstore.StreamSize{}); err != nil {
		t.Fatal(err)
	}
	eventuallyPut(t, s, "both", "2")
	mustPut(t, s, "new", "2")
	mustPut(t, s, "new2", "2")
	f := eventuallyFresh(t, s)
	t.Logf("the mirror says: %+v", f)
	if err := s.Verify(ctx); err == nil {
		t.Error("Verify found nothing wrong with a mirror of two histories")
	} else {
		t.Log(err)
	}
}

// eventuallyFresh returns the mirror's word once it calls itself fresh, or its last one.
func eventuallyFresh(t *testing.T, s *natsstore.Store) (f store.Freshness) {
	for deadline := time.Now().Add(8 * time.Second); time.Now().Before(deadline) && !f.Fresh; time.Sleep(50 * time.Millisecond) {
		f, _ = s.View().Freshness(within(t, natslab.Patience))
	}
	return f
}
