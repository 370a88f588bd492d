package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/ployz/ployz/node/store"
)

// leaderPatience is how long a read for showing waits for the store's leader before the mirror answers.
const leaderPatience = time.Second

// reads answers one request from the leader, so that an operator sees what was just committed, or,
// once the leader did not answer, from the machine's own mirror. It is for showing, never for deciding.
type reads struct {
	leader store.Facts
	mirror store.View
	// away is why the leader was given up, or nil.
	away error
}

func newReads(m *Member) *reads { return &reads{leader: m.Facts, mirror: m.View} }

// Get implements store.Facts.
func (r *reads) Get(ctx context.Context, key store.Key) (store.Fact, error) {
	if r.away == nil {
		bounded, cancel := context.WithTimeout(ctx, leaderPatience)
		defer cancel()
		fact, err := r.leader.Get(bounded, key)
		if !r.giveUp(bounded, err) {
			return fact, err
		}
	}
	return r.mirror.Get(ctx, key)
}

// List implements store.Facts.
func (r *reads) List(ctx context.Context, prefix store.Key) ([]store.Fact, error) {
	if r.away == nil {
		bounded, cancel := context.WithTimeout(ctx, leaderPatience)
		defer cancel()
		list, err := r.leader.List(bounded, prefix)
		if !r.giveUp(bounded, err) {
			return list, err
		}
	}
	return r.mirror.List(ctx, prefix)
}

// Commit implements store.Facts: what only reads never writes.
func (r *reads) Commit(context.Context, store.Batch) (store.Revision, error) {
	return 0, store.Unavailable("a write through a reader", errors.ErrUnsupported)
}

func (r *reads) giveUp(ctx context.Context, err error) bool {
	if err == nil || !store.IsUnavailable(err) && ctx.Err() == nil {
		return false
	}
	r.away = err
	return true
}

// uncertain says why the answer may be old, or "".
func (r *reads) uncertain() string {
	if r.away == nil {
		return ""
	}
	return "the store does not answer; this is what the machine's own mirror holds"
}
