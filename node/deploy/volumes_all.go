package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/store"
)

// AllVolumes reads the data sets of all namespaces, live and kept. Errors: store.*.
func AllVolumes(ctx context.Context, facts machine.Lister) ([]api.VolumeFact, error) {
	heads, err := facts.List(ctx, store.Heads())
	if err != nil {
		return nil, err
	}
	var all []api.VolumeFact
	for _, head := range heads {
		list, err := facts.List(ctx, store.Volumes(head.Key.Last()))
		if err != nil {
			return nil, err
		}
		for _, fact := range list {
			var v api.VolumeFact
			if err := store.Decode(fact, &v); err != nil {
				return nil, err
			}
			all = append(all, v)
		}
	}
	return all, nil
}
