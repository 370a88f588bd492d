package deploy

import (
	"context"

	"github.com/ployz/ployz/node/storage"
)

// pruneCopy destroys a kept copy of a volume that is on another machine. What holds its snapshots holds those of the
// volume itself; only a clone keeps it.
func (l *Local) pruneCopy(ctx context.Context, id string) error {
	if _, there, err := l.kept(ctx, id); err != nil || !there {
		return err
	}
	return l.destroyCopy(ctx, id)
}

// destroyCopy releases nothing before it is known that no clone needs it.
func (l *Local) destroyCopy(ctx context.Context, id string) error {
	all, err := l.Pool.ListSnapshots(ctx, id)
	if err != nil {
		return err
	}
	for _, s := range all {
		if len(s.Clones) > 0 {
			return storage.SnapshotNeeded(s)
		}
	}
	for _, s := range all {
		for _, tag := range s.Holds {
			if err := l.Pool.Release(ctx, id, s.Name, tag); err != nil {
				return err
			}
		}
	}
	return l.Pool.Destroy(ctx, id)
}
