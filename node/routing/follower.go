package routing

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Follower keeps one consumer's projection current. It starts from the file of the last good
// projection, so that a consumer serves before, and without, the store.
//
//	Load ─ the file's views, uncertain ──► Run: rebuild ─► follow ─► (feed lost, gap, mirror
//	                                              ▲                   stale and fresh again)
//	                                              └─── uncertain ◄────────────┘
//
// A rebuild is shown whole or not at all. What is served never goes back to less because the
// mirror has less, unless a mirror that is current says so for a while.
type Follower struct {
	View store.View
	// Path is the last good projection on disk, written after each change; "" keeps none.
	Path string
	// Check refuses a view that Decode accepts but this consumer cannot serve; nil accepts all.
	// Its error is the reason that is shown.
	Check func(View) error
	// Apply hands the projection to the consumer. It is called from one goroutine at a time.
	Apply func(Projection)
	// Uncertain tells the consumer after each Apply, and whenever it changes, why what it serves
	// may be stale; "" says that it is current. Never at the same time as Apply. May be nil.
	Uncertain func(why string)
	Log       *slog.Logger
	// Poll is how old the origin's last sign may get before freshness is looked up again; 0 means 5 s, after which a mirror
	// is no longer fresh. While it is not, looks are five times as often.
	Poll time.Duration
	// Retry is the pause before a lost feed is opened again; 0 means 500 ms.
	Retry time.Duration
	// Audit is how often the projection is compared with the mirror's own list; 0 means 1 min.
	Audit time.Duration
	// Backward is how long a current mirror must have held less than what is served before it is
	// believed; 0 means 5 s.
	Backward time.Duration

	turn sync.Mutex // held while the consumer is called, before mu
	mu   sync.Mutex // guards the rest
	now  Projection
	// freshness.Why is "" exactly when freshness.Uncertain is not set.
	freshness Freshness
	current   time.Time // when now was last known to be current; zero: never
	backward  time.Time // since when the mirror holds less; zero: it does not
	warned    time.Time // when a doubt was logged last
	// changed is made by Load and never again, so it is not guarded.
	changed chan struct{}
}

// Freshness is what a consumer must say about what it serves.
type Freshness struct {
	// Revision is the one up to which every event has been looked at.
	Revision store.Revision `json:"sequence"`
	// Age is the time since the projection was last known to be current.
	Age api.Duration `json:"age"`
	// Uncertain says that the projection may be stale; Why says how that is known.
	Uncertain bool   `json:"uncertain"`
	Why       string `json:"why,omitempty"`
}

// Run follows the store until ctx ends. Each lost feed is followed by a rebuild from the
// beginning. Nothing of it runs on when it returns.
func (f *Follower) Run(ctx context.Context) {
	var keeping sync.WaitGroup
	keeping.Go(func() { f.keep(ctx) })
	defer keeping.Wait()
	for ctx.Err() == nil {
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		f.doubt(err.Error())
		select {
		case <-ctx.Done():
		case <-time.After(orDefault(f.Retry, 500*time.Millisecond)):
		}
	}
}

// follow rebuilds the projection and keeps it current until that needs a rebuild, and says why.
func (f *Follower) follow(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stop(nil)
	fresh, err := f.look(ctx)
	if err != nil {
		return err
	}
	if err := f.believe(fresh); err != nil {
		return err
	}
	feed, err := f.View.Follow(ctx, store.Routes())
	if err != nil {
		return err
	}
	defer feed.Close()
	rebuilt, err := f.rebuild(ctx, feed, fresh)
	if err != nil {
		return err
	}
	f.show(rebuilt, &fresh.Why)
	parts.Go(func() { f.watch(ctx, stop, fresh) })
	changes := make(chan store.Change, 256)
	parts.Go(func() { stop(read(ctx, feed, changes)) })
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case change := <-changes:
			if err := f.take(change, changes); err != nil {
				return err
			}
		}
	}
}

// read passes a feed on until it breaks.
func read(ctx context.Context, feed store.Feed, to chan<- store.Change) error {
	for {
		change, err := feed.Next(ctx)
		if err != nil {
			return err
		}
		select {
		case to <- change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// believe refuses a mirror that would take away what is served: one that is behind it, or one of
// another generation that is still being filled.
func (f *Follower) believe(fresh store.Freshness) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	served := f.now
	same := fresh.Generation == served.Generation
	ahead := same && fresh.Last >= served.Revision
	if served.Generation == 0 || ahead || !same && fresh.Fresh {
		f.backward = time.Time{}
		return nil
	}
	if f.backward.IsZero() || !fresh.Fresh {
		f.backward = time.Now()
	}
	if fresh.Fresh && time.Since(f.backward) >= orDefault(f.Backward, 5*time.Second) {
		f.Log.Warn("the store has gone back; its older state is served from now on",
			"served", served.Revision, "store", fresh.Last)
		f.backward = time.Time{}
		return nil
	}
	return api.Errorf(api.CodeStoreUnavailable, "the machine's mirror is at generation %d, revision %d; generation %d, revision %d is served",
		fresh.Generation, fresh.Last, served.Generation, served.Revision)
}

// rebuild reads up to the feed's Current mark without showing anything in between. A namespace
// whose event is bad keeps the view that was served before.
func (f *Follower) rebuild(ctx context.Context, feed store.Feed, fresh store.Freshness) (Projection, error) {
	before := f.Projection()
	next := Projection{Generation: fresh.Generation, Namespaces: map[string]Applied{}}
	for {
		change, err := feed.Next(ctx)
		if err != nil {
			return Projection{}, err
		}
		if err := next.inOrder(change); err != nil {
			return Projection{}, err
		}
		next.apply(change, before.Namespaces, f.Check)
		if change.Current {
			// What is not in the feed was not there when the mirror was at this revision.
			next.Revision = max(next.Revision, fresh.Last)
			return next, nil
		}
	}
}

// take applies a change and all that wait behind it already, in one step: a consumer's Apply costs
// the same for one.
func (f *Follower) take(change store.Change, more <-chan store.Change) error {
	next := f.Projection().clone()
	for waiting := len(more); ; waiting-- {
		if err := next.inOrder(change); err != nil {
			return err
		}
		next.apply(change, next.Namespaces, f.Check)
		if waiting == 0 {
			f.show(next, nil)
			return nil
		}
		change = <-more
	}
}

// show hands a projection to the consumer. why is the new doubt, nil leaves it. The disk comes
// later: serving does not wait for it, and a start without it only costs a rebuild.
func (f *Follower) show(p Projection, why *string) {
	f.turn.Lock()
	defer f.turn.Unlock()
	f.Apply(p)
	f.mu.Lock()
	f.now, f.freshness.Revision = p, p.Revision
	if why != nil {
		f.setWhyLocked(*why)
	}
	doubt := f.freshness.Why
	f.mu.Unlock()
	f.tell(doubt)
	f.noteChanged()
}

// setWhyLocked takes "" as a confirmation at this moment.
func (f *Follower) setWhyLocked(why string) {
	switch {
	case why == "":
		if f.freshness.Uncertain {
			f.Log.Info("the view is current", "revision", f.now.Revision)
		}
		f.current = time.Now()
	case !f.freshness.Uncertain || why != f.freshness.Why && time.Since(f.warned) > time.Minute:
		// Not each time: some reasons count the seconds.
		f.Log.Warn("serving a view that may be stale", "why", why)
		f.warned = time.Now()
	}
	f.freshness.Uncertain, f.freshness.Why = why != "", why
}

func (f *Follower) doubt(why string) {
	f.turn.Lock()
	defer f.turn.Unlock()
	f.mu.Lock()
	same := f.freshness.Why == why
	f.setWhyLocked(why)
	f.mu.Unlock()
	if !same {
		f.tell(why)
	}
}

func (f *Follower) confirm() { f.doubt("") }

func (f *Follower) tell(why string) {
	if f.Uncertain != nil {
		f.Uncertain(why)
	}
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
	if !f.current.IsZero() {
		fresh.Age = api.Duration(time.Since(f.current).Round(time.Millisecond))
	}
	return fresh
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}
