package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
)

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
	done, err := madeBefore(opts, howFounded)
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
	return tell(stdout, "founded", opts, errors.Join(publishFolder(filepath.Join(work, "core"), opts, howFounded), os.RemoveAll(work)))
}

func tell(stdout io.Writer, what string, opts *server.Options, err error) error {
	if err == nil {
		_, err = fmt.Fprintf(stdout, "%s: %s in %s\n", what, opts.ServerName, opts.StoreDir)
	}
	return err
}
