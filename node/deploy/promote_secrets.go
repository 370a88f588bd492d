package deploy

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

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
			p.copySecret(ctx, name, revision)
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

// copySecret seals the branch's value for the target. One that was set by itself is set there, too: the next deploy
// looks for it. revision is what that has to expect.
func (p *Promote) copySecret(ctx context.Context, name string, revision store.Revision) {
	copied, err := p.resealed(ctx, p.branch.commit.Secrets[name], p.storedName(name))
	if err != nil {
		e := *api.AsError(err)
		p.problems = append(p.problems, e.About("secrets."+name))
		return
	}
	p.next.secrets[name] = copied
	p.copied = append(p.copied, name)
	if p.next.spec.Secrets[name].External {
		p.values = append(p.values, valueWrite{store.Secret(p.ns, p.storedName(name)), revision, storedValue{Sealed: copied}})
	}
}

func (p *Promote) undecided(names []string) *api.Error {
	return api.Errorf(api.CodeBranchSecrets, "the branch has secrets that %s does not have: %s", p.ns, strings.Join(names, ", ")).About(p.ns).
		WithHint("give it values of its own (ployzctl secret set %s/%s FILE), or take the branch's: ployzctl promote %s %s --secrets copy",
			p.ns, p.storedName(names[0]), p.request.Branch, p.ns)
}

// addConfigs stores those named configs of the branch that the target does not have, likewise.
func (p *Promote) addConfigs(ctx context.Context) error {
	missing, err := p.missingConfigs(ctx, p.next.spec)
	p.values = append(p.values, missing...)
	return err
}
