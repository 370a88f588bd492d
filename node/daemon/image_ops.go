package daemon

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/store"
)

// ImageKit is what the image operations need from the composition root.
type ImageKit struct {
	Facts   store.Facts
	Images  Images
	Pruner  Pruner
	Machine string
}

// Pruner finds and removes what no image needs; the oci store does, behind a small adapter.
type Pruner interface {
	// PlanPrune says what would go, and changes nothing.
	PlanPrune(ctx context.Context, olderThan time.Duration) (api.PrunePlan, error)
	// Prune removes what the plan names and is still removable, and returns what went. Errors:
	// image.store-busy.
	Prune(ctx context.Context, plan api.PrunePlan) (api.PrunePlan, error)
}

// ImageKinds are the operations on the machine's images.
func ImageKinds(kit ImageKit) Kinds {
	return Kinds{
		api.KindImagePull: KindOf(func(r api.ImagePullRequest) operation.Operation {
			return &pullImage{imageOp: imageOp{kit: kit, kind: api.KindImagePull}, request: r}
		}, func(r api.ImagePullRequest) any { r.Auth = nil; return r }),
		api.KindImageRemove: KindOf(func(r api.ImageRemoveRequest) operation.Operation {
			return &removeImage{imageOp: imageOp{kit: kit, kind: api.KindImageRemove}, request: r}
		}, nil),
		api.KindImagePrune: KindOf(func(r api.ImagePruneRequest) operation.Operation {
			return &pruneImages{imageOp: imageOp{kit: kit, kind: api.KindImagePrune}, request: r}
		}, nil),
	}
}

// imageOp is what the image operations share: the scope, and the one fact that says which of them
// was the last. The images themselves are on the machine's disk, not in the store.
type imageOp struct {
	kit      ImageKit
	kind     string
	revision store.Revision
}

// Kind implements operation.Operation.
func (o *imageOp) Kind() string { return o.kind }

// Scope implements operation.Operation.
func (o *imageOp) Scope() string { return "machine/" + o.kit.Machine + "/images" }

func (o *imageOp) inspect(ctx context.Context) error {
	fact, err := o.kit.Facts.Get(ctx, store.MachineImages(o.kit.Machine))
	if err != nil && !store.IsNotFound(err) {
		return err
	}
	o.revision = fact.Revision
	return nil
}

// lastImageOp is the fact's value.
type lastImageOp struct {
	Operation string `json:"operation"`
	Kind      string `json:"kind"`
	What      string `json:"what,omitempty"`
}

func (o *imageOp) commit(what string) operation.Commit {
	key := store.MachineImages(o.kit.Machine)
	return operation.Commit{
		Witness: key, Expect: o.revision, Content: what,
		Batch: func(op string) ([]store.Put, error) {
			value, err := json.Marshal(lastImageOp{op, o.kind, what})
			if err != nil {
				return nil, api.Errorf(api.CodeInternal, "encoding %s: %w", key, err)
			}
			return []store.Put{{Key: key, Value: value, Expect: store.Expect(o.revision)}}, nil
		},
	}
}

// pullImage fetches an image. A pull that is rolled back leaves what arrived, which the next prune
// takes: nothing refers to it.
type pullImage struct {
	imageOp
	request api.ImagePullRequest
	digest  string
	present bool
	image   runtime.Image
}

// Inspect implements operation.Operation.
func (p *pullImage) Inspect(ctx context.Context, _ operation.Situation) error {
	if err := p.inspect(ctx); err != nil {
		return err
	}
	var err error
	if p.digest, err = p.kit.Images.Resolve(ctx, p.request.Reference, p.auth()); err != nil {
		return err
	}
	have, err := p.kit.Images.Lookup(ctx, p.request.Reference)
	p.present = err == nil && have.Digest == p.digest
	return nil
}

func (p *pullImage) auth() *runtime.RegistryAuth { return (*runtime.RegistryAuth)(p.request.Auth) }

// Plan implements operation.Operation.
func (p *pullImage) Plan() operation.Plan {
	change := api.Change{Action: "create", Subject: p.request.Reference, Machine: p.kit.Machine, To: p.digest}
	if p.present {
		change.Action, change.Reason = "keep", "the machine has it"
	}
	step := operation.Step{
		Name: "pull " + p.request.Reference, Participant: p.kit.Machine, Timeout: 30 * time.Minute,
		Do: func(ctx context.Context, act *operation.Act) (err error) {
			pull := runtime.Pull{Always: true, Auth: p.auth(), Progress: act.Progress}
			p.image, err = p.kit.Images.Ensure(ctx, p.request.Reference, pull)
			return err
		},
	}
	return operation.Plan{
		Changes: []api.Change{change}, Phases: []operation.Phase{{Name: "pull", Steps: []operation.Step{step}}},
		Commit: p.commit(p.request.Reference + " " + p.digest), Resolves: true, // a pull leaves nothing that refers to it
	}
}

// Result implements operation.Resulter.
func (p *pullImage) Result() any {
	return api.ImageEntry{References: []string{p.request.Reference}, Digest: p.image.Digest, Bytes: p.image.Bytes}
}

// removeImage forgets a reference.
type removeImage struct {
	imageOp
	request api.ImageRemoveRequest
	image   runtime.Image
	problem *api.Error
}

// Inspect implements operation.Operation.
func (r *removeImage) Inspect(ctx context.Context, before operation.Situation) error {
	if err := r.inspect(ctx); err != nil {
		return err
	}
	var err error
	if r.image, err = r.kit.Images.Lookup(ctx, r.request.Reference); err != nil {
		if before.Unfinished == nil { // else an earlier removal may have got as far as this
			r.problem = api.AsError(err)
		}
		return nil
	}
	list, err := r.kit.Images.List(ctx)
	for _, e := range list {
		if e.Digest == r.image.Digest && e.InUse && len(e.References) < 2 {
			r.problem = api.Errorf(api.CodeImageInUse, "an instance uses it, and it has no other name").About(r.request.Reference).
				WithHint("see which: ployzctl service ls")
		}
	}
	return err
}

// Plan implements operation.Operation. Forgetting follows the commit, since it has no undo.
func (r *removeImage) Plan() operation.Plan {
	reference := r.request.Reference
	return operation.Plan{
		Requirements: []operation.Requirement{operation.Met("the image is there and unused", r.problem)},
		Changes:      []api.Change{{Action: "remove", Subject: reference, Machine: r.kit.Machine, From: r.image.Digest}},
		Commit:       r.commit(reference),
		Cleanup: []operation.Step{{
			Name: "forget " + reference, Participant: r.kit.Machine, Clear: "ployzctl image rm " + reference,
			Do: func(ctx context.Context, _ *operation.Act) error { return r.kit.Images.Remove(ctx, reference) },
		}},
		Resolves: true, // what an earlier one left is an image that can be removed again
	}
}

// pruneImages removes what nothing uses.
type pruneImages struct {
	imageOp
	request api.ImagePruneRequest
	plan    api.PrunePlan
	gone    api.PrunePlan
}

// Inspect implements operation.Operation.
func (p *pruneImages) Inspect(ctx context.Context, _ operation.Situation) error {
	if err := p.inspect(ctx); err != nil {
		return err
	}
	var err error
	p.plan, err = p.kit.Pruner.PlanPrune(ctx, p.request.OlderThan.D(0))
	return err
}

// Plan implements operation.Operation. Removing follows the commit, since it has no undo.
func (p *pruneImages) Plan() operation.Plan {
	plan := operation.Plan{Changes: p.changes(), Commit: p.commit(""), Resolves: true}
	plan.Commit.Content = p.plan
	if len(plan.Changes) > 0 {
		plan.Cleanup = []operation.Step{{
			Name: "remove what nothing uses", Participant: p.kit.Machine, Clear: "ployzctl image prune",
			Do: func(ctx context.Context, _ *operation.Act) (err error) {
				p.gone, err = p.kit.Pruner.Prune(ctx, p.plan)
				return err
			},
		}}
	}
	return plan
}

func (p *pruneImages) changes() []api.Change {
	var list []api.Change
	for _, i := range p.plan.Images {
		name := strings.Join(i.References, " ")
		if name == "" {
			name = "an image without a name"
		}
		list = append(list, api.Change{Action: "remove", Subject: name, Machine: p.kit.Machine, From: i.Digest, Reason: "nothing uses it"})
	}
	for _, b := range p.plan.Blobs {
		list = append(list, api.Change{Action: "remove", Subject: "blob " + b.Name, Machine: p.kit.Machine, Reason: "no image needs it"})
	}
	for _, l := range p.plan.Layers {
		list = append(list, api.Change{Action: "remove", Subject: "layer " + l.Name, Machine: p.kit.Machine, Reason: "no image needs it"})
	}
	return list
}

// Result implements operation.Resulter.
func (p *pruneImages) Result() any { return p.gone }
