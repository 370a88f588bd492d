package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
)

// Rollback makes a new commit whose content is an earlier one's: code, configuration and secrets
// as they were then.
type Rollback struct {
	change
	to int
}

// NewRollback goes back to a commit; 0 is the one before the present.
func NewRollback(kit Kit, ns string, to int) *Rollback {
	return &Rollback{change: change{kit: kit, ns: ns, kind: "rollback", jobs: true}, to: to}
}

// Inspect implements operation.Operation.
func (r *Rollback) Inspect(ctx context.Context, before operation.Situation) error {
	if err := r.inspect(ctx, before); err != nil {
		return err
	}
	if r.now.head.Commit == 0 {
		return noNamespace(r.ns)
	}
	target := r.to
	if target == 0 {
		target = r.now.head.Commit - 1
	}
	if target < 1 {
		return api.Errorf(api.CodeCommitAbsent, "commit %d is the first: there is nothing to go back to", r.now.head.Commit).About(r.ns).
			WithHint("list the commits: ployzctl history %s", r.ns)
	}
	commit, err := ReadCommit(ctx, r.kit.Facts, r.ns, target)
	if err != nil {
		return err
	}
	r.next = releaseOf(commit)
	r.next.of = target
	r.complete(ctx)
	return r.inspectClaims(ctx)
}
