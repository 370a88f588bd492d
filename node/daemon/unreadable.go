package daemon

import (
	"cmp"
	"encoding/json"
	"errors"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
)

// unreadable are the facts about the membership in whose place this machine goes on with what was before.
func (d *Daemon) unreadable() []*api.Error {
	return d.lastRoster().Unreadable
}

// unreadableOf looks at facts for those that are not what their keys promise.
func unreadableOf(facts []store.Fact) (list []*api.Error) {
	for _, fact := range facts {
		if err := readAs(fact); err != nil {
			list = append(list, store.Unreadable(fact, err))
		}
	}
	return list
}

var errNoJSON = errors.New("it is no JSON")

// readAs reads a fact as those who need it do; of the others it wants JSON.
func readAs(fact store.Fact) error {
	switch {
	case !json.Valid(fact.Value):
		return errNoJSON
	case fact.Key.Under(store.Routes()):
		_, err := routing.Decode(fact.Key.Last(), fact.Value)
		return err
	}
	return cmp.Or(machine.ReadFact(fact), operation.ReadFact(fact), deploy.ReadFact(fact))
}
