package mesh

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
)

// EnsureKey returns the private key in a file, and makes both where there is none: mode 0600, all on disk before it
// returns. Of two that make it at once, one does and both return the same. Errors: mesh.key-damaged, internal.error.
func EnsureKey(path string) (PrivateKey, error) {
	key, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = GenerateKey()
	if err := placeKey(path, key); err != nil && !errors.Is(err, fs.ErrExist) {
		return PrivateKey{}, api.Errorf(api.CodeInternal, "making the WireGuard key: %w", err).About(path)
	}
	return LoadKey(path)
}

// LoadKey reads a private key. Errors: fs.ErrNotExist; mesh.key-damaged.
func LoadKey(path string) (PrivateKey, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return PrivateKey{}, err
	}
	if err != nil {
		return PrivateKey{}, api.Errorf(api.CodeInternal, "reading the WireGuard key: %w", err).About(path)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(raw) != keyBytes {
		return PrivateKey{}, api.Errorf(api.CodeMeshKey, "the file does not hold a WireGuard key").About(path)
	}
	return PrivateKey{[keyBytes]byte(raw)}, nil
}

// placeKey writes the key whole under another name and links it to its own, which never replaces one that
// is there. Errors: fs.ErrExist.
func placeKey(path string, key PrivateKey) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = temp.WriteString(base64.StdEncoding.EncodeToString(key.raw[:]) + "\n")
	if err == nil {
		err = temp.Sync()
	}
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Link(temp.Name(), path)
	}
	return errors.Join(err, os.Remove(temp.Name()), durable.SyncFolder(dir))
}
