package deploy

import (
	"cmp"
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// Promote makes a namespace, the target, run what a branch runs: the branch's images by digest, and its configuration
// with the target's own hostnames, ports, secrets and numbers of instances. What the target's volumes hold stays, or,
// with data, gives way to clones of the branch's and is kept. The branch goes on as it is.
type Promote struct {
	change
	request api.PromoteRequest

	// fact is how the branch began; zero for a namespace that is none. hosts are its hostnames, each with the target's.
	fact  api.BranchFact
	hosts map[string]string
	// branch is the branch as it is promoted.
	branch current
	// since are the target's own commits since the branch began, newest first, of which only the last are read; sinceAll
	// is their number.
	since    []api.Commit
	sinceAll int
	// copied are the secrets that the target gets from the branch, in order.
	copied []string
}

// NewPromote prepares it.
func NewPromote(kit Kit, request api.PromoteRequest) *Promote {
	// Without a target the scope is the branch's until FindScope knows better: only a refusal has it so.
	ns := cmp.Or(request.Namespace, request.Branch)
	return &Promote{change: change{kit: kit, ns: ns, kind: api.KindPromote, jobs: true}, request: request}
}

// FindScope implements operation.ScopeFinder: where no target was named it is what the branch began as.
func (p *Promote) FindScope(ctx context.Context) error {
	if p.request.Namespace != "" {
		return nil
	}
	if err := p.inspectLineage(ctx); err != nil {
		return err
	}
	if p.fact.From == "" {
		if _, err := Current(ctx, p.kit.Facts, p.request.Branch); err != nil {
			return err
		}
		return api.Errorf(api.CodeBranchAbsent, "it did not begin as a branch, so nothing says where it is to be promoted to").About(p.request.Branch).
			WithHint("name the target: ployzctl promote %s NAMESPACE; which are branches: ployzctl branch ls", p.request.Branch)
	}
	p.ns = p.fact.From
	return nil
}

func (p *Promote) inspectLineage(ctx context.Context) (err error) {
	if err := CheckNamespace(p.request.Branch); err != nil {
		return err
	}
	p.fact, err = readLineage(ctx, p.kit.Facts, p.request.Branch)
	return err
}

// readLineage is how a branch began; zero for a namespace that is none. Errors: store.*.
func readLineage(ctx context.Context, facts store.Facts, branch string) (lineage api.BranchFact, err error) {
	fact, err := facts.Get(ctx, store.Branch(branch))
	switch {
	case store.IsNotFound(err):
		return lineage, nil
	case err != nil:
		return lineage, err
	}
	return lineage, store.Decode(fact, &lineage)
}

// targetHosts are the hostnames of a branch, which began as lineage says, each with the one that it stands for in the
// target: what it was made of, through all branches between the two; or, where the target is a branch of the same or of this
// one, what the target's was. Errors: store.*.
func targetHosts(ctx context.Context, facts store.Facts, lineage api.BranchFact, branch, target string) (map[string]string, error) {
	if hosts, err := hostsThrough(ctx, facts, lineage, target); err != nil || hosts != nil {
		return hosts, err
	}
	of, err := readLineage(ctx, facts, target)
	if err != nil || of.From == "" || of.From != branch && of.From != lineage.From {
		return lineage.Hosts, err
	}
	made := map[string]string{}
	for host, original := range of.Hosts {
		made[original] = host
	}
	if of.From == branch {
		return made, nil
	}
	hosts := map[string]string{}
	for host, original := range lineage.Hosts {
		if its, has := made[original]; has {
			hosts[host] = its
		}
	}
	return hosts, nil
}

// hostsThrough are the hostnames of a branch, each with the one of the namespace that it came from in the end, over any
// number of branches; nil where it did not come from there, or one between is gone. Errors: store.*.
func hostsThrough(ctx context.Context, facts store.Facts, lineage api.BranchFact, target string) (map[string]string, error) {
	hosts := lineage.Hosts
	for seen := map[string]bool{}; lineage.From != target; {
		if lineage.From == "" || seen[lineage.From] { // a name that was given again
			return nil, nil
		}
		seen[lineage.From] = true
		var err error
		if lineage, err = readLineage(ctx, facts, lineage.From); err != nil {
			return nil, err
		}
		above := map[string]string{}
		for host, original := range hosts {
			if first, has := lineage.Hosts[original]; has {
				above[host] = first
			}
		}
		hosts = above
	}
	return hosts, nil
}

// Inspect implements operation.Operation.
func (p *Promote) Inspect(ctx context.Context, before operation.Situation) error {
	if err := p.check(); err != nil {
		return err
	}
	if err := p.inspect(ctx, before); err != nil {
		return err
	}
	if err := p.inspectBranch(ctx); err != nil {
		return err
	}
	commit := *p.branch.commit
	present := p.present()
	p.next = release{
		spec:     asTarget(p.withoutOwnHosts(commit.Spec), present.spec, p.hosts),
		restarts: present.restarts, of: commit.Number, branch: p.request.Branch,
	}
	if err := p.chooseSecrets(ctx); err != nil {
		return err
	}
	if err := p.addConfigs(ctx); err != nil {
		return err
	}
	p.checks = []store.Check{{Key: store.Head(p.request.Branch), Expect: p.branch.revision}}
	if err := p.inspectVolumes(ctx); err != nil {
		return err
	}
	p.neverShrink()
	if err := p.inspectOrigins(ctx); err != nil {
		return err
	}
	p.complete(ctx)
	return p.inspectClaims(ctx)
}

func (p *Promote) check() *api.Error {
	switch {
	case p.ns == p.request.Branch:
		return api.Errorf(api.CodeBadRequest, "a namespace cannot be promoted to itself").About(p.ns).
			WithHint("name another target: ployzctl promote %s NAMESPACE", p.ns)
	case p.request.Secrets != "" && p.request.Secrets != api.BranchSecretsCopy:
		return api.Errorf(api.CodeBadRequest, "secrets: %q is not %s, and not left out", p.request.Secrets, api.BranchSecretsCopy).About(p.ns)
	}
	return nil
}

// inspectBranch reads how the branch began, what it runs, and what the target committed since the branch began.
func (p *Promote) inspectBranch(ctx context.Context) (err error) {
	if err = p.inspectLineage(ctx); err != nil {
		return err
	}
	if p.hosts, err = targetHosts(ctx, p.kit.Facts, p.fact, p.request.Branch, p.ns); err != nil {
		return err
	}
	if p.branch, err = readCurrent(ctx, p.kit.Facts, p.request.Branch); err != nil {
		return err
	}
	if p.branch.commit == nil {
		return noNamespace(p.request.Branch)
	}
	if p.fact.From != p.ns {
		return nil // it began as another, so there is no common past
	}
	p.sinceAll = p.now.head.Commit - p.fact.Commit
	for n := p.now.head.Commit; n > max(p.fact.Commit, p.now.head.Commit-maxSince); n-- {
		commit, err := ReadCommit(ctx, p.kit.Facts, p.ns, n)
		if err != nil {
			return err
		}
		p.since = append(p.since, commit)
	}
	return nil
}
