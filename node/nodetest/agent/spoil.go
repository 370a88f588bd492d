package main

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// spoil puts what is no JSON in the place of a fact: spoil KEY. It does so as a coordinator of this machine could.
func spoil(args []string) error {
	if len(args) != 1 {
		return errors.New("spoil KEY")
	}
	const state = "/var/lib/ployz"
	self, err := machine.LoadIdentity(state)
	if err != nil {
		return err
	}
	config := natsstore.Config{Machine: self.ID, Generation: self.Generation, CoordinatorSeed: natsstore.SeedFile(state+"/keys", natsconf.RoleCoordinator)}
	for _, v := range self.Voters {
		config.CoreURLs = append(config.CoreURLs, natsconf.ClientURL(v))
	}
	opened, err := natsstore.Open(config)
	if err != nil {
		return err
	}
	defer opened.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := opened.AwaitCore(ctx); err != nil {
		return err
	}
	_, err = opened.Facts().Commit(ctx, store.Batch{ID: "spoil " + rand.Text(), Puts: []store.Put{{Key: store.Key(args[0]), Value: []byte("{")}}})
	return err
}
