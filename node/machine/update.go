package machine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// Packages reaches the appliance's own package on every machine of the cluster.
type Packages interface {
	// Held is a package that this machine itself holds. Errors: package.not-found.
	Held(ctx context.Context, digest string) (api.Package, error)
	// Observe asks a machine what it runs. Errors: participant.*.
	Observe(ctx context.Context, m Member) (api.MachineVersion, error)
	// Copy has a machine fetch the package from this one, and Drop has it forget it.
	Copy(ctx context.Context, act *operation.Act, m Member, p api.Package) error
	Drop(ctx context.Context, act *operation.Act, m Member, p api.Package) error
	// Install begins the installation on a machine, which goes on without us.
	Install(ctx context.Context, act *operation.Act, m Member, p api.Package) error
	// Await returns once a machine runs the package, with everything on it, and every voter is current again. Errors:
	// package.install-failed.
	Await(ctx context.Context, m Member, p api.Package) error
	// Ready returns what stands in the way of restarting any voter: another one that is silent or behind.
	Ready(ctx context.Context) ([]*api.Error, error)
}

// Updated is the fact about the last update, at store.Update(): what the operator wants machines to run. What they run
// is observed.
type Updated struct {
	Operation string      `json:"operation"`
	Package   api.Package `json:"package"`
	Machines  []string    `json:"machines"`
}

// Update installs a package on machines, one at a time. Copying it is undone when something fails; what is installed
// stays. So the commit says only what the operator wants, and the installations follow it: the first that fails
// stops the rest, each of which is named as left over.
type Update struct {
	kit     Kit
	request api.MachineUpdateRequest

	p api.Package
	// order are the machines to update, in the order in which it is done.
	order, voting []Member
	// versions and silent are what the machines said, by id.
	versions map[string]api.MachineVersion
	silent   map[string]error
	seen     store.Revision
	problems []operation.Requirement

	// updated and failed are how far it came.
	updated  []string
	failed   string
	detached string
}

// NewUpdate updates machines.
func NewUpdate(kit Kit, request api.MachineUpdateRequest) *Update {
	return &Update{kit: kit, request: request, versions: map[string]api.MachineVersion{}, silent: map[string]error{}}
}

// Kind implements operation.Operation.
func (u *Update) Kind() string { return api.KindMachineUpdate }

// Scope implements operation.Operation. No seat moves while machines restart.
func (u *Update) Scope() string { return "cluster" }

// Inspect implements operation.Operation.
func (u *Update) Inspect(ctx context.Context, _ operation.Situation) error {
	var cluster Cluster
	members, err := u.kit.read(ctx, &cluster)
	if err != nil {
		return err
	}
	if err := u.choosePackage(ctx); err != nil {
		return err
	}
	u.voting = voters(members, cluster)
	if err := u.chooseMachines(members); err != nil {
		return err
	}
	u.observe(ctx, members)
	for _, m := range members {
		u.problems = append(u.problems, u.judge(m)...)
	}
	unmet, err := u.kit.Packages.Ready(ctx)
	u.problems = append(u.problems, metAll("every voter is there and current", unmet)...)
	return err
}

// choosePackage is the one that is asked for, or that of the last update.
func (u *Update) choosePackage(ctx context.Context) error {
	fact, err := u.kit.Facts.Get(ctx, store.Update())
	if err != nil && !store.IsNotFound(err) {
		return err
	}
	u.seen = fact.Revision
	if u.request.Digest == "" {
		if err != nil {
			return api.Errorf(api.CodePackageAbsent, "no machine was ever updated, so there is nothing to go on with").
				WithHint("ployzctl machine update --package FILE.deb")
		}
		var last Updated
		if err := store.Decode(fact, &last); err != nil {
			return err
		}
		u.request.Digest = last.Package.Digest
		if len(u.request.Machines) == 0 {
			u.request.Machines = last.Machines
		}
	}
	u.p, err = u.kit.Packages.Held(ctx, u.request.Digest)
	return err
}

// chooseMachines orders the machines: who votes comes after who does not, and the one that coordinates is the last.
func (u *Update) chooseMachines(members []Member) error {
	u.order = slices.Clone(members)
	if len(u.request.Machines) > 0 {
		u.order = nil
		for _, name := range u.request.Machines {
			m, err := Named(members, name)
			if err != nil {
				return err
			}
			u.order = append(u.order, m)
		}
	}
	rank := func(m Member) int {
		switch {
		case m.Name == u.kit.Machine:
			return 2
		case containsMember(u.voting, m):
			return 1
		}
		return 0
	}
	slices.SortFunc(u.order, func(a, b Member) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name)) })
	u.order = slices.CompactFunc(u.order, func(a, b Member) bool { return a.ID == b.ID })
	return nil
}

// observeWithin bounds one machine's answer.
const observeWithin = 5 * time.Second

// observe asks all machines at the same time what they run.
func (u *Update) observe(ctx context.Context, members []Member) {
	ctx, cancel := context.WithTimeout(ctx, observeWithin)
	defer cancel()
	var (
		all sync.WaitGroup
		mu  sync.Mutex
	)
	for _, m := range members {
		all.Go(func() {
			v, err := u.kit.Packages.Observe(ctx, m)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				u.silent[m.ID] = err
				return
			}
			u.versions[m.ID] = v
		})
	}
	all.Wait()
}

// judge is what speaks against the update on a machine. One that is not chosen must get on with the new version too; if
// it does not answer, that is found out when it is updated itself.
func (u *Update) judge(m Member) []operation.Requirement {
	chosen := containsMember(u.order, m)
	if err := u.silent[m.ID]; err != nil {
		if !chosen {
			return nil
		}
		e := api.Errorf(api.CodeOf(err), "it does not say what it runs: %s", api.AsError(err).Message).About(m.Name).
			WithHint("without it: ployzctl machine update --package FILE.deb MACHINE…")
		return []operation.Requirement{operation.Met(m.Name+" answers", e)}
	}
	v := u.versions[m.ID]
	needs := []operation.Requirement{operation.Met("the version fits "+m.Name, about(Compatible(u.p.Version, v.Version), m))}
	if chosen {
		needs = append(needs, operation.Met("the package fits "+m.Name, u.fits(m, v)))
	}
	return needs
}

func about(e *api.Error, m Member) *api.Error {
	if e == nil {
		return nil
	}
	return e.About(m.Name)
}

func (u *Update) fits(m Member, v api.MachineVersion) *api.Error {
	switch {
	case v.Architecture != u.p.Architecture:
		return api.Errorf(api.CodePackageUnfit, "the package is for %s, and it is %s", u.p.Architecture, v.Architecture).About(m.Name).
			WithHint("update those of one architecture at a time: ployzctl machine update --package FILE.deb MACHINE…")
	case v.Installed == "":
		return api.Errorf(api.CodePackageUnfit, "it was not installed with dpkg").About(m.Name).WithHint("update it by its own means")
	}
	return nil
}

// current tells whether there is nothing to do on a machine.
func (u *Update) current(m Member) bool {
	v := u.versions[m.ID]
	return v.Version == u.p.Version && v.Installed == u.p.Version && v.Adopted && len(v.Problems) == 0
}

// Plan implements operation.Operation.
func (u *Update) Plan() operation.Plan {
	plan := operation.Plan{Requirements: u.problems, Resolves: true}
	copies := operation.Phase{Name: "copy", Width: 4}
	for i, m := range u.order {
		plan.Changes = append(plan.Changes, u.change(i, m))
		if u.current(m) {
			u.updated = append(u.updated, m.Name)
			continue
		}
		if !slices.Contains(u.versions[m.ID].Holds, u.p.Digest) {
			copies.Steps = append(copies.Steps, u.copy(m))
		}
		plan.Cleanup = append(plan.Cleanup, u.install(m))
	}
	if len(copies.Steps) > 0 {
		plan.Phases = []operation.Phase{copies}
	}
	fact := Updated{Package: u.p, Machines: memberNames(u.order)}
	plan.Commit = operation.Commit{
		Witness: store.Update(), Expect: u.seen, Content: fact,
		Batch: func(op string) ([]store.Put, error) {
			fact.Operation = op
			p, err := put(store.Update(), fact, u.seen)
			return []store.Put{p}, err
		},
	}
	return plan
}

func memberNames(members []Member) []string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = m.Name
	}
	return list
}

func (u *Update) change(at int, m Member) api.Change {
	c := api.Change{Action: "update", Subject: "machine " + m.Name, Machine: m.Name, From: u.versions[m.ID].Installed, To: u.p.Version}
	if u.current(m) {
		c.Action, c.Reason = "keep", "it runs this version"
		return c
	}
	parts := []string{"ployzd"}
	if containsMember(u.voting, m) {
		parts = append(parts, "the store's core")
	}
	c.Reason = fmt.Sprintf("%d of %d: restarts %s and the store's edge; gateway and resolver hand over, instances go on", at+1, len(u.order), strings.Join(parts, ", "))
	if m.Name == u.kit.Machine {
		c.Reason += "; once the operation has ended, since it coordinates"
	}
	return c
}

func (u *Update) copy(m Member) operation.Step {
	return operation.Step{
		Name: "copy the package to " + m.Name, Participant: m.Name, Timeout: 10 * time.Minute, Clear: "ployzctl machine update",
		Do:   func(ctx context.Context, act *operation.Act) error { return u.kit.Packages.Copy(ctx, act, m, u.p) },
		Undo: func(ctx context.Context, act *operation.Act) error { return u.kit.Packages.Drop(ctx, act, m, u.p) },
	}
}

// updateTimeout bounds one machine's update: dpkg, a new daemon, and a core that catches up.
const updateTimeout = 5 * time.Minute

// install updates one machine, unless another's update has failed before.
func (u *Update) install(m Member) operation.Step {
	return operation.Step{
		Name: "update " + m.Name, Participant: m.Name, Timeout: updateTimeout, Clear: "ployzctl machine update",
		Do: func(ctx context.Context, act *operation.Act) error {
			if u.failed != "" {
				return api.Errorf(api.CodeMachineNotBegun, "not begun, since the update of %s failed", u.failed).About(m.Name)
			}
			err := u.installOn(ctx, act, m)
			if err != nil {
				u.failed = m.Name
			}
			return err
		},
	}
}

func (u *Update) installOn(ctx context.Context, act *operation.Act, m Member) error {
	unmet, err := u.kit.Packages.Ready(ctx)
	if err == nil && len(unmet) > 0 {
		err = unmet[0]
	}
	if err == nil {
		err = u.kit.Packages.Install(ctx, act, m, u.p)
	}
	if err != nil {
		return err
	}
	if m.Name == u.kit.Machine { // nobody would be left to wait for it
		u.detached = m.Name
		return nil
	}
	if err := u.kit.Packages.Await(ctx, m, u.p); err != nil {
		return err
	}
	u.updated = append(u.updated, m.Name)
	return nil
}

// Result implements operation.Resulter.
func (u *Update) Result() any {
	return api.MachineUpdateResult{Package: u.p, Updated: u.updated, Detached: u.detached}
}
