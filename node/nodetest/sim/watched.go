package sim

import (
	"context"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/storage"
)

// watched is a machine's participant under the eyes of the witness.
type watched struct {
	deploy.Participant
	x *witness
	m *simMachine
}

func (x *witness) watch(m *simMachine, p deploy.Participant) deploy.Participant {
	return watched{p, x, m}
}

// act lets an acting call through, and wants it to be refused when its fence is older than one that the machine
// has let in.
func (p watched) act(by deploy.Fenced, what string, call func() error) error {
	key := p.m.name + " " + by.Scope
	p.x.mu.Lock()
	seen := p.x.high[key]
	p.x.high[key] = max(seen, by.Fence)
	if run := p.x.runs[by.Operation]; run != nil && by.Fence >= seen && what != "fence" {
		run.acts = append(run.acts, what+" on "+p.m.name)
	}
	p.x.mu.Unlock()
	err := call()
	p.x.mu.Lock()
	defer p.x.mu.Unlock()
	if what != "fence" {
		p.x.noteLocked(time.Since(p.x.w.began), "%s: %s on %s: %.100v", by.Operation, what, p.m.name, err)
	}
	if by.Fence < seen && api.CodeOf(err) != api.CodeLeaseLost {
		p.x.breakLocked("%s let %s %s with fence %d after it had seen %d", p.m.name, by.Operation, what, by.Fence, seen)
	}
	return err
}

// EnsureImage implements deploy.Participant.
func (p watched) EnsureImage(ctx context.Context, by deploy.Fenced, reference string, pull runtime.Pull) error {
	return p.act(by, "fetch", func() error { return p.Participant.EnsureImage(ctx, by, reference, pull) })
}

// EnsureVolume implements deploy.Participant.
func (p watched) EnsureVolume(ctx context.Context, by deploy.Fenced, spec storage.Spec) (v storage.Volume, err error) {
	err = p.act(by, "volume "+spec.Name, func() (e error) {
		v, e = p.Participant.EnsureVolume(ctx, by, spec)
		return e
	})
	return v, err
}

// SnapshotVolumes implements deploy.Participant.
func (p watched) SnapshotVolumes(ctx context.Context, by deploy.Fenced, order deploy.SnapshotOrder) (taken []storage.Snapshot, err error) {
	err = p.act(by, "snapshot "+order.Name, func() (e error) {
		taken, e = p.Participant.SnapshotVolumes(ctx, by, order)
		return e
	})
	return taken, err
}

// CloneVolume implements deploy.Participant.
func (p watched) CloneVolume(ctx context.Context, by deploy.Fenced, order deploy.CloneOrder) (v storage.Volume, err error) {
	err = p.act(by, "clone "+order.As.Name, func() (e error) {
		v, e = p.Participant.CloneVolume(ctx, by, order)
		return e
	})
	return v, err
}

// Launch implements deploy.Participant.
func (p watched) Launch(ctx context.Context, by deploy.Fenced, spec runtime.Spec) (addrs runtime.Addresses, err error) {
	p.x.mu.Lock()
	p.x.launched[spec.ID] = launch{by.Operation, p.m}
	p.x.mu.Unlock()
	return addrs, p.act(by, "launch "+spec.ID, func() (e error) {
		addrs, e = p.Participant.Launch(ctx, by, spec)
		return e
	})
}

// Act implements deploy.Participant.
func (p watched) Act(ctx context.Context, by deploy.Fenced, action deploy.Action) error {
	what := action.Verb
	if action.Instance != "" {
		what += " " + action.Instance
	}
	return p.act(by, what, func() error { return p.Participant.Act(ctx, by, action) })
}

// Await implements deploy.Participant.
func (p watched) Await(ctx context.Context, spec runtime.Spec, probe *api.Probe) error {
	err := p.Participant.Await(ctx, spec, probe)
	if err == nil {
		p.x.mu.Lock()
		defer p.x.mu.Unlock()
		p.x.ready[spec.ID] = true
	}
	return err
}
