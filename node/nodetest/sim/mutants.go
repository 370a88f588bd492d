package sim

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// mutant is a kernel with one known fault; the zero value is the kernel as it is. A simulation that does not find
// these faults proves nothing.
type mutant struct {
	name string
	// wrapLease and wrapPlan put the fault around a part; nil leaves it as it is.
	wrapLease func(operation.Lease, store.Facts) operation.Lease
	wrapPlan  func(*operation.Plan)
	// forgetful participants remember no fence.
	forgetful bool
	// heedless operations on memberships shut nobody out when they take a scope over.
	heedless bool
	// within is in how many seeds, from 0, it is found; pinned is one that finds it.
	within, pinned uint64
}

func mutants() []mutant {
	return []mutant{
		{name: "a lease that is not checked", within: 50, pinned: 3, wrapLease: func(l operation.Lease, f store.Facts) operation.Lease { return unchecked{l, f} }},
		{name: "a lost answer taken for a failure", within: 50, pinned: 6, wrapLease: func(l operation.Lease, _ store.Facts) operation.Lease { return deaf{l} }},
		{name: "a skipped undo", within: 50, pinned: 1, wrapPlan: withoutUndo},
		{name: "a commit before ready", within: 50, pinned: 1, wrapPlan: commitFirst},
		{name: "participants without fences", within: 50, pinned: 5, forgetful: true},
		{name: "operations on memberships that shut nobody out", within: 1_500, pinned: 1108, heedless: true},
		{name: "a deploy onto whoever leaves", within: 500, pinned: 336, wrapPlan: withoutGuards},
		{name: "a removal that closes nothing", within: 500, pinned: 40, wrapPlan: withoutClosing},
		{name: "an admission without claims", within: 50, pinned: 0, wrapPlan: withoutClaims},
	}
}

func (m mutant) lease(l operation.Lease, f store.Facts) operation.Lease {
	if m.wrapLease == nil {
		return l
	}
	return m.wrapLease(l, f)
}

func (m mutant) operation(op operation.Operation) operation.Operation {
	if m.wrapPlan == nil {
		return op
	}
	return replanned{op, m.wrapPlan}
}

// unchecked commits whether or not the lease is held.
type unchecked struct {
	operation.Lease
	facts store.Facts
}

func (l unchecked) Commit(ctx context.Context, b store.Batch) (store.Revision, error) {
	return l.facts.Commit(ctx, b)
}

func (l unchecked) Lost() <-chan struct{} { return nil }

// deaf hears "no" where there was no answer.
type deaf struct{ operation.Lease }

func (l deaf) Commit(ctx context.Context, b store.Batch) (store.Revision, error) {
	rev, err := l.Lease.Commit(ctx, b)
	if store.IsUncertain(err) {
		err = memstore.NeverSent()
	}
	return rev, err
}

// replanned is an operation whose plan is changed.
type replanned struct {
	operation.Operation
	change func(*operation.Plan)
}

// Plan implements operation.Operation.
func (r replanned) Plan() operation.Plan {
	plan := r.Operation.Plan()
	r.change(&plan)
	return plan
}

// withoutUndo forgets to undo the first start.
func withoutUndo(plan *operation.Plan) {
	for _, phase := range plan.Phases {
		if phase.Name == "start" && len(phase.Steps) > 0 {
			phase.Steps[0].Undo = nil
			return
		}
	}
}

// commitFirst waits for readiness after the commit.
func commitFirst(plan *operation.Plan) {
	for i, phase := range plan.Phases {
		if phase.Name == "ready" {
			plan.Cleanup = slices.Concat(phase.Steps, plan.Cleanup)
			plan.Phases[i].Steps = nil
		}
	}
}

// withoutClaims writes memberships and no claims beside them.
func withoutClaims(plan *operation.Plan) {
	batch := plan.Commit.Batch
	plan.Commit.Batch = func(op string) ([]store.Put, error) {
		puts, err := batch(op)
		return slices.DeleteFunc(puts, func(p store.Put) bool {
			return strings.HasPrefix(string(p.Key), "machinename.") || strings.HasPrefix(string(p.Key), "machinesubnet.") || p.Key == store.SharedKey()
		}), err
	}
}

// participant makes one that forgets every fence, if the mutant is that.
func (m mutant) participant(dir string, l *deploy.Local) deploy.Participant {
	if !m.forgetful {
		return l
	}
	return forgetful{dir, l}
}

// responder makes one that forgets every fence, if the mutant is that.
func (m mutant) responder(dir string, r *coordination.Responder) *coordination.Responder {
	if !m.forgetful {
		return r
	}
	return &coordination.Responder{
		Machine: r.Machine, Verbs: r.Verbs, Fences: freshFences(dir), Replies: r.Replies, Log: r.Log, Verify: r.Verify,
	}
}

// forgetful begins each call with fences that remember nothing.
type forgetful struct {
	dir string
	*deploy.Local
}

// EnsureImage implements deploy.Participant.
func (f forgetful) EnsureImage(ctx context.Context, by deploy.Fenced, reference string, pull runtime.Pull) error {
	return f.fresh().EnsureImage(ctx, by, reference, pull)
}

// Launch implements deploy.Participant.
func (f forgetful) Launch(ctx context.Context, by deploy.Fenced, spec runtime.Spec) (runtime.Addresses, error) {
	return f.fresh().Launch(ctx, by, spec)
}

// Act implements deploy.Participant.
func (f forgetful) Act(ctx context.Context, by deploy.Fenced, action deploy.Action) error {
	return f.fresh().Act(ctx, by, action)
}

// EnsureVolume implements deploy.Participant.
func (f forgetful) EnsureVolume(ctx context.Context, by deploy.Fenced, spec storage.Spec) (storage.Volume, error) {
	return f.fresh().EnsureVolume(ctx, by, spec)
}

// SnapshotVolumes implements deploy.Participant.
func (f forgetful) SnapshotVolumes(ctx context.Context, by deploy.Fenced, order deploy.SnapshotOrder) ([]storage.Snapshot, error) {
	return f.fresh().SnapshotVolumes(ctx, by, order)
}

// CloneVolume implements deploy.Participant.
func (f forgetful) CloneVolume(ctx context.Context, by deploy.Fenced, order deploy.CloneOrder) (storage.Volume, error) {
	return f.fresh().CloneVolume(ctx, by, order)
}

func (f forgetful) fresh() *deploy.Local {
	l := f.Local
	return &deploy.Local{
		Runtime: l.Runtime, Images: l.Images, Network: l.Network, Console: l.Console, Pool: l.Pool, Fences: freshFences(f.dir),
		Subnet: l.Subnet, Machine: l.Machine, Serving: l.Serving,
	}
}

// freshFences are those of a disk that was wiped.
func freshFences(dir string) *coordination.Fences {
	path, err := os.MkdirTemp(dir, "forgotten")
	if err != nil {
		panic(err)
	}
	fences, err := coordination.OpenFences(path + "/fences.json")
	if err != nil {
		panic(err)
	}
	return fences
}

// withoutGuards commits whoever left meanwhile.
func withoutGuards(plan *operation.Plan) { plan.Commit.Checks = nil }

// withoutClosing looks once at what a machine holds, and then removes it.
func withoutClosing(plan *operation.Plan) {
	plan.Phases = slices.DeleteFunc(plan.Phases, func(phase operation.Phase) bool { return phase.Name == "close" })
}
