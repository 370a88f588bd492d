package routing_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
)

// ofGeneration is a view that knows which generation it was opened in.
type ofGeneration struct {
	store.View
	generation uint64
	closed     *[]uint64
}

func (v ofGeneration) Freshness(context.Context) (store.Freshness, error) {
	return store.Freshness{Generation: v.generation}, nil
}

func (v ofGeneration) Close() error {
	*v.closed = append(*v.closed, v.generation)
	return nil
}

// TestOpeningFollowsGeneration: a view of another generation is closed and opened anew, also back again; while the
// generation cannot be read, and while nothing can be opened, there is no harm.
func TestOpeningFollowsGeneration(t *testing.T) {
	now, unknown, shut := uint64(1), error(nil), error(nil)
	var closed []uint64
	o := &routing.Opening{
		Open:       func() (store.View, error) { return ofGeneration{generation: now, closed: &closed}, shut },
		Generation: func() (uint64, error) { return now, unknown },
	}
	want := func(generation uint64, closedSoFar int) {
		t.Helper()
		f, err := o.Freshness(t.Context())
		if err != nil || f.Generation != generation || len(closed) != closedSoFar {
			t.Errorf("generation %d, %v, closed %v; want %d and %d closed", f.Generation, err, closed, generation, closedSoFar)
		}
	}
	want(1, 0)
	want(1, 0)
	now, unknown = 2, errors.New("unreadable")
	want(1, 0)
	unknown = nil
	want(2, 1)
	now, shut = 1, errors.New("no key")
	if _, err := o.Freshness(t.Context()); !store.IsUnavailable(err) {
		t.Errorf("nothing can be opened: %v", err)
	}
	shut = nil
	want(1, 2)
}
