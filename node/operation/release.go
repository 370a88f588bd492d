package operation

import (
	"context"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/store"
)

const (
	// releaseWait is how long an operator waits for the scope to be given back.
	releaseWait = 3 * time.Second
	// releaseTry bounds one try: one whose answer is lost is sent again, and is the same batch.
	releaseTry = time.Second
	// The pauses between tries begin with the one and double up to the other.
	firstReleasePause, longestReleasePause = 50 * time.Millisecond, 2 * time.Second
)

// giveBack releases the scope. Where the store does not take the release within releaseWait, the operation ends all the
// same, and the release is tried on for as long as the lease can last: then the scope is free by itself.
func (x *run) giveBack(puts ...store.Put) {
	err := x.release(releaseWait, puts)
	if err == nil {
		return
	}
	message := "the scope was not given back and frees itself within its lease"
	if !store.IsConflict(err) {
		message = "the scope is not given back yet: it is tried on, and the scope frees itself within its lease"
		go func() { _ = x.release(coordination.TTL, puts) }() // nobody listens any more, and the end is the same
	}
	if x.ledger != nil {
		x.ledger.show(api.Event{Type: api.EventNote, Message: message, Error: api.AsError(err)})
	}
}

// release tries to give the scope back until it is, the lease is no longer ours (store.conflict), or the time is up, and
// returns the last try's error.
func (x *run) release(within time.Duration, puts []store.Put) error {
	ctx, cancel := context.WithTimeout(x.detached, within)
	defer cancel()
	for pause := firstReleasePause; ; pause = min(2*pause, longestReleasePause) {
		err := x.releaseOnce(ctx, puts)
		if err == nil || store.IsConflict(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

func (x *run) releaseOnce(ctx context.Context, puts []store.Put) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTry)
	defer cancel()
	return x.lease.Release(ctx, puts...)
}
