package deploy

import (
	"cmp"
	"context"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// RemoveBranch takes a branch away as Remove does a namespace, and nothing that is none.
type RemoveBranch struct{ Remove }

// NewRemoveBranch prepares it.
func NewRemoveBranch(kit Kit, ns string) *RemoveBranch {
	return &RemoveBranch{Remove{change: change{kit: kit, ns: ns, kind: api.KindBranchRemove}}}
}

// Inspect implements operation.Operation. Where there is no release any more, it may have left something.
func (r *RemoveBranch) Inspect(ctx context.Context, before operation.Situation) error {
	if err := r.inspect(ctx, before); err != nil {
		return err
	}
	if err := r.inspectLineage(ctx); err != nil {
		return err
	}
	if !r.branch && r.now.commit != nil {
		return NotABranch(r.ns)
	}
	return r.inspectRest(ctx)
}

// NotABranch says that a namespace is there, or was, and did not begin as a branch. Error: branch.not-a-branch.
func NotABranch(ns string) *api.Error {
	return api.Errorf(api.CodeBranchAbsent, "the namespace did not begin as a branch").About(ns).
		WithHint("those that did: ployzctl branch ls; to take a namespace away: ployzctl rm %s", ns)
}

// Branches reads the lineage of every branch, by namespace in order. Errors: store.*.
func Branches(ctx context.Context, facts store.Facts) ([]api.BranchFact, error) {
	list, err := facts.List(ctx, store.Branches())
	if err != nil {
		return nil, err
	}
	all := make([]api.BranchFact, len(list))
	for i, fact := range list {
		if err := store.Decode(fact, &all[i]); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b api.BranchFact) int { return cmp.Compare(a.Namespace, b.Namespace) })
	return all, nil
}
