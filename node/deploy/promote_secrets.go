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
		own, err := p.ownSecret(ctx, name)
		switch {
		case err == nil:
			p.next.secrets[name] = own
		case !store.IsNotFound(err):
			return err
		case p.request.Secrets == api.BranchSecretsCopy:
			p.next.secrets[name] = p.branch.commit.Secrets[name]
			p.copied = append(p.copied, name)
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
// store.not-found, store.*.
func (p *Promote) ownSecret(ctx context.Context, name string) (api.SealedSecret, error) {
	if own, has := p.present().secrets[name]; has {
		p.next.spec.Secrets[name] = p.presentSpec().Secrets[name]
		return own, nil
	}
	value, _, err := p.kit.stored(ctx, store.Secret(p.ns, nameOr(p.next.spec.Secrets[name].Name, name)))
	return value.Sealed, err
}

func (p *Promote) undecided(names []string) *api.Error {
	stored := nameOr(p.next.spec.Secrets[names[0]].Name, names[0])
	return api.Errorf(api.CodeBranchSecrets, "the branch has secrets that %s does not have: %s", p.ns, strings.Join(names, ", ")).About(p.ns).
		WithHint("give it values of its own (ployzctl secret set %s/%s FILE), or take the branch's: ployzctl promote %s %s --secrets copy",
			p.ns, stored, p.request.Branch, p.ns)
}
