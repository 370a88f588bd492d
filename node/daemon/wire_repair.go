package daemon

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// repairing is a repair with the backup that it takes away at its end.
type repairing struct {
	operation.Operation
	*archive
}

// newRepair repairs facts on this machine, which is a member.
func (d *Daemon) newRepair(kit machine.Kit) func(api.RepairRequest) operation.Operation {
	return func(r api.RepairRequest) operation.Operation {
		from := &archive{daemon: d, digest: r.Digest}
		return repairing{machine.NewRepair(kit, machine.Salvage{
			Problem: readAs,
			Last:    d.lastRoster,
			Rebuild: func(ctx context.Context, key store.Key) ([]byte, error) { return deploy.Rebuild(ctx, kit.Facts, key) },
			Needed: func(ctx context.Context, key store.Key) (*api.Error, error) {
				return deploy.Needed(ctx, kit.Facts, key)
			},
			Against: func(ctx context.Context, fact store.Fact) (*api.Error, error) {
				return deploy.Against(ctx, kit.Facts, fact)
			},
			Archive: from,
		}, r), from}
	}
}

// lastRoster is what this machine last read of the membership.
func (d *Daemon) lastRoster() machine.Roster {
	f := d.following.Load()
	if f == nil {
		return machine.Roster{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.roster
}
