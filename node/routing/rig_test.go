package routing_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// rig is a follower over a store in memory, whose mirror can be made to misbehave.
type rig struct {
	t      *testing.T
	store  *memstore.Store
	mirror *mirror
	path   string
	batch  int

	mu    sync.Mutex
	shown []routing.Projection // guarded by mu; what the consumer was handed, in order
	doubt string               // guarded by mu; what it was told last
}

func newRig(t *testing.T) *rig {
	s := memstore.New(memstore.Config{})
	return &rig{t: t, store: s, mirror: &mirror{View: s.View()}, path: filepath.Join(t.TempDir(), "projection.json")}
}

// follower is a consumer's, quick enough for a test.
func (r *rig) follower() *routing.Follower {
	return &routing.Follower{
		View: r.mirror, Path: r.path, Log: slog.New(slog.DiscardHandler),
		Poll: 2 * time.Millisecond, Retry: time.Millisecond, Audit: 4 * time.Millisecond, Backward: 20 * time.Millisecond,
		Apply: func(p routing.Projection) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.shown = append(r.shown, p)
		},
		Uncertain: func(why string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.doubt = why
		},
	}
}

// run starts a follower; the returned function ends it and waits until it has.
func (r *rig) run(f *routing.Follower) (stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	f.Load()
	running.Go(func() { f.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	r.t.Cleanup(stop)
	return stop
}

// put commits the view of a namespace with one instance, whose id tells views apart.
func (r *rig) put(ns, instance string) store.Revision {
	r.t.Helper()
	text, err := view(ns, instance).Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	return r.commit(store.Put{Key: store.Route(ns), Value: text})
}

func (r *rig) commit(p store.Put) store.Revision {
	r.t.Helper()
	r.batch++
	at, err := r.store.Facts().Commit(context.Background(), store.Batch{ID: fmt.Sprintf("b%d", r.batch), Puts: []store.Put{p}})
	if err != nil {
		r.t.Fatal(err)
	}
	return at
}

func view(ns, instance string) routing.View {
	return routing.View{Namespace: ns, NamespaceID: 7, Commit: "1", Services: map[string]routing.Service{"web": {
		Instances: []routing.Instance{{ID: instance, Slot: "web-0", Machine: "m1", V4: netip.MustParseAddr("10.101.1.2"), V6: netip.MustParseAddr("fd00::7:0:1")}},
		Routes:    []api.Route{{Host: ns + ".test", Port: 80}},
	}}}
}

// await polls until cond says true.
func (r *rig) await(f *routing.Follower, what string, cond func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			text, _ := json.Marshal(f.Projection())
			r.t.Fatalf("not within %v: %s\n%+v\n%s", patience, what, f.Freshness(), text)
		}
	}
}

func (r *rig) awaitFresh(f *routing.Follower) {
	r.t.Helper()
	r.await(f, "fresh", func() bool { return !f.Freshness().Uncertain })
}

// serves says which instance a namespace's view names, "" for none.
func serves(f *routing.Follower, ns string) string {
	if in := f.Projection().Namespaces[ns].View.Services["web"].Instances; len(in) > 0 {
		return in[0].ID
	}
	return ""
}

func (r *rig) history() []routing.Projection {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]routing.Projection(nil), r.shown...)
}

func (r *rig) told() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.doubt
}

// mirror is a view that can be made to misbehave. Its fields are read at each call.
type mirror struct {
	store.View
	mu sync.Mutex
	// All below is guarded by mu.
	down       error                             // every call's answer
	generation uint64                            // added to the store's
	last       *store.Revision                   // in place of the store's
	bend       func(store.Change) []store.Change // what becomes of a change on its way
	hold       chan struct{}                     // a feed waits here before each change, until it is closed
	cut        bool                              // the next change breaks its feed
	waiting    int                               // feeds at hold
	active     time.Duration                     // since its origin's last sign
	looks      int                               // how often Freshness was asked
}

func (m *mirror) set(change func(*mirror)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

func (m *mirror) state() (mirror, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return mirror{down: m.down, generation: m.generation, last: m.last, bend: m.bend, hold: m.hold}, m.down
}

func (m *mirror) List(ctx context.Context, prefix store.Key) ([]store.Fact, error) {
	if _, err := m.state(); err != nil {
		return nil, err
	}
	return m.View.List(ctx, prefix)
}

func (m *mirror) Freshness(ctx context.Context) (store.Freshness, error) {
	now, err := m.state()
	if err != nil {
		return store.Freshness{}, err
	}
	fresh, err := m.View.Freshness(ctx)
	m.set(func(m *mirror) { m.looks++; fresh.Active = m.active })
	fresh.Generation += now.generation
	if now.last != nil {
		fresh.Last = *now.last
	}
	return fresh, err
}

func (m *mirror) Follow(ctx context.Context, prefix store.Key) (store.Feed, error) {
	if _, err := m.state(); err != nil {
		return nil, err
	}
	feed, err := m.View.Follow(ctx, prefix)
	return &bentFeed{Feed: feed, m: m}, err
}

type bentFeed struct {
	store.Feed
	m     *mirror
	ready []store.Change
}

func (f *bentFeed) Next(ctx context.Context) (store.Change, error) {
	for len(f.ready) == 0 {
		change, err := f.Feed.Next(ctx)
		if err != nil {
			return change, err
		}
		if err := f.wait(ctx); err != nil {
			return store.Change{}, err
		}
		now, _ := f.m.state()
		f.ready = []store.Change{change}
		if now.bend != nil {
			f.ready = now.bend(change)
		}
	}
	out := f.ready[0]
	f.ready = f.ready[1:]
	return out, nil
}

func (f *bentFeed) wait(ctx context.Context) error {
	f.m.mu.Lock()
	hold, cut := f.m.hold, f.m.cut
	f.m.cut = false
	if hold != nil {
		f.m.waiting++
	}
	f.m.mu.Unlock()
	if cut {
		return store.Unavailable("the feed", context.Canceled)
	}
	if hold == nil {
		return nil
	}
	select {
	case <-hold:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
