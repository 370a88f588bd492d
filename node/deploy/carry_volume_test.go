package deploy_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/storage"
)

// road is a machine's carrier over which each fetch goes as the next error says.
type road struct {
	deploy.Carrier // for what a carriage does not do: nobody
	*porter
	ends []error
}

func (r *road) OfferVolume(ctx context.Context, _ deploy.Fenced, o storage.Offer) error {
	r.fails = nil
	return r.Offer(ctx, o)
}

func (r *road) WithdrawVolume(ctx context.Context, by deploy.Fenced, volume string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return r.Withdraw(ctx, by.Operation, volume)
}

func (r *road) FetchVolume(ctx context.Context, _ deploy.Fenced, f storage.Fetch, progress func(storage.Progress)) (storage.Carried, error) {
	r.fails = nil
	if len(r.ends) > 0 {
		r.fails, r.ends = r.ends[0], r.ends[1:]
	}
	return r.Fetch(ctx, f, progress)
}

// TestCarriage: a break is repeated, with an offer anew, and nothing else is; and the offer is always withdrawn.
func TestCarriage(t *testing.T) {
	cut := storage.TransferCut(errors.New("the sender is gone"))
	absent := error(api.Errorf(api.CodeParticipantAbsent, "nobody listens").Again())
	full := error(api.Errorf(api.CodeVolumeNoSpace, "the pool is full"))
	by := deploy.Fenced{Operation: "op1", Step: "send", Scope: "ns/shop", Fence: 5}
	for name, c := range map[string]struct {
		ends    []error
		code    api.Code
		fetches int
		least   time.Duration
	}{
		"at once":                    {nil, "", 1, 0},
		"after breaks":               {[]error{cut, absent, cut}, "", 4, 7 * time.Second},
		"the target is full":         {[]error{cut, full}, api.CodeVolumeNoSpace, 2, time.Second},
		"it breaks again and again":  {slices.Repeat([]error{cut}, 100), api.CodeVolumeTransferCut, 10, 100 * time.Second},
		"a break that is said final": {[]error{api.Errorf(api.CodeParticipantAbsent, "it left")}, api.CodeParticipantAbsent, 1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &road{porter: &porter{}, ends: c.ends}
			begun := time.Now()
			told := 0
			got, err := deploy.Carriage{
				Again: func(err error, pause time.Duration) {
					if told++; err == nil || pause < time.Second {
						t.Errorf("%s: told of %v, %s", name, err, pause)
					}
				},
				From: r, To: r, FromID: "m1", ToID: "m2", As: storage.Spec{ID: "v1"}, Offer: storage.Offer{Volume: "v1", Snapshot: "s1"},
			}.Run(t.Context(), by, func(storage.Progress) {})
			if api.CodeOf(err) != c.code || err == nil && got.GUID != "g" {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			if told != c.fetches-1 {
				t.Errorf("%s: told of %d breaks", name, told)
			}
			if took := time.Since(begun); took < c.least || took > 5*time.Minute {
				t.Errorf("%s: it took %s", name, took)
			}
			if n := len(r.asked); n != 2*c.fetches+1 || r.asked[n-1] != "op1: withdraw v1" || r.asked[n-3] != ": offer v1@s1 to m2" {
				t.Errorf("%s: %q", name, r.asked)
			}
		})
	}
}

// TestCarriageStays: an offer that is to stay does, but for one by which nothing came over.
func TestCarriageStays(t *testing.T) {
	for want, ends := range map[string][]error{
		": fetch v1@s1 from m1": nil,
		"op1: withdraw v1":      {api.Errorf(api.CodeVolumeNoSpace, "the pool is full")},
	} {
		r := &road{porter: &porter{}, ends: ends}
		_, err := deploy.Carriage{
			From: r, To: r, FromID: "m1", ToID: "m2", As: storage.Spec{ID: "v1"}, Offer: storage.Offer{Volume: "v1", Snapshot: "s1"}, Stays: true,
		}.Run(t.Context(), deploy.Fenced{Operation: "op1"}, func(storage.Progress) {})
		if last := r.asked[len(r.asked)-1]; last != want || (err == nil) != (ends == nil) {
			t.Errorf("%v; %q", err, r.asked)
		}
	}
}

// TestCarriageEnds: with its context, also while it waits for the next try.
func TestCarriageEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &road{porter: &porter{}, ends: slices.Repeat([]error{storage.TransferCut(errors.New("cut"))}, 100)}
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		_, err := deploy.Carriage{From: r, To: r, Offer: storage.Offer{Volume: "v1"}}.Run(ctx, deploy.Fenced{Operation: "op1"}, func(storage.Progress) {})
		if !errors.Is(err, context.DeadlineExceeded) || r.asked[len(r.asked)-1] != "op1: withdraw v1" {
			t.Errorf("%v; %q", err, r.asked)
		}
	})
}
