package deploy

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/storage"
)

// The verbs of a participant on the bus.
const (
	verbObserve = "deploy.observe"
	verbResolve = "deploy.resolve"
	verbImage   = "deploy.image"
	verbLaunch  = "deploy.launch"
	verbAwait   = "deploy.await"
	verbAct     = "deploy.act"
	verbApplied = "deploy.applied"
	verbStored  = "deploy.stored"
	verbVolume  = "deploy.volume"
	verbMoment  = "deploy.snapshot"
	verbMoments = "deploy.snapshots"
	verbClone   = "deploy.clone"
)

// What a machine gets to answer a question, where the caller set no nearer deadline.
const (
	observeTimeout = 20 * time.Second
	resolveTimeout = 2 * time.Minute
)

// Remote is the participant of another machine, which Serve answers for there. Each call's errors are those
// of the participant, as they are, and those of coordination.Caller.
type Remote struct {
	// Machine is the machine's id.
	Machine string
	Caller  coordination.Caller
}

var _ Participant = (*Remote)(nil)

// What travels where a call has more than one argument.
type (
	imageOrder struct {
		Reference string                `json:"reference"`
		Always    bool                  `json:"always,omitempty"`
		Auth      *runtime.RegistryAuth `json:"auth,omitempty"`
		Named     time.Time             `json:"named,omitzero"`
	}
	imageProgress struct {
		Part  string `json:"part"`
		Done  int64  `json:"done"`
		Total int64  `json:"total"`
	}
	awaitQuery struct {
		Spec  runtime.Spec `json:"spec"`
		Probe *api.Probe   `json:"probe,omitempty"`
	}
	// consumerAnswer is a Consumer whose error can travel.
	consumerAnswer struct {
		Consumer
		Err *api.Error
	}
	nothing struct{}
)

// Observe implements Participant.
func (r *Remote) Observe(ctx context.Context) (seen Observation, err error) {
	ctx, stop := context.WithTimeout(ctx, observeTimeout)
	defer stop()
	err = r.ask(ctx, Fenced{}, verbObserve, nothing{}, &seen, nil)
	return seen, err
}

// Resolve implements Participant.
func (r *Remote) Resolve(ctx context.Context, q Query) (found Resolved, err error) {
	ctx, stop := context.WithTimeout(ctx, resolveTimeout)
	defer stop()
	err = r.ask(ctx, Fenced{}, verbResolve, q, &found, nil)
	return found, err
}

// EnsureImage implements Participant.
func (r *Remote) EnsureImage(ctx context.Context, by Fenced, reference string, pull runtime.Pull) error {
	return r.ask(ctx, by, verbImage, imageOrder{reference, pull.Always, pull.Auth, pull.Named}, nil, func(body json.RawMessage) {
		var p imageProgress
		if json.Unmarshal(body, &p) == nil && pull.Progress != nil {
			pull.Progress(p.Part, p.Done, p.Total)
		}
	})
}

// Launch implements Participant.
func (r *Remote) Launch(ctx context.Context, by Fenced, spec runtime.Spec) (addrs runtime.Addresses, err error) {
	err = r.ask(ctx, by, verbLaunch, spec, &addrs, nil)
	return addrs, err
}

// Await implements Participant.
func (r *Remote) Await(ctx context.Context, spec runtime.Spec, probe *api.Probe) error {
	return r.ask(ctx, Fenced{}, verbAwait, awaitQuery{spec, probe}, nil, nil)
}

// Act implements Participant.
func (r *Remote) Act(ctx context.Context, by Fenced, action Action) error {
	return r.ask(ctx, by, verbAct, action, nil, nil)
}

// Applied implements Participant.
func (r *Remote) Applied(ctx context.Context, namespace string) ([]Consumer, error) {
	ctx, stop := context.WithTimeout(ctx, observeTimeout)
	defer stop()
	var answers []consumerAnswer
	if err := r.ask(ctx, Fenced{}, verbApplied, namespace, &answers, nil); err != nil {
		return nil, err
	}
	consumers := make([]Consumer, len(answers))
	for i, a := range answers {
		consumers[i] = a.Consumer
		if a.Err != nil {
			consumers[i].Err = a.Err
		}
	}
	return consumers, nil
}

// Stored implements Participant.
func (r *Remote) Stored(ctx context.Context, namespace string) (stored Stored, err error) {
	ctx, stop := context.WithTimeout(ctx, observeTimeout)
	defer stop()
	err = r.ask(ctx, Fenced{}, verbStored, namespace, &stored, nil)
	return stored, err
}

// EnsureVolume implements Participant.
func (r *Remote) EnsureVolume(ctx context.Context, by Fenced, spec storage.Spec) (v storage.Volume, err error) {
	err = r.ask(ctx, by, verbVolume, spec, &v, nil)
	return v, err
}

// SnapshotVolumes implements Participant.
func (r *Remote) SnapshotVolumes(ctx context.Context, by Fenced, order SnapshotOrder) (taken []storage.Snapshot, err error) {
	err = r.ask(ctx, by, verbMoment, order, &taken, nil)
	return taken, err
}

// ListSnapshots implements Participant.
func (r *Remote) ListSnapshots(ctx context.Context, ids []string) (all map[string][]storage.Snapshot, err error) {
	ctx, stop := context.WithTimeout(ctx, observeTimeout)
	defer stop()
	err = r.ask(ctx, Fenced{}, verbMoments, ids, &all, nil)
	return all, err
}

// CloneVolume implements Participant.
func (r *Remote) CloneVolume(ctx context.Context, by Fenced, order CloneOrder) (v storage.Volume, err error) {
	err = r.ask(ctx, by, verbClone, order, &v, nil)
	return v, err
}

// ask calls a verb. After a silence it asks once more: the machine gives a repeated command its first
// answer, so that a lost answer, as when a store core is lost, does not end a deploy.
func (r *Remote) ask(ctx context.Context, by Fenced, verb string, question, answer any, progress func(json.RawMessage)) error {
	body, err := json.Marshal(question)
	if err != nil {
		return api.Errorf(api.CodeInternal, "encoding %s: %w", verb, err)
	}
	cmd := coordination.Command{Verb: verb, Operation: by.Operation, Step: by.Step, Scope: by.Scope, Fence: by.Fence, Body: body}
	body, err = r.Caller.Call(ctx, r.Machine, cmd, progress)
	if api.CodeOf(err) == api.CodeParticipantSilent && ctx.Err() == nil {
		body, err = r.Caller.Call(ctx, r.Machine, cmd, progress)
	}
	if err != nil || answer == nil {
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return api.Errorf(api.CodeInternal, "the answer to %s cannot be read: %w", verb, err).About(r.Machine)
	}
	return nil
}

// Serve is how a machine answers the commands of Remote: as the participant that it is for itself.
func Serve(p Participant) map[string]coordination.Verb {
	return map[string]coordination.Verb{
		verbObserve: serve(false, func(ctx context.Context, _ call, _ nothing) (Observation, error) { return p.Observe(ctx) }),
		verbResolve: serve(false, func(ctx context.Context, _ call, q Query) (Resolved, error) {
			return p.Resolve(ctx, q)
		}),
		verbImage: serve(true, func(ctx context.Context, c call, o imageOrder) (nothing, error) {
			pull := runtime.Pull{Always: o.Always, Auth: o.Auth, Named: o.Named, Progress: c.thinned()}
			return nothing{}, p.EnsureImage(ctx, c.by, o.Reference, pull)
		}),
		verbLaunch: serve(true, func(ctx context.Context, c call, spec runtime.Spec) (runtime.Addresses, error) {
			return p.Launch(ctx, c.by, spec)
		}),
		verbAwait: serve(false, func(ctx context.Context, _ call, q awaitQuery) (nothing, error) {
			return nothing{}, p.Await(ctx, q.Spec, q.Probe)
		}),
		verbAct: serve(true, func(ctx context.Context, c call, action Action) (nothing, error) {
			return nothing{}, p.Act(ctx, c.by, action)
		}),
		verbApplied: serve(false, func(ctx context.Context, _ call, namespace string) ([]consumerAnswer, error) {
			return applied(ctx, p, namespace)
		}),
		verbStored: serve(false, func(ctx context.Context, _ call, namespace string) (Stored, error) { return p.Stored(ctx, namespace) }),
		verbMoment: serve(true, func(ctx context.Context, c call, o SnapshotOrder) ([]storage.Snapshot, error) {
			return p.SnapshotVolumes(ctx, c.by, o)
		}),
		verbMoments: serve(false, func(ctx context.Context, _ call, ids []string) (map[string][]storage.Snapshot, error) {
			return p.ListSnapshots(ctx, ids)
		}),
		verbClone: serve(true, func(ctx context.Context, c call, o CloneOrder) (storage.Volume, error) {
			return p.CloneVolume(ctx, c.by, o)
		}),
		verbVolume: serve(true, func(ctx context.Context, c call, spec storage.Spec) (storage.Volume, error) {
			return p.EnsureVolume(ctx, c.by, spec)
		}),
	}
}

func applied(ctx context.Context, p Participant, namespace string) ([]consumerAnswer, error) {
	consumers, err := p.Applied(ctx, namespace)
	if err != nil {
		return nil, err
	}
	answers := make([]consumerAnswer, len(consumers))
	for i, c := range consumers {
		answers[i] = consumerAnswer{Consumer: c, Err: api.AsError(c.Err)}
	}
	return answers, nil
}

// call is one command as a verb sees it.
type call struct {
	by       Fenced
	progress func(json.RawMessage)
}

// serve makes a verb of a function of one question and one answer.
func serve[Q, A any](acts bool, do func(ctx context.Context, c call, question Q) (A, error)) coordination.Verb {
	return coordination.Verb{Acts: acts, Do: func(ctx context.Context, cmd coordination.Command, progress func(json.RawMessage)) (json.RawMessage, error) {
		var question Q
		if err := json.Unmarshal(cmd.Body, &question); err != nil {
			return nil, api.Errorf(api.CodeBadRequest, "the command %s cannot be read: %w", cmd.Verb, err).
				WithHint("the machines may run different versions: ployzctl version")
		}
		answer, err := do(ctx, call{Fenced{cmd.Operation, cmd.Step, cmd.Scope, cmd.Fence}, progress}, question)
		if err != nil {
			return nil, err
		}
		return json.Marshal(answer)
	}}
}

// progressPause thins out progress: one report per part in this time is enough for any eye.
const progressPause = 100 * time.Millisecond

// thinned reports progress, but not every piece that a download comes in.
func (c call) thinned() runtime.Progress {
	shown := map[string]time.Time{}
	return func(part string, done, total int64) {
		now := time.Now()
		if done != total && now.Sub(shown[part]) < progressPause {
			return
		}
		shown[part] = now
		if body, err := json.Marshal(imageProgress{part, done, total}); err == nil {
			c.progress(body)
		}
	}
}
