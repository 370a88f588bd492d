package routing

import (
	"context"
	"sync"

	"github.com/ployz/ployz/node/store"
)

// Opening is a view that is opened at its first use, and tried again at the next until that
// works: a consumer serves from disk before there is a key to come in with. Every method returns
// store.unavailable until then.
type Opening struct {
	// Open returns the view. It must not wait for the store to answer.
	Open func() (store.View, error)

	mu   sync.Mutex
	view store.View // guarded by mu; nil until Open succeeded
}

func (o *Opening) open() (store.View, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.view != nil {
		return o.view, nil
	}
	view, err := o.Open()
	if err != nil {
		return nil, store.Unavailable("the machine's edge", err)
	}
	o.view = view
	return view, nil
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
