package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// printFacts prints a line for each fact: key, revision, digest of the value. Leases come and go
// with every look at the world, and are left out.
func printFacts(out io.Writer) error {
	const state = "/var/lib/ployz"
	self, err := machine.LoadIdentity(state)
	if api.CodeOf(err) == api.CodeNotInitialised {
		fmt.Fprintln(out, "none: there is no cluster yet")
		return nil
	}
	if err != nil {
		return err
	}
	seed := func(role natsconf.Role) string { return natsstore.SeedFile(state+"/keys", role) }
	c := natsstore.Config{
		Machine: self.ID, Generation: self.Generation,
		EdgeURL: "nats://" + natsconf.EdgeListen.String(), EdgeSeed: seed(natsconf.RoleLocal), EdgeSystemSeed: seed(natsconf.RoleLocalSystem),
	}
	opened, err := natsstore.Open(c)
	if err != nil {
		return err
	}
	defer opened.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := opened.AwaitEdge(ctx); err != nil {
		return err
	}
	facts, err := opened.View().List(ctx, "")
	if err != nil {
		return err
	}
	for _, f := range facts {
		if !f.Key.Under(store.Leases()) {
			fmt.Fprintf(out, "%s %d %x\n", f.Key, f.Revision, sha256.Sum256(f.Value))
		}
	}
	return nil
}
