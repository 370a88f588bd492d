package daemon

import (
	"context"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/runtime/oci"
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
	plan, err := p.daemon.images.PlanPrune(ctx, keep, max(olderThan, youngestPruned))
	return fromOCI(plan), err
}

// Prune implements Pruner.
func (p pruner) Prune(ctx context.Context, plan api.PrunePlan) (api.PrunePlan, error) {
	keep, err := p.kept(ctx)
	if err != nil {
		return api.PrunePlan{}, err
	}
	done, err := p.daemon.images.Prune(ctx, toOCI(plan), keep)
	return fromOCI(done), err
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

func fromOCI(p oci.PrunePlan) api.PrunePlan {
	out := api.PrunePlan{Bytes: p.Bytes}
	for _, i := range p.Images {
		out.Images = append(out.Images, api.PrunedImage(i))
	}
	for _, b := range p.Blobs {
		out.Blobs = append(out.Blobs, api.PrunedPart(b))
	}
	for _, l := range p.Layers {
		out.Layers = append(out.Layers, api.PrunedPart(l))
	}
	return out
}

func toOCI(p api.PrunePlan) oci.PrunePlan {
	out := oci.PrunePlan{Bytes: p.Bytes}
	for _, i := range p.Images {
		out.Images = append(out.Images, oci.PrunedImage(i))
	}
	for _, b := range p.Blobs {
		out.Blobs = append(out.Blobs, oci.PrunedPart(b))
	}
	for _, l := range p.Layers {
		out.Layers = append(out.Layers, oci.PrunedPart(l))
	}
	return out
}
