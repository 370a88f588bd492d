package runtime

import (
	"context"
	"time"

	"github.com/ployz/ployz/units"
)

// Units is what a backend needs of the machine's service supervisor. The systemd supervisor of
// node/services obeys it as it is; its errors are service.*.
type Units interface {
	// Observe reads one unit; one that is nowhere is not Present.
	Observe(ctx context.Context, name string) (units.Observation, error)
	// List observes every unit that is loaded or has a file and matches a shell pattern, sorted.
	List(ctx context.Context, pattern string) ([]units.Observation, error)
	// Write makes the unit files these, without enabling or starting anything.
	Write(ctx context.Context, us ...units.Unit) error
	// Enable says durably whether the unit starts at boot.
	Enable(ctx context.Context, name string, boot bool) error
	// Start starts a unit and returns when it is up; a running one is left alone.
	Start(ctx context.Context, name string) error
	// Stop stops a unit.
	Stop(ctx context.Context, name string) error
	// Remove stops units and deletes their files.
	Remove(ctx context.Context, names ...string) error
}

// Freezer makes units stand still. The systemd supervisor obeys it as it is.
type Freezer interface {
	// Freeze makes all processes of a running unit stand still, and returns when they do. The service supervisor itself
	// thaws the unit after atMost, counted from the call, so that it goes on whatever becomes of the caller. Errors:
	// service.*; then nothing stands still.
	Freeze(ctx context.Context, name string, atMost time.Duration) error
	// Thaw lets them go on; safe for a unit that is not frozen or not there.
	Thaw(ctx context.Context, name string) error
}
