package transfer

import (
	"context"
	"errors"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// SnapshotFor implements storage.Carrier: a hold's tag is the operation's id.
func (d *Desk) SnapshotFor(ctx context.Context, operation, name string, volumes ...string) ([]storage.Snapshot, error) {
	pool, err := d.pool()
	if err != nil {
		return nil, err
	}
	taken, err := pool.Snapshot(ctx, name, volumes...)
	if err != nil {
		return nil, err
	}
	for _, id := range volumes {
		if err := pool.Hold(ctx, id, name, operation); err != nil {
			return nil, err
		}
	}
	return taken, nil
}

// WrittenFor implements storage.Carrier.
func (d *Desk) WrittenFor(ctx context.Context, volume, base string) (int64, error) {
	pool, err := d.pool()
	if err != nil {
		return 0, err
	}
	return pool.Written(ctx, volume, base)
}

// ForgetFor implements storage.Carrier.
func (d *Desk) ForgetFor(ctx context.Context, operation, volume, keep string) error {
	pool, err := d.pool()
	if err != nil {
		return err
	}
	if err := d.Withdraw(ctx, operation, volume); err != nil {
		return err
	}
	all, err := pool.ListSnapshots(ctx, volume)
	if api.CodeOf(err) == api.CodeVolumeNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range all {
		errs = append(errs, pool.Release(ctx, volume, s.Name, operation))
		if s.Name != keep && storage.IsOperationSnapshot(operation, s.Name) {
			errs = append(errs, pool.Forget(ctx, volume, s.Name))
		}
	}
	return errors.Join(errs...)
}
