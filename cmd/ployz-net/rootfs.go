package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ployz/ployz/node/runtime/oci/overlay"
	runcboot "github.com/ployz/ployz/node/runtime/runc/boot"
)

// ensureFiles mounts the workload's root file system and opens its secrets into memory. A
// workload without rootfs.json has neither.
func ensureFiles(state, id string) error {
	_, err := os.Stat(filepath.Join(state, "workloads", id, "rootfs.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return runcboot.Machine{State: state, Run: "/run/ployz", Mount: mount}.Ensure(id)
}

func mount(layers []string, upper, work, target string) error {
	return overlay.Mount(overlay.Stack{Lower: layers, Upper: upper, Work: work, Target: target})
}
