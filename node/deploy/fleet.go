package deploy

import (
	"context"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
)

// Fleet finds the cluster's machines: this one by itself, the others over the bus.
type Fleet struct {
	// Self is this machine's name, Local its participant, Carry its part in carrying volumes.
	Self   string
	Local  Participant
	Carry  Carrier
	Caller coordination.Caller
	// Members reads the memberships; the machine's own mirror will do.
	Members func(ctx context.Context) ([]machine.Member, error)
	// Patience is how long a machine may take to say that it is there; 0 means 2 s.
	Patience time.Duration
}

var (
	_ Participants = (*Fleet)(nil)
	_ Carriers     = (*Fleet)(nil)
)

// Participant implements Participants. The machine is asked whether it is there, so that a fan-out learns at
// once of one that is not, and nothing was done there.
func (f *Fleet) Participant(ctx context.Context, name string) (Participant, error) {
	if name == f.Self {
		return f.Local, nil
	}
	id, err := f.find(ctx, name)
	if err != nil {
		return nil, err
	}
	bounded, stop := context.WithTimeout(ctx, f.patience())
	defer stop()
	if _, err := f.Caller.Call(bounded, id, coordination.Command{Verb: coordination.Ping}, nil); err != nil {
		return nil, notThere(name, err)
	}
	return &Remote{Machine: id, Caller: f.Caller}, nil
}

// Carrier implements Carriers.
func (f *Fleet) Carrier(ctx context.Context, name string) (Carrier, error) {
	if name == f.Self {
		return f.Carry, nil
	}
	id, err := f.find(ctx, name)
	return RemoteCarrier{Machine: id, Caller: f.Caller}, err
}

func (f *Fleet) find(ctx context.Context, name string) (string, error) {
	members, err := f.Members(ctx)
	if err != nil {
		return "", err
	}
	for _, m := range members {
		if m.Name == name {
			return m.ID, nil
		}
	}
	return "", api.Errorf(api.CodeMachineSilent, "no member of the cluster has that name").About(name).WithHint("list them: ployzctl machine ls")
}

// notThere keeps a refusal as it is: it says more than that there was no answer.
func notThere(name string, err error) error {
	switch api.CodeOf(err) {
	case api.CodeParticipantAbsent, api.CodeParticipantSilent:
		return api.Errorf(api.CodeMachineSilent, "it does not answer: %w", err).About(name).Again().
			WithHint("is it up and reachable? ployzctl machine show %s", name)
	}
	return err
}

func (f *Fleet) patience() time.Duration {
	if f.Patience == 0 {
		return 2 * time.Second
	}
	return f.Patience
}
