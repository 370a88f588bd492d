package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// nameSnapshots gives snapshots that there are the name of an order, and holds them. One that was named before stays.
func (l *Local) nameSnapshots(ctx context.Context, order SnapshotOrder) (all []storage.Snapshot, err error) {
	for _, id := range order.Volumes {
		s, err := l.nameSnapshot(ctx, id, order)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func (l *Local) nameSnapshot(ctx context.Context, id string, order SnapshotOrder) (s storage.Snapshot, err error) {
	list, err := l.Pool.ListSnapshots(ctx, id)
	if err != nil {
		return s, err
	}
	is, done := named(list, order.Of), named(list, order.Name)
	switch {
	case is == nil && done == nil:
		return s, storage.SnapshotNotFound(id, order.Of)
	case is == nil:
		is = done
	case done != nil: // of a commit that never was: it shows another moment
		err = l.forgetSnapshots(ctx, order.Name, order.Tag, []string{id})
	}
	if err == nil {
		err = l.Pool.RenameSnapshot(ctx, id, is.Name, order.Name)
	}
	if err == nil {
		err = l.Pool.Hold(ctx, id, order.Name, order.Tag)
	}
	is.Name = order.Name
	return *is, err
}

// unnameSnapshots takes that back. What was not named yet, or is not there, is left alone.
func (l *Local) unnameSnapshots(ctx context.Context, action Action) error {
	for _, id := range action.Volumes {
		list, err := l.Pool.ListSnapshots(ctx, id)
		if code := api.CodeOf(err); code == api.CodeVolumeNotFound || err == nil && (named(list, action.Snapshot) == nil || named(list, action.As) != nil) {
			continue
		}
		if err == nil {
			err = l.Pool.Release(ctx, id, action.Snapshot, action.Tag)
		}
		if err == nil {
			err = l.Pool.RenameSnapshot(ctx, id, action.Snapshot, action.As)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
