package natsstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// SeedFile is where a role's seed lies in the folder of keys.
func SeedFile(dir string, role natsconf.Role) string {
	return filepath.Join(dir, string(role)+".seed")
}

// EnsureKeys makes the seeds of all given roles that are not there yet, each a file of mode 0600,
// and returns the public keys of all. A machine's seeds are made on it and never leave it.
func EnsureKeys(dir string, roles []natsconf.Role) (natsconf.PublicKeys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	out := natsconf.PublicKeys{}
	for _, role := range roles {
		public, err := ensureKey(SeedFile(dir, role))
		if err != nil {
			return nil, err
		}
		out[role] = public
	}
	return out, durable.SyncFolder(dir) // also for what an earlier process wrote and did not come to sync
}

func ensureKey(path string) (string, error) {
	seed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if seed, err = newSeed(); err == nil {
			err = durable.WriteFile(path, append(seed, '\n'), 0o600)
		}
	}
	if err != nil {
		return "", err
	}
	pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		return "", fmt.Errorf("natsstore: %s: %w", path, err)
	}
	defer pair.Wipe()
	return pair.PublicKey()
}

func newSeed() ([]byte, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	return pair.Seed()
}
