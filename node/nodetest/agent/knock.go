package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// knockTime is how long a core has to let a key in; it takes milliseconds.
const knockTime = 4 * time.Second

// knock tries to get into a core with the keys of a machine: knock KEYS MACHINE-ID CORE-ADDRESS. It prints
// "let in" or "refused".
func knock(args []string) error {
	if len(args) != 3 {
		return errors.New("knock KEYS MACHINE-ID CORE-ADDRESS")
	}
	core, err := netip.ParseAddr(args[2])
	if err != nil {
		return err
	}
	opened, err := natsstore.Open(natsstore.Config{
		Machine: args[1], CoreURLs: []string{natsconf.ClientURL(core)}, CoordinatorSeed: natsstore.SeedFile(args[0], natsconf.RoleCoordinator),
	})
	if err != nil {
		return err
	}
	defer opened.Close()
	ctx, cancel := context.WithTimeout(context.Background(), knockTime)
	defer cancel()
	if opened.AwaitCore(ctx) != nil {
		fmt.Println("refused")
		return nil
	}
	fmt.Println("let in")
	return nil
}
