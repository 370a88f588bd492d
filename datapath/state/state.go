// Package state keeps small JSON files that a machine needs to boot: what the data path was
// told last. A reader sees the old content or the new one, whole, also after a power cut.
//
// It needs nothing but a file system. It must never interpret what it stores.
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ployz/ployz/datapath/durable"
)

// Load reads a file into v, strictly: an unknown field is an error, since a file from a newer
// version must not be half understood. Errors: fs.ErrNotExist, or what is wrong with the
// content, with the path.
func Load(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Save writes v to a file (mode 0600, folders 0700 as needed): to a temporary file that is
// synced, renamed over the old one, and the folder synced. After an error before the rename
// the old content stands.
func Save(path string, v any) (err error) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, append(text, '\n'), 0o600)
}

// Remove deletes a file and syncs the folder. One that is not there is no error.
func Remove(path string) error {
	err := os.Remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = durable.SyncFolder(filepath.Dir(path)) // an earlier process may not have come to it
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
