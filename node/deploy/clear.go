package deploy

import (
	"context"

	"github.com/ployz/ployz/node/operation"
)

// Clear commits the present release again, which clears what an unfinished operation left behind
// and starts what should run and does not.
type Clear struct{ change }

// NewClear clears a namespace.
func NewClear(kit Kit, ns string) *Clear {
	return &Clear{change{kit: kit, ns: ns, kind: "clear"}}
}

// Inspect implements operation.Operation.
func (c *Clear) Inspect(ctx context.Context, before operation.Situation) error {
	if err := c.inspect(ctx, before); err != nil {
		return err
	}
	c.next = c.present()
	c.complete(ctx)
	return c.inspectNext(ctx)
}
