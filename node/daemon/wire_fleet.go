package daemon

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/store"
)

// fleet reaches the cluster's daemons: machine.Fleet.
type fleet struct {
	daemon *Daemon
	self   machine.Identity
}

// Follow implements machine.Fleet.
func (f fleet) Follow(ctx context.Context, id string, revision store.Revision) error {
	if id == f.self.ID {
		return f.daemon.following.Load().follow(ctx, revision)
	}
	return api.Errorf(api.CodeParticipantAbsent, "not wired yet").About(id)
}

// Revoke implements machine.Fleet.
func (f fleet) Revoke(ctx context.Context, gone machine.Member) error { return nil }

// Leave implements machine.Fleet.
func (f fleet) Leave(ctx context.Context, gone machine.Member) error { return nil }

// seats changes who votes: machine.Seats.
type seats struct{ daemon *Daemon }

// Check implements machine.Seats.
func (s seats) Check(ctx context.Context, gone machine.Member, lost bool) ([]*api.Error, error) {
	return nil, nil
}

// Add implements machine.Seats.
func (s seats) Add(ctx context.Context, m machine.Member, beside []machine.Member) error { return nil }

// Take implements machine.Seats.
func (s seats) Take(ctx context.Context, m machine.Member, rest []machine.Member, lost bool) error {
	return nil
}
