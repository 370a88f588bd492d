package deploy

import (
	"context"
	"maps"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
)

// seal encrypts a value to machines, and notes which.
func (k Kit) seal(members []machine.Member, ns, name string, value []byte) (api.SealedSecret, error) {
	sealed, err := k.Sealer.Seal(value, recipients(members))
	if err != nil {
		return api.SealedSecret{}, err
	}
	return api.SealedSecret{Sealed: sealed, Fingerprint: k.Sealer.Fingerprint(ns, name, value), For: idsOf(members)}, nil
}

func recipients(members []machine.Member) []string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = m.Recipient
	}
	return list
}

func idsOf(members []machine.Member) []string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = m.ID
	}
	slices.Sort(list)
	return list
}

// reseal opens what was sealed to other machines than those of now, and seals it anew: a machine that joined since
// must be able to run the release, and one that left is not to be sent what comes next. The value stays, and with
// it the fingerprint, so nothing is replaced by it.
func (c *change) reseal(ctx context.Context) {
	now := idsOf(c.members())
	secrets := maps.Clone(c.next.secrets)
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		secret := secrets[name]
		if slices.Equal(secret.For, now) {
			continue
		}
		sealed, _, err := c.kit.Sealer.Reseal(ctx, secret.Sealed, recipients(c.members()), c.ns, name)
		if err != nil {
			e := *api.AsError(err)
			e.Subject = "secrets." + name
			c.problems = append(c.problems, &e)
			continue
		}
		secret.Sealed, secret.For = sealed, now
		secrets[name] = secret
	}
	c.next.secrets = secrets
}
