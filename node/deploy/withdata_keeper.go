package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// CloneOrder asks for a volume that begins as a snapshot.
type CloneOrder struct {
	// From is the snapshot; one of that name with another GUID is not meant.
	From storage.Origin `json:"from"`
	Spec storage.Spec   `json:"spec"`
	// Kept makes it without a name, for a swap.
	Kept bool `json:"kept,omitempty"`
}

// VolumeSnapshots implements Participant.
func (l *Local) VolumeSnapshots(ctx context.Context, ids []string) ([]storage.Snapshot, error) {
	if l.Pool == nil {
		return nil, noPool()
	}
	var all []storage.Snapshot
	for _, id := range ids {
		of, err := l.Pool.ListSnapshots(ctx, id)
		if err != nil && api.CodeOf(err) != api.CodeVolumeNotFound {
			return nil, err
		}
		all = append(all, of...)
	}
	return all, nil
}

// CloneVolume implements Participant.
func (l *Local) CloneVolume(ctx context.Context, by Fenced, order CloneOrder) (storage.Volume, error) {
	if err := l.Fences.Admit(by.Scope, by.Fence); err != nil {
		return storage.Volume{}, err
	}
	from := order.From
	seen, err := l.VolumeSnapshots(ctx, []string{from.Volume})
	if err != nil {
		return storage.Volume{}, err
	}
	for _, s := range seen {
		if s.Name == from.Snapshot && s.GUID == from.GUID {
			return l.Pool.Clone(ctx, from.Volume, from.Snapshot, order.Spec, order.Kept)
		}
	}
	return storage.Volume{}, storage.SnapshotNotFound(from.Volume, from.Snapshot+" ("+from.GUID+")")
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
