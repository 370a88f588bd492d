package deploy_test

import (
	"context"
	"errors"
	"strings"
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

// TestHoldPhase: from before the stop until the commit gateways hold what comes for the service, also once its
// successor is made known to the job that needs it; nothing else is held.
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
	l.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		for _, p := range b.Puts {
			if p.Key != store.Route("shop") {
				continue
			}
			view, err := routing.Decode("shop", p.Value)
			if err != nil {
				return err
			}
			db, last := view.Services["db"], strings.HasSuffix(b.ID, "-commit")
			ids = append(ids, db.Instances[0].ID)
			if db.Hold == last || len(db.Routes) != 1 || len(db.Exports) != 1 || view.Services["app"].Hold {
				t.Errorf("%s: %+v", b.ID, view.Services)
			}
		}
		return nil
	}})
	l.mustRun(t, deploy.NewHeldDeploy(l.kit, heldShop("2"), "db"))
	if len(ids) != 3 || ids[0] != old || ids[1] == old || ids[2] != ids[1] {
		t.Errorf("%s was replaced by way of %v", old, ids)
	}
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
