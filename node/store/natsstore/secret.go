package natsstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
)

// EnsureRouteSecret makes the secret that voters share, if it is not there yet. Every voter has
// the same one; who joins gets it from who is there.
func EnsureRouteSecret(path string) error {
	_, err := os.Stat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	secret, err := NewRouteSecret()
	if err != nil {
		return err
	}
	return InstallRouteSecret(path, secret)
}

// NewRouteSecret makes a secret: 58 letters and digits from the system's randomness. To change the
// one in use, install a new one on every voter and then reload every core, one right after the
// other: routes to a voter that still has the old one are refused meanwhile.
func NewRouteSecret() ([]byte, error) { return newSeed() }

// ReadRouteSecret returns the secret, for a machine that joins the voters. It must travel sealed.
func ReadRouteSecret(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("natsstore: the route secret: %w", err)
	}
	secret := bytes.TrimSpace(text)
	return secret, validSecret(secret)
}

// InstallRouteSecret writes the secret durably, in the place of an older one. It counts for a running
// core once that is reloaded. Errors: store.unsafe-settings (not a secret).
func InstallRouteSecret(path string, secret []byte) error {
	if err := validSecret(secret); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, append(bytes.Clone(secret), '\n'), 0o600)
}

// validSecret refuses what ployz-nats would: too short, or more than one line.
func validSecret(secret []byte) error {
	if len(secret) >= 16 && !bytes.ContainsAny(secret, " \t\r\n") {
		return nil
	}
	return api.Errorf(api.CodeStoreSettings, "a route secret is at least 16 bytes of one word, this one has %d", len(secret))
}
