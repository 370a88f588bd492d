package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// markerFile in a store folder says whose it is and how it came to be: it is written last, before
// the folder gets its name. A core runs on no folder without it.
const markerFile = "founded.json"

// How a store folder came to be. What was founded before this word was kept has none.
const (
	howFounded = ""
	howJoined  = "joined"
)

type marker struct {
	ServerName string    `json:"server_name"`
	Cluster    string    `json:"cluster"`
	How        string    `json:"how,omitempty"`
	Founded    time.Time `json:"founded"`
}

// join makes the empty store folder of a core that will be taken into a group by those who are
// there. The group tells members apart by their names' hash, so a folder of another incarnation,
// or of another cluster, must never come back under this name: it is refused here and at start.
func join(f settings, stdout io.Writer) error {
	f.role = "core"
	opts, err := load(f)
	if err != nil {
		return err
	}
	if len(opts.Routes) < 2 {
		return refuse("%s names no voter but this one: there is nobody to join", f.config)
	}
	unlock, err := lock(opts.StoreDir)
	if err != nil {
		return err
	}
	defer unlock()
	done, err := madeBefore(opts, howJoined)
	if err != nil || done {
		return tell(stdout, "already joined", opts, err)
	}
	work := opts.StoreDir + ".joining"
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(work, 0o700)); err != nil {
		return err
	}
	return tell(stdout, "ready to join", opts, publishFolder(work, opts, howJoined))
}

// lock keeps two foundings of one folder apart. The kernel drops it when the holder dies.
func lock(storeDir string) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(storeDir), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(storeDir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, refuse("%s is being made by another process", storeDir)
	}
	return func() { _ = file.Close() }, nil
}

// madeBefore refuses a folder that was not made here, was made for another core, or otherwise.
func madeBefore(opts *server.Options, how string) (bool, error) {
	if _, err := os.Stat(opts.StoreDir); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	m, err := ownFolder(opts)
	if err == nil && m.How != how {
		err = refuse("%s was made in another way: it was founded, or joined, where the other is asked for", opts.StoreDir)
	}
	return err == nil, err
}

// ownFolder refuses a folder that is not exactly this core's: a stale one makes a member forget
// what it acknowledged, since others take it for the one that it replaced.
func ownFolder(opts *server.Options) (marker, error) {
	var m marker
	text, err := os.ReadFile(filepath.Join(opts.StoreDir, markerFile))
	if err != nil {
		return m, refuse("%s was neither founded nor joined here: %w", opts.StoreDir, err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, refuse("%s: %w", filepath.Join(opts.StoreDir, markerFile), err)
	}
	if m.ServerName != opts.ServerName || m.Cluster != opts.Cluster.Name {
		return m, refuse("%s was made for %s of %s, not for %s of %s", opts.StoreDir, m.ServerName, m.Cluster, opts.ServerName, opts.Cluster.Name)
	}
	return m, nil
}

// publishFolder makes the folder durable and gives it its name.
func publishFolder(made string, opts *server.Options, how string) error {
	text, err := json.Marshal(marker{opts.ServerName, opts.Cluster.Name, how, time.Now().UTC()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(made, markerFile), text, 0o600); err != nil {
		return err
	}
	if err := syncTree(made); err != nil {
		return err
	}
	if err := os.Rename(made, opts.StoreDir); err != nil {
		return err
	}
	return syncPath(filepath.Dir(opts.StoreDir))
}

func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		return syncPath(path)
	})
}

func syncPath(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Sync()
}
