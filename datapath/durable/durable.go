// Package durable makes files that are still there after a power cut. A rename is atomic by itself, and lasting only once
// the folder that it happened in was synced too.
//
// It is a leaf: everything may import it, and it knows of nothing else here. It must not be used where a file system has a
// cheaper way to say so for many files at once.
package durable

import (
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// WriteFile puts a file in the place of the one with that path, if there is one: whatever happens, there is the old content
// or the new one, whole, and once it returns nil the new one. mode is less the umask; a file that is there keeps its own.
// The folder must be there. Errors: those of os.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	if err := renameio.WriteFile(path, content, mode); err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

// SyncFolder makes the names in a folder lasting: what was created, renamed, linked or removed there. It says nothing of
// the files' content. Errors: those of os.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() // it was read from at most
	return d.Sync()
}
