package runc

import (
	"context"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/units"
)

// Freeze implements runtime.Console: the unit's whole cgroup stands still.
func (r *Runtime) Freeze(ctx context.Context, id string, atMost time.Duration) error {
	if _, err := r.running(ctx, id); err != nil {
		return err
	}
	return freezeFailed(id, r.Freezer.Freeze(ctx, units.WorkloadService(id), atMost))
}

// Thaw implements runtime.Console.
func (r *Runtime) Thaw(ctx context.Context, id string) error {
	if err := runtime.CheckID(id); err != nil {
		return err
	}
	return freezeFailed(id, r.Freezer.Thaw(ctx, units.WorkloadService(id)))
}

func freezeFailed(id string, err error) error {
	if err == nil {
		return nil
	}
	return api.Errorf(api.CodeFreezeFailed, "%w", err).About("instance "+id).WithHint("systemctl status %s", units.WorkloadService(id))
}
