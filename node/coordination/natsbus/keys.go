package natsbus

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/ployz/ployz/node/coordination"
)

// Signer signs with the nkey whose seed is in the file. The seed is read at each use, so that it
// is in memory no longer than that.
func Signer(seed string) coordination.Sign {
	return func(text []byte) ([]byte, error) {
		content, err := os.ReadFile(seed)
		if err != nil {
			return nil, err
		}
		defer clear(content)
		pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(content))))
		if err != nil {
			return nil, fmt.Errorf("natsbus: %s: %w", seed, err)
		}
		defer pair.Wipe()
		return pair.Sign(text)
	}
}

// Verifier checks signatures against the machines' public nkeys. keys returns the one by which a machine
// that is a member now commands, or why there is none.
func Verifier(keys func(ctx context.Context, machine string) (public string, err error)) coordination.Verify {
	return func(ctx context.Context, sender string, text, signature []byte) error {
		public, err := keys(ctx, sender)
		if err != nil {
			return err
		}
		key, err := nkeys.FromPublicKey(public)
		if err != nil {
			return fmt.Errorf("natsbus: the key of %s: %w", sender, err)
		}
		return key.Verify(text, signature)
	}
}
