package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
)

// VolumeID is the id of what an operation makes, for tests that make what one left.
var VolumeID = volumeID

// copied runs in one namespace what another runs, its volumes as they are now.
type copied struct {
	change
	from string
}

// NewCopied is the smallest operation whose volumes begin as another namespace's. It is called a branch, since what
// those leave is cleared.
func NewCopied(kit Kit, from, ns string) operation.Operation {
	return &copied{change: change{kit: kit, ns: ns, kind: api.KindBranch}, from: from}
}

// Inspect implements operation.Operation.
func (c *copied) Inspect(ctx context.Context, before operation.Situation) error {
	if err := c.inspect(ctx, before); err != nil {
		return err
	}
	of, err := Current(ctx, c.kit.Facts, c.from)
	if err != nil {
		return err
	}
	c.next = releaseOf(of)
	c.next.spec.Namespace = c.ns
	for name, s := range c.next.spec.Services {
		s.Routes, s.Ports = nil, nil
		c.next.spec.Services[name] = s
	}
	c.complete(ctx)
	if err := c.inspectVolumes(ctx); err != nil {
		return err
	}
	if err := c.beginAs(ctx, of); err != nil {
		return err
	}
	return c.inspectClaims(ctx)
}

// NewHeldDeploy is a deploy for which the gateways hold requests to some services.
func NewHeldDeploy(kit Kit, spec api.Spec, services ...string) *Deploy {
	d := NewDeploy(kit, spec, nil)
	d.hold = services
	return d
}
