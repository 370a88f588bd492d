package btrfs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

const (
	poolMark     = "ployz-pool.json"
	volumeMark   = "volume.json"
	snapshotMark = "snapshot.json"
	holdPrefix   = "hold-"

	liveDir     = "volumes"
	keptDir     = "kept"
	incomingDir = "incoming"
)

// snapshotFile is the sidecar of a snapshot. Clones are found in the volumes' sidecars.
type snapshotFile struct {
	Name    string    `json:"name"`
	GUID    string    `json:"guid"`
	Created time.Time `json:"created"`
}

// found is a volume's folder and what its sidecar says.
type found struct {
	storage.Mark
	dir   string
	state storage.State
	// damaged is why the sidecar cannot be read; nil for a sound one.
	damaged error
}

func (f found) tree() string                { return filepath.Join(f.dir, "data") }
func (f found) snapshot(name string) string { return filepath.Join(f.dir, "snapshots", name) }

// writeMark writes a sidecar so that after a crash it is whole or not there.
func writeMark(dir, name string, mark any) error {
	text, err := json.MarshalIndent(mark, "", "  ")
	if err == nil {
		err = renameio.WriteFile(filepath.Join(dir, name), append(text, '\n'), 0o600)
	}
	return typed(err)
}

// readMark reads a sidecar; ok is false where there is none, which makes the folder somebody else's.
func readMark(dir, name string, mark any) (ok bool, err error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, mark)
	}
	if err != nil {
		return false, api.Errorf(api.CodeVolumePoolFailed, "the mark %s: %w", filepath.Join(dir, name), err)
	}
	return true, nil
}

// typed gives an error of the file system its code.
func typed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return api.Errorf(api.CodeVolumeNoSpace, "the pool is full: %w", err)
	}
	return api.Errorf(api.CodeVolumePoolFailed, "%w", err)
}

// all finds every volume that has our mark, by ID.
func (p *Pool) all() ([]found, error) {
	var volumes []found
	for _, place := range []struct {
		dir   string
		state storage.State
	}{{liveDir, storage.StateLive}, {keptDir, storage.StateKept}, {incomingDir, storage.StateIncoming}} {
		entries, err := os.ReadDir(p.path(place.dir))
		if err != nil {
			return nil, p.unavailable(err)
		}
		for _, e := range entries {
			f := found{dir: p.path(place.dir, e.Name()), state: place.state}
			ok, err := readMark(f.dir, volumeMark, &f.Mark)
			if err != nil {
				f.Mark, f.damaged = storage.Mark{Spec: calledAs(e.Name(), place.state)}, storage.MarkDamaged(f.dir, err)
			}
			if ok || err != nil {
				volumes = append(volumes, f)
			}
		}
	}
	slices.SortFunc(volumes, func(a, b found) int { return strings.Compare(a.ID, b.ID) })
	return volumes, nil
}

// calledAs is what a folder says of the volume in it, for showing: a live one's has its name, another's its ID.
func calledAs(folder string, state storage.State) storage.Spec {
	if state != storage.StateLive {
		return storage.Spec{ID: folder}
	}
	namespace, name, _ := strings.Cut(folder, ".")
	return storage.Spec{Namespace: namespace, Name: name}
}

// find finds one volume. Of a kept one that is also half made again, the kept one counts.
func (p *Pool) find(id string) (found, error) {
	volumes, err := p.all()
	if err != nil {
		return found{}, err
	}
	at := -1
	for i, v := range volumes {
		if v.ID == id && (at < 0 || v.state != storage.StateIncoming) {
			at = i
		}
	}
	if at < 0 {
		return found{}, storage.NotFound(p.root, id)
	}
	return volumes[at], volumes[at].damaged
}

func (p *Pool) findIn(id string, state storage.State) (found, error) {
	f, err := p.find(id)
	if err != nil {
		return found{}, err
	}
	return f, storage.CheckState(f.Spec, f.state, state)
}

// move renames a volume's folder to another place; it never replaces what is there.
func (p *Pool) move(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return p.taken(to)
	}
	if err != nil {
		return typed(fmt.Errorf("renaming %s to %s: %w", from, to, err))
	}
	return p.settle()
}

// taken says who has a name: a volume of ours, or somebody's folder that we leave alone.
func (p *Pool) taken(path string) error {
	var v storage.Mark
	switch ok, err := readMark(path, volumeMark, &v); {
	case err != nil:
		return err
	case ok:
		return storage.NameTaken(v.Spec)
	}
	return storage.NotOurs(path)
}

// settle makes what was renamed durable: on Btrfs by the transaction that holds all of it.
func (p *Pool) settle() error {
	dir, err := os.Open(p.root)
	if err != nil {
		return p.unavailable(err)
	}
	defer dir.Close()
	return typed(unix.Syncfs(int(dir.Fd())))
}
