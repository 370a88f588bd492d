package deploy

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// copiedSecret is one that the target gets from the branch.
type copiedSecret struct {
	name string
	// stored is where a deploy looks for it, which had the revision; "" where a deploy brings it along.
	stored   store.Key
	revision store.Revision
}

// chooseSecrets takes the target's own secrets by the names that the branch's services know, and the branch's where the
// target has none and the operator said so.
func (p *Promote) chooseSecrets(ctx context.Context) error {
	p.next.spec.Secrets = maps.Clone(p.next.spec.Secrets)
	p.next.secrets = map[string]api.SealedSecret{}
	var undecided []string
	for _, name := range slices.Sorted(maps.Keys(p.next.spec.Secrets)) {
		own, revision, err := p.ownSecret(ctx, name)
		switch {
		case err == nil:
			p.next.secrets[name] = own
		case !store.IsNotFound(err):
			return err
		case p.request.Secrets == api.BranchSecretsCopy:
			p.copySecret(name, revision)
		default:
			undecided = append(undecided, name)
		}
	}
	if len(undecided) > 0 {
		p.problems = append(p.problems, p.undecided(undecided))
	}
	return nil
}

// ownSecret is the target's secret of a name: what it runs with, or what was set for it meanwhile. Errors:
// store.not-found, with the revision that setting it has to expect; store.*.
func (p *Promote) ownSecret(ctx context.Context, name string) (api.SealedSecret, store.Revision, error) {
	if own, has := p.present().secrets[name]; has {
		p.next.spec.Secrets[name] = p.presentSpec().Secrets[name]
		return own, 0, nil
	}
	value, revision, err := p.kit.stored(ctx, store.Secret(p.ns, p.storedName(name)))
	return value.Sealed, revision, err
}

// storedName is what a secret of the spec is called where it was set by itself.
func (p *Promote) storedName(name string) string { return nameOr(p.next.spec.Secrets[name].Name, name) }

func (p *Promote) copySecret(name string, revision store.Revision) {
	p.next.secrets[name] = p.branch.commit.Secrets[name]
	copied := copiedSecret{name: name}
	if p.next.spec.Secrets[name].External {
		copied.stored, copied.revision = store.Secret(p.ns, p.storedName(name)), revision
	}
	p.copied = append(p.copied, copied)
}

// putSecrets also sets the copied secrets that the next deploy of the target will look for.
func (p *Promote) putSecrets(b *puts, op string) {
	for _, s := range p.copied {
		if s.stored != "" {
			b.value(s.stored, storedValue{Operation: op, Sealed: p.next.secrets[s.name]}, store.Expect(s.revision))
		}
	}
}

func (p *Promote) undecided(names []string) *api.Error {
	return api.Errorf(api.CodeBranchSecrets, "the branch has secrets that %s does not have: %s", p.ns, strings.Join(names, ", ")).About(p.ns).
		WithHint("give it values of its own (ployzctl secret set %s/%s FILE), or take the branch's: ployzctl promote %s %s --secrets copy",
			p.ns, p.storedName(names[0]), p.request.Branch, p.ns)
}
