package daemon

import (
	"encoding/json"
	"errors"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
)

// unreadable are the facts about the membership in whose place this machine goes on with what was before.
func (d *Daemon) unreadable() []*api.Error {
	f := d.following.Load()
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.roster.Unreadable
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

// readAs reads a fact as those who follow it do; of the others it wants JSON.
func readAs(fact store.Fact) error {
	switch {
	case !json.Valid(fact.Value):
		return errNoJSON
	case fact.Key == store.Cluster():
		return json.Unmarshal(fact.Value, &machine.Cluster{})
	case fact.Key.Under(store.Machines()):
		return json.Unmarshal(fact.Value, &machine.Member{})
	case fact.Key.Under(store.Tokens()):
		return json.Unmarshal(fact.Value, &machine.Token{})
	case fact.Key.Under(store.Routes()):
		_, err := routing.Decode(fact.Key.Last(), fact.Value)
		return err
	}
	return nil
}
