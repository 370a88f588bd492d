package membus_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/coordination/coordinationtest"
	"github.com/ployz/ployz/node/coordination/membus"
)

func TestBus(t *testing.T) {
	coordinationtest.Run(t, func(t *testing.T) coordinationtest.Bus {
		public, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		bus := &membus.Bus{}
		return coordinationtest.Bus{
			A: "m1", B: "m2", Wire: bus,
			Listen: func(_ *testing.T, machine string, receive coordination.Receive) func() {
				return bus.Listen(machine, receive)
			},
			Sign: func(text []byte) ([]byte, error) { return ed25519.Sign(private, text), nil },
			Verify: func(_ context.Context, sender string, text, signature []byte) error {
				if sender != "m1" || !ed25519.Verify(public, text, signature) {
					return errors.New("a stranger")
				}
				return nil
			},
		}
	})
}
