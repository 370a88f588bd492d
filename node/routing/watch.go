package routing

import (
	"context"
	"fmt"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// lookWithin bounds one look at the mirror: a local question, which takes less than a millisecond.
const lookWithin = 2 * time.Second

func (f *Follower) look(ctx context.Context) (store.Freshness, error) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	return f.View.Freshness(ctx)
}

// watch marks the projection uncertain while the mirror is not fresh, and asks for a rebuild when
// it becomes fresh again or its generation changes, since what happened meanwhile is unknown, and
// when the mirror's own list differs from what came over the feed.
func (f *Follower) watch(ctx context.Context, rebuild context.CancelCauseFunc, at store.Freshness) {
	stale := !at.Fresh
	next := time.NewTimer(f.pause(stale, at.Active))
	defer next.Stop()
	audited, differed := time.Now(), ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		why, active, err := f.judge(ctx, at.Generation)
		if ctx.Err() != nil {
			return
		}
		next.Reset(f.pause(why != "", active))
		switch {
		case err != nil:
			rebuild(err)
			return
		case why != "":
			stale = true
			f.doubt(why)
			continue
		case stale:
			rebuild(api.Errorf(api.CodeStoreUnavailable, "the mirror is fresh again after a gap; the view is being rebuilt"))
			return
		}
		f.confirm()
		if differed == "" && time.Since(audited) < orDefault(f.Audit, time.Minute) {
			continue
		}
		audited = time.Now()
		before := differed
		if differed = f.audit(ctx); differed != "" && differed == before {
			rebuild(api.Errorf(api.CodeStoreUnavailable, "%s; the view is being rebuilt", differed))
			return
		}
	}
}

// pause is the time to the next look. At rest looks are what wakes the consumer and the edge most, so there are few
// while the origin gives signs, and many as soon as they are missing.
func (f *Follower) pause(doubtful bool, silent time.Duration) time.Duration {
	poll := orDefault(f.Poll, 5*time.Second)
	if doubtful {
		return poll / 5
	}
	return max(poll-silent, poll/5)
}

// judge looks at the mirror once: why it is not fresh, or an error where that needs a rebuild. active
// is how long ago the mirror heard from its origin.
func (f *Follower) judge(ctx context.Context, generation uint64) (why string, active time.Duration, err error) {
	served := f.Projection().Revision // before the look: events go on arriving
	fresh, err := f.look(ctx)
	switch {
	case err != nil:
		return "the machine's mirror does not answer: " + err.Error(), 0, nil
	case fresh.Generation != generation:
		return "", 0, api.Errorf(api.CodeStoreUnavailable, "the store's generation is now %d; the view is being rebuilt", fresh.Generation)
	case fresh.Last < served:
		return "", 0, api.Errorf(api.CodeStoreUnavailable, "the mirror went back to revision %d", fresh.Last)
	case !fresh.Fresh:
		return fresh.Why, fresh.Active, nil
	}
	return "", fresh.Active, nil
}

// audit returns the first namespace for which the mirror's list has another revision than was
// looked at, or an event that is good and was rejected. Once it may be an event on its way; twice it is
// a feed that left something out or garbled it.
func (f *Follower) audit(ctx context.Context) string {
	list, err := f.View.List(ctx, store.Routes())
	if err != nil {
		return "" // the next look at the mirror says so
	}
	seen := f.Projection()
	listed := make(map[string]bool, len(list))
	for _, fact := range list {
		ns := fact.Key.Last()
		listed[ns] = true
		a := seen.Namespaces[ns]
		if at := a.looked(); at < fact.Revision {
			return fmt.Sprintf("the mirror has revision %d of namespace %s, the feed brought %d", fact.Revision, ns, at)
		}
		if a.Rejected != nil && a.after(ns, fact, f.Check).Rejected == nil {
			return fmt.Sprintf("the mirror has a good revision %d of namespace %s", fact.Revision, ns)
		}
	}
	for _, ns := range seen.Names() {
		if !listed[ns] {
			return fmt.Sprintf("the mirror has no namespace %s, the feed did not remove it", ns)
		}
	}
	f.touch()
	return ""
}
