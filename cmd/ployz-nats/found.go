package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// markerFile in a store folder says who founded it: it is written last, before the folder gets its name.
const markerFile = "founded.json"

type marker struct {
	ServerName string    `json:"server_name"`
	Cluster    string    `json:"cluster"`
	Founded    time.Time `json:"founded"`
}

// found makes the store folder of a cluster's first core: clustered, with one voter.
//
// nats-server cannot begin such a cluster, only shrink to it. So the core is started beside a
// throw-away second one, is made leader, removes the second, and stops. That happens in a folder
// beside the real one, before any stream exists, and the rename at the end is the line: whatever
// died before it left nothing that counts, and is wiped by the next attempt.
func found(f settings, stdout io.Writer) error {
	f.role = "core"
	opts, err := load(f)
	if err != nil {
		return err
	}
	unlock, err := lock(opts.StoreDir)
	if err != nil {
		return err
	}
	defer unlock()
	done, err := alreadyFounded(opts)
	if err != nil || done {
		return tell(stdout, "already founded", opts, err)
	}
	work := opts.StoreDir + ".founding"
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	if err := foundIn(work, opts); err != nil {
		return errors.Join(err, os.RemoveAll(work))
	}
	return tell(stdout, "founded", opts, publishFolder(work, opts))
}

func tell(stdout io.Writer, what string, opts *server.Options, err error) error {
	if err == nil {
		_, err = fmt.Fprintf(stdout, "%s: %s in %s\n", what, opts.ServerName, opts.StoreDir)
	}
	return err
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
		return nil, refuse("%s is being founded by another process", storeDir)
	}
	return func() { _ = file.Close() }, nil
}

// alreadyFounded refuses a folder that founding did not make, or made for another core.
func alreadyFounded(opts *server.Options) (bool, error) {
	if _, err := os.Stat(opts.StoreDir); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	text, err := os.ReadFile(filepath.Join(opts.StoreDir, markerFile))
	if err != nil {
		return false, refuse("%s exists and was not founded here: %w", opts.StoreDir, err)
	}
	var m marker
	if err := json.Unmarshal(text, &m); err != nil {
		return false, refuse("%s: %w", filepath.Join(opts.StoreDir, markerFile), err)
	}
	if m.ServerName != opts.ServerName || m.Cluster != opts.Cluster.Name {
		return false, refuse("%s was founded for %s of %s, not for %s of %s", opts.StoreDir, m.ServerName, m.Cluster, opts.ServerName, opts.Cluster.Name)
	}
	return true, nil
}

// publishFolder makes the founded folder durable and gives it its name.
func publishFolder(work string, opts *server.Options) error {
	text, err := json.Marshal(marker{opts.ServerName, opts.Cluster.Name, time.Now().UTC()})
	if err != nil {
		return err
	}
	core := filepath.Join(work, "core")
	if err := os.WriteFile(filepath.Join(core, markerFile), text, 0o600); err != nil {
		return err
	}
	if err := syncTree(core); err != nil {
		return err
	}
	if err := os.Rename(core, opts.StoreDir); err != nil {
		return err
	}
	if err := syncPath(filepath.Dir(opts.StoreDir)); err != nil {
		return err
	}
	return os.RemoveAll(work)
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
