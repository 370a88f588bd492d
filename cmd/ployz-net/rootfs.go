package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ensureRootfs mounts the workload's root file system as its rootfs.json says. A workload
// without that file has none to mount.
func ensureRootfs(dir string) error {
	_, err := os.Stat(filepath.Join(dir, "rootfs.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: mounting a root file system is not wired yet", filepath.Join(dir, "rootfs.json"))
}
