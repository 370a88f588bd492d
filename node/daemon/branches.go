package daemon

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
)

// listBranches answers GET /v1/branches.
func listBranches(r *http.Request, m *Member) (any, error) {
	return branches(r.Context(), m, caller(r))
}

// branches are the lineages as the store has them, with what the pools say now.
func branches(ctx context.Context, m *Member, caller string) (api.BranchList, error) {
	list := api.BranchList{Branches: []api.BranchEntry{}}
	facts, err := deploy.Branches(ctx, newReads(m))
	if err != nil || len(facts) == 0 {
		return list, err
	}
	volumes, err := volumesOf(ctx, m, "", caller)
	if err != nil {
		return list, err
	}
	commits, err := deploy.Namespaces(ctx, newReads(m))
	if err != nil {
		return list, err
	}
	list.Uncertain = volumes.Uncertain
	for _, f := range facts {
		list.Branches = append(list.Branches, branchEntry(f, commits, volumes.Volumes))
	}
	return list, nil
}

func branchEntry(f api.BranchFact, commits []api.Commit, volumes []api.VolumeEntry) api.BranchEntry {
	e := api.BranchEntry{BranchFact: f, Machines: []string{}, Expired: !f.Expires.IsZero() && f.Expires.Before(time.Now())}
	for _, c := range commits {
		if c.Namespace == f.Namespace {
			e.Present = c.Number
			for _, slot := range c.Slots {
				e.Machines = append(e.Machines, slot.Machine)
			}
		}
	}
	for _, v := range volumes {
		if v.Namespace == f.Namespace {
			e.OwnBytes += v.OwnBytes
			e.Machines = append(e.Machines, v.Machine)
		}
	}
	slices.Sort(e.Machines)
	e.Machines = slices.Compact(e.Machines)
	return e
}

// showBranch answers GET /v1/branches/{ns}.
func showBranch(r *http.Request, m *Member) (any, error) {
	ns, err := namespaceParam(r)
	if err != nil {
		return nil, err
	}
	list, err := branches(r.Context(), m, caller(r))
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(list.Branches, func(b api.BranchEntry) bool { return b.Namespace == ns })
	if at < 0 {
		return nil, deploy.NotABranch(ns)
	}
	return list.Branches[at], nil
}
