package deploy

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/storage"
)

// Local is the participant of the machine that this process runs on.
type Local struct {
	Runtime runtime.Runtime
	Images  runtime.Images
	Network runtime.Network
	Console runtime.Console
	// Pool keeps volumes; nil is a machine without one.
	Pool storage.Pool
	// Fences remembers, on disk, whom not to listen to any more.
	Fences *coordination.Fences
	Subnet Subnet
	// Machine answers what only the machine knows: capacity and listeners.
	Machine func(ctx context.Context) (Observation, error)
	// Serving asks the machine's gateway and resolver.
	Serving func(ctx context.Context, namespace string) ([]Consumer, error)
	// Peers finds machines that have a blob; nil is none.
	Peers func(ctx context.Context, digest string) []runtime.Peer
	// Steady is how long an instance without a probe must have been running to count as ready;
	// 0 means 300 ms.
	Steady time.Duration
	// Release is how long the last mount of a stopped instance may take to go from a volume; 0 means 10 s.
	Release time.Duration

	// addressing is held from the choice of an instance's addresses until they are on disk.
	addressing sync.Mutex
	// quiescing is held while instances hold still for a snapshot.
	quiescing sync.Mutex
}

var _ Participant = (*Local)(nil)

// Observe implements Participant.
func (l *Local) Observe(ctx context.Context) (Observation, error) {
	seen, err := l.Machine(ctx)
	if err != nil {
		return Observation{}, err
	}
	seen.Keeps = l.Pool != nil
	seen.Instances, err = l.Runtime.List(ctx)
	return seen, err
}

// Resolve implements Participant.
func (l *Local) Resolve(ctx context.Context, q Query) (Resolved, error) {
	image, err := l.Images.Lookup(ctx, q.Reference)
	if err == nil {
		return Resolved{Digest: image.Digest, Present: true, Named: image.Named}, nil
	}
	if q.Here {
		return Resolved{}, err
	}
	digest, err := l.Images.Resolve(ctx, q.Reference, q.Auth)
	return Resolved{Digest: digest}, err
}

// EnsureImage implements Participant: from a machine that has it, else from the registry.
func (l *Local) EnsureImage(ctx context.Context, by Fenced, reference string, pull runtime.Pull) error {
	if err := l.Fences.Admit(by.Scope, by.Fence); err != nil {
		return err
	}
	if _, digest, fixed := strings.Cut(reference, "@"); fixed && l.Peers != nil {
		pull.Peers = l.Peers(ctx, digest)
	}
	_, err := l.Images.Ensure(ctx, reference, pull)
	return err
}

// Launch implements Participant.
func (l *Local) Launch(ctx context.Context, by Fenced, spec runtime.Spec) (runtime.Addresses, error) {
	if err := l.Fences.Admit(by.Scope, by.Fence); err != nil {
		return runtime.Addresses{}, err
	}
	image, err := l.Images.Lookup(ctx, pinned(spec.Image, spec.Digest))
	if err != nil {
		return runtime.Addresses{}, err
	}
	if spec, err = l.withSources(ctx, spec); err != nil {
		return runtime.Addresses{}, err
	}
	addrs, err := l.attach(ctx, spec)
	if err != nil {
		return runtime.Addresses{}, err
	}
	if err := l.Runtime.Prepare(ctx, spec, image, addrs); err != nil {
		return runtime.Addresses{}, err
	}
	return addrs, l.Runtime.Start(ctx, spec.ID)
}

// attach gives an instance addresses of its own, the ones it has when it has some.
func (l *Local) attach(ctx context.Context, spec runtime.Spec) (runtime.Addresses, error) {
	l.addressing.Lock()
	defer l.addressing.Unlock()
	taken, err := l.Network.Taken(ctx)
	if err != nil {
		return runtime.Addresses{}, err
	}
	addrs, had := taken[spec.ID]
	if !had {
		if addrs, err = l.Subnet.choose(spec, taken); err != nil {
			return runtime.Addresses{}, err
		}
	}
	return addrs, l.Network.Attach(ctx, spec.ID, spec.NamespaceID, addrs)
}

// Act implements Participant.
func (l *Local) Act(ctx context.Context, by Fenced, action Action) error {
	if err := l.Fences.Admit(by.Scope, by.Fence); err != nil {
		return err
	}
	switch action.Verb {
	case "fence":
		return nil
	case "start":
		return l.Runtime.Start(ctx, action.Instance)
	case "stop":
		return l.Runtime.Stop(ctx, action.Instance)
	case "publish":
		return l.publish(ctx, action)
	case "retire":
		return l.retire(ctx, action.Instance)
	case "settle":
		return l.settle(ctx, action.Quiesce)
	}
	return l.actOnVolume(ctx, action)
}

func (l *Local) retire(ctx context.Context, instance string) error {
	if err := l.Runtime.Stop(ctx, instance); err != nil {
		return err
	}
	if err := l.Runtime.Remove(ctx, instance); err != nil {
		return err
	}
	return l.Network.Detach(ctx, instance)
}

// Applied implements Participant.
func (l *Local) Applied(ctx context.Context, namespace string) ([]Consumer, error) {
	return l.Serving(ctx, namespace)
}
