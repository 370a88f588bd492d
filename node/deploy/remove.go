package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
)

// Remove takes everything of a namespace away but its history.
type Remove struct{ change }

// NewRemove removes a namespace.
func NewRemove(kit Kit, ns string) *Remove {
	return &Remove{change{kit: kit, ns: ns, kind: "rm"}}
}

// Inspect implements operation.Operation.
func (r *Remove) Inspect(ctx context.Context, before operation.Situation) error {
	if err := r.inspect(ctx, before); err != nil {
		return err
	}
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
