package routing

import (
	"context"
	"io"
	"sync"

	"github.com/ployz/ployz/node/store"
)

// Opening is a view that is opened at its first use, and tried again at the next until that
// works: a consumer serves from disk before there is a key to come in with. Every method returns
// store.unavailable until then.
type Opening struct {
	// Open returns the view. It must not wait for the store to answer.
	Open func() (store.View, error)
	// Generation is the one of the store that the machine is in; nil where that never changes. It is asked at every use:
	// once it differs, another view is opened, and the one before is closed if it is an io.Closer, which ends its feeds.
	Generation func() (uint64, error)

	mu   sync.Mutex
	view store.View // guarded by mu; nil until Open succeeded
	of   uint64     // guarded by mu; the generation in which it was opened
}

func (o *Opening) open() (store.View, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.of
	if o.Generation != nil {
		if g, err := o.Generation(); err == nil { // an identity that cannot be read changes nothing
			now = g
		}
	}
	if o.view != nil && now == o.of {
		return o.view, nil
	}
	o.shut()
	view, err := o.Open()
	if err != nil {
		return nil, store.Unavailable("the machine's edge", err)
	}
	o.view, o.of = view, now
	return view, nil
}

// shut lets go of a view of another generation. What closing it says does not matter any more.
func (o *Opening) shut() {
	if c, ok := o.view.(io.Closer); ok {
		_ = c.Close()
	}
	o.view = nil
}

// Get implements store.View.
func (o *Opening) Get(ctx context.Context, key store.Key) (store.Fact, error) {
	view, err := o.open()
	if err != nil {
		return store.Fact{}, err
	}
	return view.Get(ctx, key)
}

// List implements store.View.
func (o *Opening) List(ctx context.Context, prefix store.Key) ([]store.Fact, error) {
	view, err := o.open()
	if err != nil {
		return nil, err
	}
	return view.List(ctx, prefix)
}

// Follow implements store.View.
func (o *Opening) Follow(ctx context.Context, prefix store.Key) (store.Feed, error) {
	view, err := o.open()
	if err != nil {
		return nil, err
	}
	return view.Follow(ctx, prefix)
}

// Freshness implements store.View.
func (o *Opening) Freshness(ctx context.Context) (store.Freshness, error) {
	view, err := o.open()
	if err != nil {
		return store.Freshness{}, err
	}
	return view.Freshness(ctx)
}
