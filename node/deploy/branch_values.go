package deploy

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// A secret of the branch is what the request gives, else the branch's own stored one of that name, else, only where
// that was asked for, the original's. Named values come with it, so that the branch can be deployed to as the
// original can: those that the branch's namespace does not have are stored with its commit.

// decideSecrets seals what the branch's secrets are. Errors: branch.secrets-undecided and deploy.secret-missing are
// among the problems; store.*.
func (b *Branch) decideSecrets(ctx context.Context) error {
	var undecided []string
	secrets := map[string]api.SealedSecret{}
	for _, name := range slices.Sorted(maps.Keys(b.original.commit.Spec.Secrets)) {
		sealed, err := b.secret(ctx, name, b.original.commit.Spec.Secrets[name])
		switch {
		case api.CodeOf(err) == api.CodeBranchSecrets:
			undecided = append(undecided, name)
		case api.CodeOf(err) == api.CodeSecretSealed:
			e := *api.AsError(err)
			e.Subject = "secrets." + name
			b.problems = append(b.problems, &e)
		case err != nil:
			return err
		default:
			secrets[name] = sealed
		}
	}
	b.next.secrets = secrets
	if len(undecided) > 0 {
		b.problems = append(b.problems, api.Errorf(api.CodeBranchSecrets, "nobody said what these secrets are in the branch: %s", strings.Join(undecided, ", ")).
			About("secrets").WithHint("give it the original's: ployzctl branch %s %s --secrets copy; or values of its own: --secret %s=FILE", b.request.From, b.ns, undecided[0]))
	}
	for _, name := range slices.Sorted(maps.Keys(b.request.SecretValues)) {
		if _, known := b.original.commit.Spec.Secrets[name]; !known {
			b.problems = append(b.problems, api.Errorf(api.CodeSecretAbsent, "%s has no secret %q", b.request.From, name).About("secrets."+name).
				WithHint("those there are: %s", orNone(strings.Join(slices.Sorted(maps.Keys(b.original.commit.Spec.Secrets)), ", "))))
		}
	}
	return nil
}

// secret is one secret of the branch. Errors: branch.secrets-undecided, deploy.secret-sealed, store.*.
func (b *Branch) secret(ctx context.Context, name string, s api.Secret) (sealed api.SealedSecret, err error) {
	stored := name
	if s.External {
		stored = nameOr(s.Name, name)
	}
	key := store.Secret(b.ns, stored)
	there, revision, err := b.kit.stored(ctx, key)
	if err != nil && !store.IsNotFound(err) {
		return sealed, err
	}
	value, given := b.request.SecretValues[name]
	switch {
	case given:
		sealed, err = b.seal(stored, value)
	case s.External && err == nil:
		return there.Sealed, nil
	case b.request.Secrets == api.BranchSecretsCopy:
		sealed, err = b.resealed(ctx, b.original.commit.Secrets[name], stored)
	default:
		return sealed, api.Errorf(api.CodeBranchSecrets, "undecided")
	}
	if err == nil && s.External {
		b.store(key, revision, storedValue{Sealed: sealed})
	}
	return sealed, err
}

// resealed is another namespace's secret as one of this, under a name. Errors: deploy.secret-sealed.
func (c *change) resealed(ctx context.Context, of api.SealedSecret, name string) (sealed api.SealedSecret, err error) {
	sealed.For = idsOf(c.members())
	sealed.Sealed, sealed.Fingerprint, err = c.kit.Sealer.Reseal(ctx, of.Sealed, recipients(c.members()), c.ns, name)
	return sealed, err
}

// copyConfigs stores the named configs that the branch's namespace does not have.
func (b *Branch) copyConfigs(ctx context.Context) error {
	missing, err := b.missingConfigs(ctx, b.original.commit.Spec)
	b.values = append(b.values, missing...)
	return err
}

// missingConfigs are the named configs of another namespace's commit that this one does not have.
func (c *change) missingConfigs(ctx context.Context, spec api.Spec) (missing []valueWrite, err error) {
	for _, name := range slices.Sorted(maps.Keys(spec.Configs)) {
		config := spec.Configs[name]
		if !config.External {
			continue
		}
		key := store.Config(c.ns, nameOr(config.Name, name))
		_, revision, err := c.kit.stored(ctx, key)
		if err != nil && !store.IsNotFound(err) {
			return nil, err
		}
		twice := slices.ContainsFunc(missing, func(v valueWrite) bool { return v.key == key })
		if err != nil && !twice {
			missing = append(missing, valueWrite{key, revision, storedValue{Content: config.Content}})
		}
	}
	return missing, nil
}

// store has a named value written with the commit.
func (b *Branch) store(key store.Key, revision store.Revision, value storedValue) {
	b.values = append(b.values, valueWrite{key, revision, value})
}

// valueWrite is a named value that a commit writes, and the revision that it expects.
type valueWrite struct {
	key      store.Key
	revision store.Revision
	value    storedValue
}

func putValues(b *puts, op string, values []valueWrite) {
	for _, v := range values {
		v.value.Operation = op
		b.value(v.key, v.value, store.Expect(v.revision))
	}
}
