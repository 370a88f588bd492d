package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// ListSnapshots implements Participant.
func (l *Local) ListSnapshots(ctx context.Context, ids []string) (map[string][]storage.Snapshot, error) {
	if l.Pool == nil {
		return nil, noPool()
	}
	all := map[string][]storage.Snapshot{}
	for _, id := range ids {
		list, err := l.Pool.ListSnapshots(ctx, id)
		if err != nil && api.CodeOf(err) != api.CodeVolumeNotFound {
			return nil, err
		}
		all[id] = list
	}
	return all, nil
}

// CloneVolume implements Participant.
func (l *Local) CloneVolume(ctx context.Context, by Fenced, order CloneOrder) (storage.Volume, error) {
	if err := l.Fences.Admit(by.Scope, by.Fence); err != nil {
		return storage.Volume{}, err
	}
	if l.Pool == nil {
		return storage.Volume{}, noPool()
	}
	return l.Pool.Clone(ctx, order.Volume, order.Snapshot, order.As, order.Kept)
}

// swapBack makes the volume that was to go out live again, however far the swap came.
func (l *Local) swapBack(ctx context.Context, out, in string) error {
	o, err := l.Pool.Inspect(ctx, out)
	if err != nil || o.State == storage.StateLive {
		return err
	}
	i, err := l.Pool.Inspect(ctx, in)
	switch {
	case err != nil && api.CodeOf(err) != api.CodeVolumeNotFound:
		return err
	case err == nil && i.State == storage.StateLive:
		return l.Pool.Swap(ctx, in, out)
	}
	return l.Pool.Restore(ctx, out)
}
