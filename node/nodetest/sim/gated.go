package sim

import (
	"context"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage"
)

// gated is a daemon's way into its own participant.
type gated struct {
	d     *daemon
	inner deploy.Participant
}

var _ deploy.Participant = gated{}

func (g gated) Observe(ctx context.Context) (deploy.Observation, error) {
	g.d.gate()
	return g.inner.Observe(ctx)
}

func (g gated) Resolve(ctx context.Context, q deploy.Query) (deploy.Resolved, error) {
	g.d.gate()
	return g.inner.Resolve(ctx, q)
}

func (g gated) EnsureImage(ctx context.Context, by deploy.Fenced, reference string, pull runtime.Pull) error {
	g.d.gate()
	return g.inner.EnsureImage(ctx, by, reference, pull)
}

func (g gated) Launch(ctx context.Context, by deploy.Fenced, spec runtime.Spec) (runtime.Addresses, error) {
	g.d.gate()
	return g.inner.Launch(ctx, by, spec)
}

func (g gated) Await(ctx context.Context, spec runtime.Spec, probe *api.Probe) error {
	g.d.gate()
	return g.inner.Await(ctx, spec, probe)
}

func (g gated) Act(ctx context.Context, by deploy.Fenced, action deploy.Action) error {
	g.d.gate()
	return g.inner.Act(ctx, by, action)
}

func (g gated) Applied(ctx context.Context, ns string) ([]deploy.Consumer, error) {
	g.d.gate()
	return g.inner.Applied(ctx, ns)
}

func (g gated) Stored(ctx context.Context, ns string) (deploy.Stored, error) {
	g.d.gate()
	return g.inner.Stored(ctx, ns)
}

func (g gated) EnsureVolume(ctx context.Context, by deploy.Fenced, spec storage.Spec) (storage.Volume, error) {
	g.d.gate()
	return g.inner.EnsureVolume(ctx, by, spec)
}

func (g gated) SnapshotVolumes(ctx context.Context, by deploy.Fenced, order deploy.SnapshotOrder) ([]storage.Snapshot, error) {
	g.d.gate()
	return g.inner.SnapshotVolumes(ctx, by, order)
}

func (g gated) ListSnapshots(ctx context.Context, ids []string) (map[string][]storage.Snapshot, error) {
	g.d.gate()
	return g.inner.ListSnapshots(ctx, ids)
}

func (g gated) CloneVolume(ctx context.Context, by deploy.Fenced, order deploy.CloneOrder) (storage.Volume, error) {
	g.d.gate()
	return g.inner.CloneVolume(ctx, by, order)
}

// boundRuntime is what runs on a machine, as one daemon drives it: starting and stopping take their time, and
// end when the daemon does.
type boundRuntime struct {
	*memruntime.Runtime
	d *daemon
}

// take is how long a call takes, and its end when the daemon ends meanwhile.
func (b boundRuntime) take(call, id string) {
	b.d.gate()
	d := b.d.w.dice
	name := call + " " + id
	took := d.between(time.Millisecond, 40*time.Millisecond, name)
	if d.chance(b.d.w.weather().slow, "slow "+name) {
		took = d.between(time.Second, 40*time.Second, name)
	}
	time.Sleep(took)
	b.d.gate()
}

// Start implements runtime.Runtime.
func (b boundRuntime) Start(ctx context.Context, id string) error {
	b.take("start", id)
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.Runtime.Start(ctx, id)
}

// Stop implements runtime.Runtime.
func (b boundRuntime) Stop(ctx context.Context, id string) error {
	b.take("stop", id)
	return b.Runtime.Stop(ctx, id)
}
