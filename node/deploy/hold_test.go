package deploy_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// heldShop has a database with a route, which stops before its successor starts.
func heldShop(level string) api.Spec {
	spec := stateful("v1")
	edit(&spec, "db", func(s *api.Service) {
		s.Process.Env = map[string]string{"LEVEL": level}
		s.Routes = []api.Route{{TCP: 5432, Port: 5432}}
		s.Exports = []string{"*"}
	})
	return spec
}

// TestHoldPhase: from before the stop gateways hold what comes for the service, also once its successor is made known to
// the job that needs it, and with the commit, until every machine's resolver has that; nothing else is held. Each such
// event says how long it holds if no other comes.
func TestHoldPhase(t *testing.T) {
	l := newLab(t)
	l.mustRun(t, deploy.NewDeploy(l.kit, heldShop("1"), nil))
	plan := l.preview(t, deploy.NewHeldDeploy(l.kit, heldShop("2"), "db"))
	names := strings.Join(phases(plan), "\n")
	if hold, stop := strings.Index(names, "hold: hold requests to db"), strings.Index(names, "stop the writers:"); hold < 0 || hold > stop {
		t.Fatalf("in this order:\n%s", names)
	}
	old := l.instance(t, "db-0")
	var ids []string
	dns := &trailing{}
	l.says = dns.says
	l.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		for _, p := range b.Puts {
			if p.Key != store.Route("shop") {
				continue
			}
			view, err := routing.Decode("shop", p.Value)
			if err != nil {
				return err
			}
			db, last := view.Services["db"], strings.HasSuffix(b.ID, "-let-go")
			ids = append(ids, db.Instances[0].ID)
			if db.Hold == last || db.Hold != (db.HoldFor > 0) || len(db.Routes) != 1 || len(db.Exports) != 1 || view.Services["app"].Hold {
				t.Errorf("%s: %+v", b.ID, view.Services)
			}
			if last && dns.said() != *p.Expect {
				t.Errorf("let go at revision %d, while a resolver serves %d", *p.Expect, dns.said())
			}
		}
		return nil
	}})
	l.mustRun(t, deploy.NewHeldDeploy(l.kit, heldShop("2"), "db"))
	if len(ids) != 4 || ids[0] != old || ids[1] == old || ids[2] != ids[1] || ids[3] != ids[1] {
		t.Errorf("%s was replaced by way of %v", old, ids)
	}
}

// trailing is a resolver that serves an event only when it is asked for the third time.
type trailing struct {
	mu      sync.Mutex
	at, new store.Revision
	asked   int
}

func (r *trailing) says(list []deploy.Consumer) []deploy.Consumer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if is := list[1].Revision; is != r.new {
		r.new, r.asked = is, 0
	}
	if r.asked++; r.asked == 3 {
		r.at = r.new
	}
	list[1].Revision = r.at
	return list
}

func (r *trailing) said() store.Revision {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

// TestHoldIsLeft: where the operation dies between its commit and the end of the hold, the event says how long gateways
// hold on, and resolving the operation ends it before.
func TestHoldIsLeft(t *testing.T) {
	l := newLab(t)
	l.mustRun(t, deploy.NewDeploy(l.kit, heldShop("1"), nil))
	l.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if strings.HasSuffix(b.ID, "-let-go") {
			return errors.New("the store is gone for a moment")
		}
		return nil
	}})
	out := l.run(deploy.NewHeldDeploy(l.kit, heldShop("2"), "db"))
	if out.Outcome != api.CommittedLeftovers || len(out.Leftovers) != 1 || !strings.Contains(out.Leftovers[0].Clear, "operation resolve") {
		t.Fatalf("%s %v", out.Outcome, out.Leftovers)
	}
	if db := l.routed(t).Services["db"]; !db.Hold || db.HoldFor <= 0 {
		t.Errorf("%+v", db)
	}
	l.store.SetHooks(memstore.Hooks{})
	l.mustRun(t, deploy.NewClear(l.kit, "shop"))
	if db := l.routed(t).Services["db"]; db.Hold || db.HoldFor != 0 {
		t.Errorf("%+v", db)
	}
}

func (l *lab) routed(t *testing.T) routing.View {
	t.Helper()
	fact, err := l.store.Facts().Get(t.Context(), store.Route("shop"))
	if err != nil {
		t.Fatal(err)
	}
	view, err := routing.Decode("shop", fact.Value)
	if err != nil {
		t.Fatal(err)
	}
	return view
}

// TestHoldIsTakenBack: where the operation fails, the hold ends, and not before the old instance runs again.
func TestHoldIsTakenBack(t *testing.T) {
	l := newLab(t)
	l.mustRun(t, deploy.NewDeploy(l.kit, heldShop("1"), nil))
	old := l.instance(t, "db-0")
	before := l.snapshot()
	l.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if strings.HasSuffix(b.ID, "-commit") {
			return errors.New("the store is gone for a moment")
		}
		if strings.Contains(b.ID, "-unannounce-") && !l.running(old) {
			t.Error("the hold ends while nothing runs")
		}
		return nil
	}})
	if out := l.run(deploy.NewHeldDeploy(l.kit, heldShop("2"), "db")); out.Outcome != api.RolledBack {
		t.Fatalf("%s %v", out.Outcome, out.Error)
	}
	if now := l.snapshot(); now != before {
		t.Errorf("before:\n%s\nnow:\n%s", before, now)
	}
}

func (l *lab) running(id string) bool {
	o, err := l.runtime.Inspect(context.Background(), id)
	return err == nil && o.State == "running"
}
