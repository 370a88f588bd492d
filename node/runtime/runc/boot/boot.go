// Package boot puts back what an instance's unit needs before runc can run it, and what a reboot
// takes away: the mount of its root file system and its opened secrets.
//
// It runs as the unit's ExecStartPre, in a program of milliseconds (ployz-net), so it imports
// next to nothing. It reads the instance's folder, needs root, is safe to repeat, and never writes anything
// durable: opened secrets exist only on a ramfs below /run, which is never swapped out.
package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Files of an instance's folder that this package reads.
const (
	RootfsFile  = "rootfs.json"
	SecretsFile = "secrets.json"
	ConfigFile  = "config.json"
)

// Rootfs is the content of rootfs.json. Upper, Work and Target are relative to the folder.
type Rootfs struct {
	// Layers are folders, the topmost last.
	Layers []string `json:"layers"`
	Upper  string   `json:"upper"`
	Work   string   `json:"work"`
	Target string   `json:"target"`
}

// Mount mounts an overlay of layers, the topmost last, with a writable layer, on target.
type Mount func(layers []string, upper, work, target string) error

// Machine is where things are.
type Machine struct {
	// State is the folder of what boot needs, such as /var/lib/ployz; Run the one that a reboot
	// empties, such as /run/ployz.
	State, Run string
	Mount      Mount
}

// Ensure makes the instance ready for runc. Errors: *SecretError, or those of the file system.
func (m Machine) Ensure(id string) error {
	dir := filepath.Join(m.State, "workloads", id)
	if err := EnsureRootfs(dir, m.Mount); err != nil {
		return err
	}
	// The unit writes there how the instance ended.
	if err := os.MkdirAll(filepath.Join(m.Run, "exits"), 0o755); err != nil {
		return err
	}
	return m.ensureSecrets(id, dir)
}

// EnsureRootfs mounts the root file system that the folder describes, unless it is mounted. A folder
// without a description has none to mount.
func EnsureRootfs(dir string, mount Mount) error {
	var r Rootfs
	err := readJSON(filepath.Join(dir, RootfsFile), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	target := filepath.Join(dir, r.Target)
	mounted, err := Mounted(target)
	if err != nil || mounted {
		return err
	}
	if mount == nil {
		return fmt.Errorf("boot: %s: this program cannot mount overlays", target)
	}
	return mount(r.Layers, filepath.Join(dir, r.Upper), filepath.Join(dir, r.Work), target)
}

// Mounted says whether an overlay is mounted on target: there, the file system differs from the folder's above.
func Mounted(target string) (bool, error) {
	var here, above unix.Stat_t
	if err := unix.Stat(target, &here); err != nil {
		return false, &os.PathError{Op: "stat", Path: target, Err: err}
	}
	if err := unix.Stat(filepath.Dir(target), &above); err != nil {
		return false, &os.PathError{Op: "stat", Path: filepath.Dir(target), Err: err}
	}
	return here.Dev != above.Dev, nil
}

func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
