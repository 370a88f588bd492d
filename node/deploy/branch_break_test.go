package deploy_test

import (
	"context"
	"regexp"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
)

// TestBreakBranch breaks a branch everywhere. The original is part of the world that has to be as it was.
func TestBreakBranch(t *testing.T) {
	for name, c := range branchCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			optest.Exhaust(t, c)
		})
	}
}

func branchCases() map[string]optest.Case {
	return map[string]optest.Case{
		"branch":         breakBranch(maskedRuns),
		"branch/depends": breakBranch(func(t *testing.T, l *lab) { l.pool.ClonesDepend = true; smallRuns(t, l) }),
		"branch.rm": withoutMoments(on(func(t *testing.T, l *lab) {
			smallRuns(t, l)
			l.mustRun(t, l.branch(tryIt))
		}, func(l *lab) operation.Operation { return deploy.NewRemoveBranch(l.kit, "try") })),
	}
}

// kinds are those of the commits by which a branch comes to its end: its own, or that of the clear after it.
var kinds = regexp.MustCompile(`"kind":"(branch|clear)"`)

// breakBranch breaks a branch of what runs. One whose commit has landed is not branched again but cleared, as the
// refusal says.
func breakBranch(before func(*testing.T, *lab)) optest.Case {
	return withoutMoments(optest.Case{New: func(t *testing.T) *optest.World {
		l := newLab(t)
		before(t, l)
		return &optest.World{
			Store: l.store, Clock: l.clock, Snapshot: func() string { return kinds.ReplaceAllString(l.snapshot(), "") },
			Operation: func() operation.Operation {
				if _, err := deploy.Current(context.Background(), l.store.Facts(), "try"); err == nil {
					return deploy.NewClear(l.kit, "try")
				}
				return l.branch(tryIt)
			},
		}
	}})
}

// compact is a database, what masks it in branches, and what uses it.
func compact() api.Spec {
	return api.Spec{
		Namespace: "shop", Secrets: map[string]api.Secret{"password": {Value: []byte("hunter2")}},
		Volumes: map[string]api.Volume{"data": {SizeBytes: gib}},
		Services: map[string]api.Service{
			"db":   {Image: "db:v1", Mounts: []api.Mount{{Volume: "data", Target: "/var/lib/db"}}, Files: []api.File{{Secret: "password", Target: "/run/secrets/password"}}},
			"mask": {Image: "app:v1", Job: &api.Job{When: "branch"}, DependsOn: map[string]api.Condition{"db": api.Ready}},
			"app":  {Image: "app:v1", DependsOn: map[string]api.Condition{"db": api.Ready}, Routes: []api.Route{{Host: "shop.test", Port: 8080}}},
		},
	}
}

func smallRuns(t *testing.T, l *lab) { l.mustRun(t, deploy.NewDeploy(l.kit, compact(), nil)) }

// masked is the shop with volumes, and two jobs of branches: one that needs the database, and one after it.
func masked() api.Spec {
	s := stateful("v1")
	l := api.Job{When: "branch"}
	s.Services["mask"] = api.Service{Image: "app:v1", Job: &l, DependsOn: map[string]api.Condition{"db": api.Ready, "migrate": api.Completed}}
	s.Services["scrub"] = api.Service{Image: "app:v2", Job: &l, DependsOn: map[string]api.Condition{"mask": api.Completed}}
	return s
}

func maskedRuns(t *testing.T, l *lab) { l.mustRun(t, deploy.NewDeploy(l.kit, masked(), nil)) }

var tryIt = api.BranchRequest{From: "shop", Namespace: "try", Secrets: api.BranchSecretsCopy}

func (l *lab) branch(r api.BranchRequest) operation.Operation { return deploy.NewBranch(l.kit, r) }
