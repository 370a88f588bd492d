package deploy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// Branch copies a namespace as it runs now under another name: the same images by digest and the same configuration,
// its volumes cloned on the machines where they are, hostnames by a template. Nothing of it takes the longer the more
// data there is. The original is only read, and goes on as it does; the branch is not committed if the original got
// another commit meanwhile, so that code and data are of one state.
//
// Jobs of deploys do not run: the data is as they left it. Those of branches do (see branch_mask.go).
type Branch struct {
	change
	request api.BranchRequest
	// original is the namespace that is branched, and fact what the branch's lineage is.
	original current
	fact     api.BranchFact
	revision store.Revision // of the fact
	watch    stopwatch
}

// NewBranch prepares it.
func NewBranch(kit Kit, request api.BranchRequest) *Branch {
	return &Branch{change: change{kit: kit, ns: request.Namespace, kind: api.KindBranch, masks: !request.Unmasked}, request: request}
}

// Inspect implements operation.Operation.
func (b *Branch) Inspect(ctx context.Context, before operation.Situation) error {
	if err := b.inspect(ctx, before); err != nil {
		return err
	}
	if err := b.inspectOrigin(ctx); err != nil {
		return err
	}
	b.next = releaseOf(*b.original.commit)
	b.next.spec.Namespace, b.next.restarts = b.ns, nil
	b.leavePorts()
	hosts, errs := b.nameHosts()
	b.problems = append(b.problems, errs...)
	if err := b.decideSecrets(ctx); err != nil {
		return err
	}
	if err := b.copyConfigs(ctx); err != nil {
		return err
	}
	b.complete(ctx)
	if err := b.inspectVolumes(ctx); err != nil {
		return err
	}
	if err := b.beginAs(ctx, *b.original.commit); err != nil {
		return err
	}
	b.inspectLineage(hosts)
	return b.inspectClaims(ctx)
}

// inspectOrigin reads what is branched, and refuses a name that is not free. Errors: deploy.namespace-not-found,
// branch.namespace-taken, request.malformed.
func (b *Branch) inspectOrigin(ctx context.Context) (err error) {
	if s := b.request.Secrets; s != "" && s != api.BranchSecretsCopy {
		return api.Errorf(api.CodeBadRequest, "%q is no way to decide on secrets", s).About("secrets").WithHint("the original's: --secrets %s", api.BranchSecretsCopy)
	}
	if b.request.Expires < 0 {
		return api.Errorf(api.CodeBadRequest, "%s is less than nothing", b.request.Expires).About("expires")
	}
	if b.now.commit != nil {
		return b.taken()
	}
	if err := CheckNamespace(b.request.From); err != nil {
		return err
	}
	if b.original, err = readCurrent(ctx, b.kit.Facts, b.request.From); err != nil {
		return err
	}
	if b.original.commit == nil {
		return noNamespace(b.request.From)
	}
	b.checks = []store.Check{{Key: store.Head(b.request.From), Expect: b.original.revision}}
	fact, err := b.kit.Facts.Get(ctx, store.Branch(b.ns))
	b.revision = fact.Revision
	if store.IsNotFound(err) {
		return nil
	}
	return err
}

func (b *Branch) taken() error {
	err := api.Errorf(api.CodeBranchExists, "there is a namespace of that name already, at commit %d", b.now.head.Commit).About(b.ns)
	for _, u := range b.unended() {
		if u.Operation == b.now.head.Operation {
			return err.WithHint("it is what operation %s made, which did not come to its end: ployzctl operation resolve %s", u.Operation, u.Operation)
		}
	}
	return err.WithHint("choose another name, or take that one away first: ployzctl rm %s", b.ns)
}

// leavePorts leaves out what has one owner in the cluster, or on a machine: the original has it.
func (b *Branch) leavePorts() {
	for name, s := range b.next.spec.Services {
		s.Ports = nil
		s.Routes = slices.DeleteFunc(slices.Clone(s.Routes), func(r api.Route) bool { return r.TCP != 0 })
		b.next.spec.Services[name] = s
	}
}

// inspectLineage says what the branch will have been made of; the operation and what its volumes began as follow.
func (b *Branch) inspectLineage(hosts map[string]string) {
	b.fact = api.BranchFact{Namespace: b.ns, From: b.request.From, Commit: b.original.head.Commit, Created: b.kit.Now().UTC(), Hosts: hosts}
	if b.request.Expires > 0 {
		b.fact.Expires = b.fact.Created.Add(b.request.Expires.D(0))
	}
	b.lineage = struct {
		From    string
		Commit  int
		Expires api.Duration
		Masks   bool
	}{b.request.From, b.original.head.Commit, b.request.Expires, b.masks}
	b.besides = func(p *puts, op string) {
		p.value(store.Branch(b.ns), b.lineageFact(op), store.Expect(b.revision))
		b.watch.stop(b.kit.Now())
	}
}

// lineageFact is the fact once the operation has taken the snapshots. A data set whose slot got no place, such as one of
// a global service on a machine that is leaving, has none.
func (b *Branch) lineageFact(op string) api.BranchFact {
	fact := b.fact
	fact.Operation, fact.Volumes = op, map[string]api.VolumeOrigin{}
	for name, p := range b.back {
		if origin := b.origin(p); origin.GUID != "" {
			fact.Volumes[name] = api.VolumeOrigin(origin)
		}
	}
	return fact
}

// Plan implements operation.Operation.
func (b *Branch) Plan() operation.Plan {
	plan := b.change.Plan()
	plan.Changes = append(plan.Changes, b.omissions()...)
	begun := false
	for i, phase := range plan.Phases {
		begun = begun || phase.Name == originPhase
		for j := range phase.Steps {
			if begun {
				plan.Phases[i].Steps[j].Do = b.watch.timed(b.kit.Now, phase.Name == originPhase || phase.Name == clonePhase, phase.Steps[j].Do)
			}
		}
	}
	return plan
}

// omissions is what the branch does not get of the original, and why.
func (b *Branch) omissions() (list []api.Change) {
	omit := func(subject, format string, args ...any) {
		list = append(list, api.Change{Action: "omit", Subject: subject, Reason: fmt.Sprintf(format, args...)})
	}
	spec := b.original.commit.Spec
	for _, name := range slices.Sorted(maps.Keys(spec.Services)) {
		s := spec.Services[name]
		for _, p := range s.Ports {
			omit(fmt.Sprintf("port %d/%s of %s", p.Published, p.Protocol, name), "%s publishes it, and a machine's port has one owner", b.request.From)
		}
		for _, r := range s.Routes {
			if r.TCP != 0 {
				omit(fmt.Sprintf("route tcp/%d of %s", r.TCP, name), "%s routes it, and a gateway's port has one owner", b.request.From)
			}
		}
		switch {
		case s.Job == nil:
		case !masking(s):
			omit("job "+name, "it runs with deploys: the data is as it left it")
		case !b.masks:
			omit("job "+name, "unmasked was asked for: the branch sees the original's data as it is")
		}
	}
	return list
}

// Result implements operation.Resulter.
func (b *Branch) Result() any {
	r := api.BranchResult{BranchFact: b.lineageFact(b.operation)}
	r.Storage, r.Ready = b.watch.read()
	return r
}

// stopwatch measures a branch from its first snapshot on. Its methods may be called at once.
type stopwatch struct {
	mu                  sync.Mutex
	begun, stored, over time.Time // guarded by mu
}

// timed is a step's function that the watch runs with; storage says that its end is one of the volumes' part.
func (w *stopwatch) timed(now func() time.Time, storage bool, do func(context.Context, *operation.Act) error) func(context.Context, *operation.Act) error {
	return func(ctx context.Context, act *operation.Act) error {
		w.mu.Lock()
		if w.begun.IsZero() {
			w.begun, w.stored, w.over = now(), now(), now()
		}
		w.mu.Unlock()
		err := do(ctx, act)
		if storage {
			w.mu.Lock()
			w.stored = now()
			w.mu.Unlock()
		}
		return err
	}
}

func (w *stopwatch) stop(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over = now; w.begun.IsZero() {
		w.begun, w.stored = now, now
	}
}

// read is how long the volumes took, and all of it.
func (w *stopwatch) read() (storage, ready api.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return api.Duration(w.stored.Sub(w.begun)), api.Duration(w.over.Sub(w.begun))
}
