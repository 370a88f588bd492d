package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

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
