package deploy_test

import (
	"regexp"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
)

// on makes a case: first what was before, then the operation under test.
func on(before func(t *testing.T, l *lab), op func(l *lab) operation.Operation) optest.Case {
	return optest.Case{New: func(t *testing.T) *optest.World {
		l := newLab(t)
		before(t, l)
		return &optest.World{
			Store: l.store, Clock: l.clock, Snapshot: l.snapshot,
			Operation: func() operation.Operation { return op(l) },
		}
	}}
}

// revisions are counted up by each restart, so that two restarts in a row differ in nothing else.
var revisions = regexp.MustCompile(`"revision":"[0-9a-f]+"|"restarts":\{[^}]*\},?`)

// withoutRevisions makes a case's worlds comparable after one restart and after two.
func withoutRevisions(c optest.Case) optest.Case {
	inner := c.New
	c.New = func(t *testing.T) *optest.World {
		w := inner(t)
		snapshot := w.Snapshot
		w.Snapshot = func() string { return revisions.ReplaceAllString(snapshot(), "") }
		return w
	}
	return c
}

func nothing(*testing.T, *lab) {}

func shopRuns(t *testing.T, l *lab) { l.mustRun(t, deploy.NewDeploy(l.kit, shop("v1"), nil)) }

func twoCommits(t *testing.T, l *lab) {
	shopRuns(t, l)
	l.mustRun(t, deploy.NewDeploy(l.kit, shop("v2"), nil))
}

func secretSet(t *testing.T, l *lab) {
	l.mustRun(t, deploy.NewSetSecret(l.kit, "shop", "key", []byte("v")))
}

func configSet(t *testing.T, l *lab) {
	l.mustRun(t, deploy.NewSetConfig(l.kit, "shop", "file", []byte("v")))
}

// everything is an update of the shop that has each kind of step there is.
func everything() api.Spec {
	s := withAfter()
	edit(&s, "app", func(s *api.Service) { s.Image, s.Update.Order = "app:v2", "stop-first" })
	edit(&s, "db", func(s *api.Service) { s.Ports = []api.Port{{Published: 8081, Target: 5432, Protocol: "tcp"}} })
	edit(&s, "web", func(s *api.Service) { s.Ports = []api.Port{{Published: 8082, Target: 80, Protocol: "tcp"}} })
	return s
}

// TestBreak breaks every operation of this package everywhere.
func TestBreak(t *testing.T) {
	for name, c := range Cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			optest.Exhaust(t, c)
		})
	}
}

// Cases is the table that every operation of the package must be in, by kind and situation.
func Cases() map[string]optest.Case {
	return map[string]optest.Case{
		"deploy/first": on(nothing, func(l *lab) operation.Operation { return deploy.NewDeploy(l.kit, shop("v1"), nil) }),
		"deploy/update": on(shopRuns, func(l *lab) operation.Operation {
			return deploy.NewDeploy(l.kit, shop("v2"), nil)
		}),
		"rollback": on(twoCommits, func(l *lab) operation.Operation { return deploy.NewRollback(l.kit, "shop", 1) }),
		"scale":    on(shopRuns, func(l *lab) operation.Operation { return deploy.NewScale(l.kit, "shop", "app", 3) }),
		"scale/down": on(shopRuns, func(l *lab) operation.Operation {
			return deploy.NewScale(l.kit, "shop", "app", 1)
		}),
		"restart": withoutRevisions(on(shopRuns, func(l *lab) operation.Operation {
			return deploy.NewRestart(l.kit, "shop", "app")
		})),
		"rm":    on(shopRuns, func(l *lab) operation.Operation { return deploy.NewRemove(l.kit, "shop") }),
		"clear": on(shopRuns, func(l *lab) operation.Operation { return deploy.NewClear(l.kit, "shop") }),
		"run": on(shopRuns, func(l *lab) operation.Operation {
			return deploy.NewRun(l.kit, api.RunRequest{Namespace: "shop", Service: "app", Command: []string{"app", "check"}})
		}),
		"run/volumes":               on(statefulRuns, func(l *lab) operation.Operation { return l.runs("db", nil) }),
		"deploy/first with volumes": on(nothing, func(l *lab) operation.Operation { return deploy.NewDeploy(l.kit, stateful("v1"), nil) }),
		"deploy/volumes change":     on(statefulRuns, func(l *lab) operation.Operation { return deploy.NewDeploy(l.kit, otherVolumes(), nil) }),
		"deploy/freezes":            on(quiesceCase(hooks)),
		"deploy/stops for moments":  on(quiesceCase(&api.Quiesce{Mode: api.QuiesceStop})),
		"rollback/volumes":          on(volumesChanged, func(l *lab) operation.Operation { return deploy.NewRollback(l.kit, "shop", 1) }),
		"rollback/with data":        breakWithData(statefulTwice, 1),
		"rollback/with data, again": breakWithData(goneBack, 2),
		"rollback/with data, after rm": withoutMoments(breakWithData(func(t *testing.T, l *lab) {
			statefulTwice(t, l)
			l.mustRun(t, deploy.NewRemove(l.kit, "shop"))
		}, 1)),
		"promote": on(tried, func(l *lab) operation.Operation {
			return deploy.NewPromote(l.kit, api.PromoteRequest{Branch: "try", Namespace: "shop"})
		}),
		"promote/to a new one": on(func(t *testing.T, l *lab) {
			tried(t, l)
			l.mustRun(t, deploy.NewRemove(l.kit, "shop"))
		}, func(l *lab) operation.Operation {
			return deploy.NewPromote(l.kit, api.PromoteRequest{Branch: "try", Namespace: "shop", Secrets: api.BranchSecretsCopy})
		}),
		"promote/with data": breakPromoteWithData(),
		"scale/volumes":     on(statefulRuns, func(l *lab) operation.Operation { return deploy.NewScale(l.kit, "shop", "app", 1) }),
		"clear/volumes":     on(statefulRuns, func(l *lab) operation.Operation { return deploy.NewClear(l.kit, "shop") }),
		"rm/volumes":        on(statefulRuns, func(l *lab) operation.Operation { return deploy.NewRemove(l.kit, "shop") }),
		"restart/volumes": withoutRevisions(on(statefulRuns, func(l *lab) operation.Operation {
			return deploy.NewRestart(l.kit, "shop", "db")
		})),
		"secret.set":        on(nothing, func(l *lab) operation.Operation { return deploy.NewSetSecret(l.kit, "shop", "key", []byte("v")) }),
		"secret.rm":         on(secretSet, func(l *lab) operation.Operation { return deploy.NewRemoveSecret(l.kit, "shop", "key") }),
		"config.rm":         on(configSet, func(l *lab) operation.Operation { return deploy.NewRemoveConfig(l.kit, "shop", "file") }),
		"deploy/everything": on(shopRuns, func(l *lab) operation.Operation { return deploy.NewDeploy(l.kit, everything(), nil) }),
		"config.set":        on(nothing, func(l *lab) operation.Operation { return deploy.NewSetConfig(l.kit, "shop", "file", []byte("v")) }),
	}
}
