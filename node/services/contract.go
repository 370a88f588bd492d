package services

import (
	"context"

	"github.com/ployz/ployz/units"
)

// Supervisor runs units on this machine. Every call is safe to repeat, and Stop and Remove are safe
// on a unit that is not there. Any call fails with service.supervisor-unavailable while the
// supervisor does not answer; nothing was done then.
type Supervisor interface {
	// Observe reads one unit. A unit that is nowhere is an Observation that is not Present.
	Observe(ctx context.Context, name string) (units.Observation, error)
	// Install makes the unit files these and enables them for boot. It starts and restarts
	// nothing. Errors: service.not-ours (a file of that name without our identity).
	Install(ctx context.Context, us ...units.Unit) error
	// Start starts a unit and returns when it is up; a running one is left alone. Errors:
	// service.not-found, service.start-failed.
	Start(ctx context.Context, name string) error
	// Restart stops and starts a unit. Errors as of Start.
	Restart(ctx context.Context, name string) error
	// Reload asks the running service to take the program and configuration on disk over
	// while it serves. Errors: service.reload-failed (it serves on as before).
	Reload(ctx context.Context, name string) error
	// Stop stops a unit. Errors: service.stop-failed.
	Stop(ctx context.Context, name string) error
	// Remove stops units, and deletes their files. Errors: service.not-ours, service.stop-failed.
	Remove(ctx context.Context, names ...string) error
}
