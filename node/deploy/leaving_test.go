package deploy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// TestMachineLeavesMeanwhile: a deploy that planned with a machine commits nothing onto it once its removal has begun,
// and everything that it had started is taken back.
func TestMachineLeavesMeanwhile(t *testing.T) {
	name := store.MachineName("m1")
	for what, leaves := range map[string]store.Put{
		"a removal begins": {Key: name, Value: []byte(`{"machine":"m1","leaving":"op7"}`)},
		"it is gone":       {Key: name, Remove: true},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t)
			l.put(t, name, map[string]string{"machine": "m1"})
			was := l.snapshot()
			l.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
				if strings.HasSuffix(b.ID, "-commit") {
					_, err := l.store.Facts().Commit(t.Context(), store.Batch{ID: "leaves", Puts: []store.Put{leaves}})
					return err
				}
				return nil
			}})
			out := l.run(deploy.NewDeploy(l.kit, shop("v1"), nil))
			l.store.SetHooks(memstore.Hooks{})
			if out.Outcome != api.RolledBack || out.Error.Code != api.CodeMachineLeaving || out.Error.Subject != "m1" || !out.Error.Retryable {
				t.Errorf("it ended %s: %v", out.Outcome, out.Error)
			}
			if diff := cmp.Diff(was, l.snapshot()); diff != "" {
				t.Errorf("it left something behind:\n%s", diff)
			}
		})
	}
}

// TestLeavingMachineTakesNothing: the preview says why.
func TestLeavingMachineTakesNothing(t *testing.T) {
	l := newLab(t)
	l.put(t, store.MachineName("m1"), map[string]string{"machine": "m1", "leaving": "op7"})
	out := l.run(deploy.NewDeploy(l.kit, publishing("blog", api.Port{Published: 8081, Target: 80, Protocol: "tcp"}), nil))
	if out.Outcome != api.Refused || out.Error.Code != api.CodeNoMachine || !strings.Contains(out.Error.Message, "is being removed by op7") {
		t.Errorf("it ended %s: %v", out.Outcome, out.Error)
	}
}

// TestLeftoverHoldsNoClaim: an instance of another namespace that never got the claim of its port does not keep the
// one who has it from deploying (sim, seed 3190).
func TestLeftoverHoldsNoClaim(t *testing.T) {
	l := newLab(t)
	port := api.Port{Published: 8081, Target: 80, Protocol: "tcp"}
	l.mustRun(t, deploy.NewDeploy(l.kit, publishing("blog", port), nil))
	l.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if strings.HasSuffix(b.ID, "-commit") {
			return memstore.ReplyLost() // it is uncertain, and what it started stays
		}
		return nil
	}})
	other := publishing("shop", api.Port{Published: 8082, Target: 80, Protocol: "tcp"})
	if out := l.run(deploy.NewDeploy(l.kit, other, nil)); out.Outcome != api.Uncertain {
		t.Fatalf("the other ended %s: %v", out.Outcome, out.Error)
	}
	l.store.SetHooks(memstore.Hooks{})
	both := publishing("blog", port)
	edit(&both, "web", func(s *api.Service) {
		s.Ports = append(s.Ports, api.Port{Published: 8082, Target: 80, Protocol: "tcp"})
	})
	if out := l.run(deploy.NewDeploy(l.kit, both, nil)); out.Outcome != api.Refused || out.Error.Code != api.CodePublishedTaken {
		t.Errorf("a port without a claim, on which an instance was left: %s %v", out.Outcome, out.Error)
	}
	l.put(t, store.MachinePort("m1", "tcp", 8082), map[string]string{"namespace": "blog"})
	l.mustRun(t, deploy.NewDeploy(l.kit, both, nil))
}
