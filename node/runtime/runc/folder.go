package runc

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// instanceFile is the mark of a folder of ours, and its last file to be written.
const instanceFile = "instance.json"

// Instance is the content of instance.json.
type Instance struct {
	// Schema is of this file, 1.
	Schema    int               `json:"schema"`
	Identity  string            `json:"identity"`
	Spec      runtime.Spec      `json:"spec"`
	Image     runtime.Image     `json:"image"`
	Addresses runtime.Addresses `json:"addresses"`
	// Unit is the identity of the unit file as written.
	Unit string `json:"unit"`
	// Files maps every other file that was written to the SHA-256 of its content.
	Files map[string]string `json:"files"`
}

// content is one file to be written into an instance's folder.
type content struct {
	name     string
	text     []byte
	mode     fs.FileMode
	uid, gid int
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// makeUpper makes the writable layer. Its root is what the instance sees as its own, so it takes
// the mode and owner of the topmost layer's, whatever the umask here.
func makeUpper(dir string, layers []string) error {
	upper := filepath.Join(dir, "upper")
	if err := os.MkdirAll(upper, 0o755); err != nil || len(layers) == 0 {
		return fullOr(err)
	}
	top, err := os.Stat(layers[len(layers)-1])
	if err != nil {
		return fullOr(err)
	}
	owner := top.Sys().(*syscall.Stat_t) // every file of Linux has one
	if err := os.Chown(upper, int(owner.Uid), int(owner.Gid)); err != nil {
		return fullOr(err)
	}
	return fullOr(os.Chmod(upper, top.Mode()))
}

// writeFolder writes every file durably, and instance.json after all others.
func writeFolder(dir string, files []content, in Instance) error {
	for _, sub := range []string{"files", "rootfs", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return fullOr(err)
		}
	}
	in.Schema, in.Files = 1, map[string]string{}
	for _, f := range files {
		if err := f.write(dir); err != nil {
			return fullOr(err)
		}
		in.Files[f.name] = digestOf(f.text)
	}
	text, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		return err
	}
	for _, folder := range []string{filepath.Join(dir, "files"), dir, filepath.Dir(dir)} {
		if err := durable.SyncFolder(folder); err != nil {
			return fullOr(err)
		}
	}
	mark := content{name: instanceFile, text: append(text, '\n'), mode: 0o600}
	if err := mark.write(dir); err != nil {
		return fullOr(err)
	}
	return fullOr(durable.SyncFolder(dir))
}

// write replaces the file by rename after fsync, with its owner already set.
func (c content) write(dir string) error {
	f, err := renameio.NewPendingFile(filepath.Join(dir, c.name), renameio.WithStaticPermissions(c.mode))
	if err != nil {
		return err
	}
	defer f.Cleanup() //nolint:errcheck // nothing is left to clean after the replacement
	if _, err := f.Write(c.text); err != nil {
		return err
	}
	if err := f.Chown(c.uid, c.gid); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// fullOr gives the error that an operator can act on its type.
func fullOr(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return api.Errorf(api.CodeRuntimeDiskFull, "writing the instance's files: %w", err).WithHint("ployzctl image prune")
	}
	return err
}

// readInstance returns fs.ErrNotExist for a folder that is not ours, and runtime.damaged for a file that
// cannot be what we wrote.
func readInstance(dir string) (Instance, error) {
	var in Instance
	text, err := os.ReadFile(filepath.Join(dir, instanceFile))
	if err != nil {
		return in, err
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return in, api.Errorf(api.CodeRuntimeDamaged, "%s: %w", filepath.Join(dir, instanceFile), err)
	}
	if in.Spec.ID != filepath.Base(dir) || in.Identity == "" {
		return in, api.Errorf(api.CodeRuntimeDamaged, "%s describes instance %q", filepath.Join(dir, instanceFile), in.Spec.ID)
	}
	return in, nil
}

// changed lists the files that no longer hold what was written.
func (in Instance) changed(dir string) (drift []string) {
	for name, want := range in.Files {
		text, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			drift = append(drift, name+" is missing")
		case err != nil:
			drift = append(drift, name+" cannot be read: "+err.Error())
		case digestOf(text) != want:
			drift = append(drift, name+" was changed")
		}
	}
	slices.Sort(drift)
	return drift
}
