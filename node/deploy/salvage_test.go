package deploy_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/store"
)

func (l *lab) get(t *testing.T, key store.Key) store.Fact {
	t.Helper()
	fact, err := l.store.Facts().Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return fact
}

// TestEveryFactCanBeRead: whatever a deploy with everything writes is what ReadFact says it is.
func TestEveryFactCanBeRead(t *testing.T) {
	l := newLab(t)
	l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v1"), nil))
	list, err := l.store.Facts().List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, fact := range list {
		if err := deploy.ReadFact(fact); err != nil {
			t.Errorf("%s: %v", fact.Key, err)
		}
	}
}

// TestRebuildHead: the head that cannot be read is made of the commits, as it was, and the next deploy goes on from it.
func TestRebuildHead(t *testing.T) {
	l := newLab(t)
	key := store.Head("shop")
	for _, op := range []func(){
		func() { l.mustRun(t, deploy.NewDeploy(l.kit, shop("v1"), nil)) },
		func() { l.mustRun(t, deploy.NewRemove(l.kit, "shop")) },
		func() { l.mustRun(t, deploy.NewDeploy(l.kit, shop("v2"), nil)) },
	} {
		op()
		was := l.get(t, key)
		l.put(t, key, 7)
		if out := l.run(deploy.NewDeploy(l.kit, shop("v1"), nil)); out.Outcome != api.Refused || out.Error.Code != api.CodeStoreUnreadable {
			t.Errorf("with a head that cannot be read: %s %v", out.Outcome, out.Error)
		}
		value, err := deploy.Rebuild(t.Context(), l.store.Facts(), key)
		if err != nil || string(value) != string(was.Value) {
			t.Errorf("rebuilt %s %v, was %s", value, err, was.Value)
		}
		l.put(t, key, json.RawMessage(value))
	}
	if _, err := deploy.Rebuild(t.Context(), l.store.Facts(), store.Head("other")); api.CodeOf(err) != api.CodeStoreNoCopy {
		t.Errorf("of nothing: %v", err)
	}
	for _, key := range []store.Key{store.Cluster(), store.Route("shop")} {
		if value, err := deploy.Rebuild(t.Context(), l.store.Facts(), key); value != nil || err != nil {
			t.Errorf("%s: %s %v", key, value, err)
		}
	}
}

// TestAgainst: a backup from before the last commit does not speak for what that changed.
func TestAgainst(t *testing.T) {
	l := newLab(t)
	l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v1"), nil))
	against := func(fact store.Fact) *api.Error {
		e, err := deploy.Against(t.Context(), l.store.Facts(), fact)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for _, key := range []store.Key{store.Head("shop"), store.Route("shop")} {
		if e := against(l.get(t, key)); e == nil || e.Code != api.CodeStoreNoCopy || e.Hint == "" {
			t.Errorf("%s: %v", key, e)
		}
	}
	volume := l.volume(t, "data")
	fact := l.get(t, store.Volume("shop", volume.ID))
	for _, fact := range []store.Fact{fact, l.get(t, store.Commit("shop", "1")), {Key: store.Update()}} {
		if e := against(fact); e != nil {
			t.Errorf("%s: %v", fact.Key, e)
		}
	}
	volume.Machine = "m2" // as it was before it was moved
	fact.Value, _ = json.Marshal(volume)
	if e := against(fact); e == nil || e.Code != api.CodeStoreNoCopy {
		t.Errorf("elsewhere: %v", e)
	}
}

// TestNeeded: what runs now is not forgotten with a fact that cannot be read.
func TestNeeded(t *testing.T) {
	l := newLab(t)
	l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v1"), nil))
	l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v2"), nil))
	live := []store.Key{store.Head("shop"), store.Route("shop"), store.Commit("shop", "2")}
	for _, v := range l.current(t, "shop").Volumes {
		live = append(live, store.Volume("shop", v.ID))
	}
	if len(live) < 4 {
		t.Fatal("no volume")
	}
	for _, key := range live {
		e, err := deploy.Needed(context.Background(), l.store.Facts(), key)
		if err != nil || e == nil || e.Code != api.CodeStoreFactNeeded || e.Subject != string(key) || e.Hint == "" {
			t.Errorf("%s: %v %v", key, e, err)
		}
	}
	for _, key := range []store.Key{
		store.Commit("shop", "1"), store.Volume("shop", "v0"), store.Secret("shop", "x"), store.Route("gone"), store.Update(), store.Hostname("a.b"),
	} {
		if e, err := deploy.Needed(context.Background(), l.store.Facts(), key); e != nil || err != nil {
			t.Errorf("%s: %v %v", key, e, err)
		}
	}
	l.put(t, store.Head("shop"), 7)
	if _, err := deploy.Needed(context.Background(), l.store.Facts(), store.Route("shop")); api.CodeOf(err) != api.CodeStoreUnreadable {
		t.Errorf("with a head that cannot be read: %v", err)
	}
}
