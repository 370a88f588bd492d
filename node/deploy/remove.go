package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// Remove takes everything of a namespace away but its history.
type Remove struct {
	change
	// branch says that the namespace began as one.
	branch bool
}

// NewRemove removes a namespace.
func NewRemove(kit Kit, ns string) *Remove {
	return &Remove{change: change{kit: kit, ns: ns, kind: "rm"}}
}

// Inspect implements operation.Operation.
func (r *Remove) Inspect(ctx context.Context, before operation.Situation) error {
	if err := r.inspect(ctx, before); err != nil {
		return err
	}
	if err := r.inspectLineage(ctx); err != nil {
		return err
	}
	return r.inspectRest(ctx)
}

// inspectLineage finds what says that the namespace began as a branch: it goes with the release.
func (r *Remove) inspectLineage(ctx context.Context) error {
	fact, err := r.kit.Facts.Get(ctx, store.Branch(r.ns))
	if store.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	r.branch = true
	r.besides = func(b *puts, _ string) { b.remove(store.Branch(r.ns), store.Expect(fact.Revision)) }
	return nil
}

func (r *Remove) inspectRest(ctx context.Context) error {
	// What it keeps of its past holds for what this leaves, too.
	r.next = release{spec: api.Spec{Namespace: r.ns, Retention: r.presentSpec().Retention}}
	if err := r.inspectVolumes(ctx); err != nil {
		return err
	}
	if err := r.needCommit(); err != nil && r.unfinished == nil && len(r.strays(nil))+len(r.strayVolumes()) == 0 {
		return err
	}
	return r.inspectClaims(ctx)
}
