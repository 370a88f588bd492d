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
	to       int
	withData bool
}

// NewRollback goes back to a commit; 0 is the one before the present.
func NewRollback(kit Kit, ns string, to int) *Rollback {
	return &Rollback{change: change{kit: kit, ns: ns, kind: "rollback", jobs: true}, to: to}
}

// NewRollbackWithVolumes also gives the volumes of the commit the data that they had when it was left; 0 is the commit
// before the present.
func NewRollbackWithVolumes(kit Kit, ns string, to int) *Rollback {
	r := NewRollback(kit, ns, to)
	r.withData = true
	return r
}

// inspectPast finds the data that comes back, or, where it stays, what was written since.
func (r *Rollback) inspectPast(ctx context.Context, commit api.Commit) error {
	if r.withData {
		return r.findPasts(ctx, commit)
	}
	return r.findWritten(ctx, commit)
}

// volumesOf asks for the commit's volumes without taking anything from the data: what has grown since stays as large,
// and what was no longer asked for since, and is kept, gets its name back unless another has it.
func (r *Rollback) volumesOf(commit api.Commit) {
	r.neverShrink()
	r.revive = map[string]string{}
	for name, had := range commit.Volumes {
		if v := r.volumeByID(had.ID); v != nil && v.State == api.VolumeKept && r.live(name) == nil {
			r.revive[name] = v.ID
		}
	}
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
	switch {
	case target < 0:
		return noCommit(r.ns, target)
	case target == 0:
		return api.Errorf(api.CodeCommitAbsent, "commit %d is the first: there is nothing to go back to", r.now.head.Commit).About(r.ns).
			WithHint("list the commits: ployzctl history %s", r.ns)
	}
	commit, err := ReadCommit(ctx, r.kit.Facts, r.ns, target)
	if err != nil {
		return err
	}
	r.next = releaseOf(commit)
	r.next.of = target
	if err := r.inspectVolumes(ctx); err != nil {
		return err
	}
	r.volumesOf(commit)
	if err := r.inspectPast(ctx, commit); err != nil {
		return err
	}
	r.complete(ctx)
	return r.inspectClaims(ctx)
}
