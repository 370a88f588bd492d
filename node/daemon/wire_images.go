package daemon

import (
	"context"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/store"
)

// youngestPruned keeps an image that was just pulled for a deploy which has not started it yet.
const youngestPruned = 10 * time.Minute

// pruner is Pruner on the image store. It keeps what instances run and what each namespace's
// present commit and the one before it name, so that a rollback needs no registry.
type pruner struct {
	daemon *Daemon
	facts  store.Facts
}

// PlanPrune implements Pruner.
func (p pruner) PlanPrune(ctx context.Context, olderThan time.Duration) (api.PrunePlan, error) {
	keep, err := p.kept(ctx)
	if err != nil {
		return api.PrunePlan{}, err
	}
	return p.daemon.images.PlanPrune(ctx, keep, max(olderThan, youngestPruned))
}

// Prune implements Pruner.
func (p pruner) Prune(ctx context.Context, plan api.PrunePlan) (api.PrunePlan, error) {
	keep, err := p.kept(ctx)
	if err != nil {
		return api.PrunePlan{}, err
	}
	return p.daemon.images.Prune(ctx, plan, keep)
}

// kept decides by manifest digest. A commit may name the digest of an index, so both are asked.
func (p pruner) kept(ctx context.Context) (func(digest string) bool, error) {
	commits, err := deploy.Namespaces(ctx, p.facts)
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, c := range commits {
		p.name(ctx, c, named)
		if c.Parent == 0 {
			continue
		}
		parent, err := deploy.ReadCommit(ctx, p.facts, c.Namespace, c.Parent)
		if err != nil {
			return nil, err
		}
		p.name(ctx, parent, named)
	}
	return func(digest string) bool { return named[digest] || p.daemon.imageInUse(digest) }, nil
}

func (p pruner) name(ctx context.Context, c api.Commit, named map[string]bool) {
	for _, s := range c.Spec.Services {
		named[s.Digest] = true
		if image, err := p.daemon.images.Lookup(ctx, s.Digest); err == nil {
			named[image.Digest] = true
		}
	}
}
