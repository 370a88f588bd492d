package routing

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Follower keeps one consumer's projection current. It starts from the file of the last good
// projection, so that a consumer serves before, and without, the store.
type Follower struct {
	View store.View
	// Path is the last good projection on disk; written after each change.
	Path string
	// Apply hands the projection to the consumer; it must not fail on one that Decode accepted.
	Apply func(Projection)
	Log   *slog.Logger
	// Poll is how often freshness is looked up; 0 means 1 s.
	Poll time.Duration
	// Retry is the pause before a lost feed is opened again; 0 means 500 ms.
	Retry time.Duration

	mu        sync.Mutex // guards now and freshness
	now       Projection
	freshness Freshness
}

// Freshness is what a consumer must say about what it serves.
type Freshness struct {
	// Revision is the one that has been applied.
	Revision store.Revision `json:"revision"`
	// Age is the time since the projection was last known to be current.
	Age api.Duration `json:"age"`
	// Uncertain says that the projection may be stale; Why says how that is known.
	Uncertain bool   `json:"uncertain"`
	Why       string `json:"why,omitempty"`

	current time.Time
}

// Load reads the last good projection and applies it. A missing file is an empty projection; a
// damaged one is reported and ignored, since the store has everything it held.
func (f *Follower) Load() error {
	f.set(Projection{}, "nothing has been read from the store yet")
	text, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		f.Apply(f.Projection())
		return nil
	}
	if err != nil {
		return api.Errorf(api.CodeInternal, "reading the last good projection: %w", err)
	}
	var p Projection
	if err := json.Unmarshal(text, &p); err != nil {
		f.Log.Warn("the last good projection is damaged and was ignored", "path", f.Path, "error", err)
	}
	f.set(p, "the last good view from disk; the store has not been read yet")
	f.Apply(p)
	return nil
}

// Run follows the store until ctx ends. Each lost feed is followed by a rebuild from the beginning.
func (f *Follower) Run(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		f.doubt("the feed of routing events broke: " + err.Error())
		select {
		case <-ctx.Done():
		case <-time.After(orDefault(f.Retry, 500*time.Millisecond)):
		}
	}
}

// follow rebuilds the projection and keeps it current until the feed breaks.
func (f *Follower) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fresh, err := f.View.Freshness(ctx)
	if err != nil {
		return err
	}
	feed, err := f.View.Follow(ctx, store.Routes())
	if err != nil {
		return err
	}
	defer feed.Close()
	rebuilt, err := f.rebuild(ctx, feed, fresh.Generation)
	if err != nil {
		return err
	}
	f.accept(rebuilt)
	go f.watchFreshness(ctx, cancel, fresh.Generation)
	for {
		change, err := feed.Next(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		f.accept(f.Projection().with(change))
	}
}

// rebuild reads up to the feed's Current mark without showing anything in between. A namespace
// whose event is bad keeps the view that was served before.
func (f *Follower) rebuild(ctx context.Context, feed store.Feed, generation uint64) (Projection, error) {
	before := f.Projection()
	next := Projection{Generation: generation}
	for {
		change, err := feed.Next(ctx)
		if err != nil {
			return Projection{}, err
		}
		next = next.with(change)
		if ns := change.Fact.Key.Last(); ns != "" && next.Namespaces[ns].Rejected != nil {
			kept := before.Namespaces[ns]
			kept.Rejected = next.Namespaces[ns].Rejected
			next.Namespaces[ns] = kept
		}
		if change.Current {
			return next, nil
		}
	}
}

// watchFreshness marks the projection uncertain while the mirror is not fresh, and forces a
// rebuild when it becomes fresh again or its generation changes: what happened meanwhile is unknown.
func (f *Follower) watchFreshness(ctx context.Context, rebuild context.CancelCauseFunc, generation uint64) {
	tick := time.NewTicker(orDefault(f.Poll, time.Second))
	defer tick.Stop()
	stale := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		fresh, err := f.View.Freshness(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			stale = true
			f.doubt("the machine's mirror does not answer: " + err.Error())
		case fresh.Generation != generation:
			rebuild(api.Errorf(api.CodeStoreUnavailable, "the store's generation is now %d", fresh.Generation))
			return
		case !fresh.Fresh:
			stale = true
			f.doubt(fresh.Why)
		case stale:
			rebuild(api.Errorf(api.CodeStoreUnavailable, "the mirror is fresh again after a gap"))
			return
		default:
			f.confirm()
		}
	}
}

// accept shows a projection to the consumer and keeps it on disk. The disk comes second: serving does not
// wait for it, and a start without it only costs a rebuild.
func (f *Follower) accept(p Projection) {
	f.Apply(p)
	f.set(p, "")
	text, err := json.Marshal(p)
	if err == nil {
		err = renameio.WriteFile(f.Path, text, 0o640)
	}
	if err != nil {
		f.Log.Error("the last good projection could not be kept on disk", "path", f.Path, "error", err)
	}
}

func (f *Follower) set(p Projection, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = p
	f.freshness.Revision = p.Revision
	f.freshness.Uncertain, f.freshness.Why = why != "", why
	if why == "" {
		f.freshness.current = time.Now()
	}
}

func (f *Follower) doubt(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.freshness.Uncertain {
		f.Log.Warn("serving a view that may be stale", "why", why)
	}
	f.freshness.Uncertain, f.freshness.Why = true, why
}

func (f *Follower) confirm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.freshness.Uncertain, f.freshness.Why = false, ""
	f.freshness.current = time.Now()
}

// Projection returns what is served now.
func (f *Follower) Projection() Projection {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Freshness returns what must be said about it.
func (f *Follower) Freshness() Freshness {
	f.mu.Lock()
	defer f.mu.Unlock()
	fresh := f.freshness
	if !fresh.current.IsZero() {
		fresh.Age = api.Duration(time.Since(fresh.current).Round(time.Millisecond))
	}
	return fresh
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}
