package deploy_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// TestAnnounceNeedsTheLease: a coordinator that was paused until another had the scope publishes nothing any
// more, and puts nothing back that the other may plan on.
func TestAnnounceNeedsTheLease(t *testing.T) {
	for name, c := range map[string]struct {
		paused    func(l *lab, pause func()) memstore.Hooks
		outcome   api.Result
		announced int
	}{
		"before it announces": {func(l *lab, pause func()) memstore.Hooks {
			reads := 0
			return memstore.Hooks{BeforeRead: func(key string) error {
				if key == string(store.Route("shop")) {
					if reads++; reads == 2 { // the first is inspect's
						pause()
					}
				}
				return nil
			}}
		}, api.RolledBack, 0},
		"before it commits": {func(l *lab, pause func()) memstore.Hooks {
			return memstore.Hooks{BeforeCommit: func(b store.Batch) error {
				if strings.HasSuffix(b.ID, "-commit") {
					pause()
				}
				return nil
			}}
		}, api.Stranded, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			other := &coordination.Leases{Facts: l.store.Facts()}
			paused := false
			hooks := c.paused(l, func() {
				paused = true
				l.clock.Advance(coordination.TTL + time.Second)
				lease, err := other.Acquire(context.Background(), "ns/shop", coordination.Holder{Operation: "other"})
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(lease.Abandon)
			})
			published := 0
			hooks.AfterCommit = func(b store.Batch, _ store.Revision) error {
				for _, put := range b.Puts {
					if put.Key == store.Route("shop") {
						published++
					}
				}
				return nil
			}
			l.store.SetHooks(hooks)
			out := l.run(deploy.NewDeploy(l.kit, shop("v1"), nil))
			l.store.SetHooks(memstore.Hooks{})
			if !paused || out.Outcome != c.outcome || out.Error == nil || out.Error.Code != api.CodeLeaseLost {
				t.Errorf("paused %t; it ended %s: %v, left %v", paused, out.Outcome, out.Error, out.Leftovers)
			}
			if published < c.announced || c.announced == 0 && published > 0 {
				t.Errorf("the routing event was written %d times", published)
			}
			fact, err := l.store.Facts().Get(t.Context(), store.Route("shop"))
			if there := err == nil; there != (c.announced > 0) {
				t.Errorf("the routing event at the end: %s, %v", fact.Value, err)
			}
		})
	}
}
