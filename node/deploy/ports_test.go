package deploy_test

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// publishing is a namespace of one service with one published port.
func publishing(ns string, port api.Port) api.Spec {
	return api.Spec{Namespace: ns, Services: map[string]api.Service{"web": {Image: "web:v1", Ports: []api.Port{port}}}}
}

// TestTwoPublishOnePort: of two namespaces that publish one port of one machine at once exactly one wins, and
// the other is told who has it, until that one gives it back.
func TestTwoPublishOnePort(t *testing.T) {
	l := newLab(t)
	port := api.Port{Published: 8081, Target: 80, Protocol: "tcp"}
	deploys := func(ns string, port api.Port) api.Outcome {
		return l.run(deploy.NewDeploy(l.kit, publishing(ns, port), nil))
	}
	var first api.Outcome
	l.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if strings.HasSuffix(b.ID, "-open") && first.Outcome == "" { // both have looked, and neither has started anything
			first.Outcome = "running"
			first = deploys("blog", port)
		}
		return nil
	}})
	late := deploys("shop", port)
	l.store.SetHooks(memstore.Hooks{})
	if first.Outcome != api.Committed || late.Outcome != api.RolledBack || late.Error.Code != api.CodeConflict {
		t.Fatalf("they ended %s: %v and %s: %v", first.Outcome, first.Error, late.Outcome, late.Error)
	}
	again := deploys("shop", port)
	expectRefused(t, again, "services.web.ports deploy.port-taken")
	if want := "port 8081/tcp on m1 is held by namespace blog"; again.Error.Message != want {
		t.Errorf("got %q, want %q", again.Error.Message, want)
	}
	for _, free := range []api.Port{{Published: 8081, Target: 80, Protocol: "udp"}, {Published: 8082, Target: 80, Protocol: "tcp"}} {
		if out := deploys("shop", free); out.Outcome != api.Committed {
			t.Errorf("with %d/%s it ended %s: %v", free.Published, free.Protocol, out.Outcome, out.Error)
		}
	}
	l.mustRun(t, deploy.NewRemove(l.kit, "blog"))
	l.mustRun(t, deploy.NewDeploy(l.kit, publishing("shop", port), nil))
	claims, err := l.store.Facts().List(t.Context(), "machineport")
	if err != nil || len(claims) != 1 || claims[0].Key != store.MachinePort("m1", "tcp", 8081) || !strings.Contains(string(claims[0].Value), `"shop"`) {
		t.Errorf("the claims at the end: %v %v", claims, err)
	}
}
