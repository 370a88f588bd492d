package main

import (
	"context"
	"fmt"

	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs"
	"github.com/ployz/ployz/node/storage/zfs"
)

// Program is ployz-pool with what it works on, so that tests run the very same.
type Program struct {
	// State is the folder of what boot needs: /var/lib/ployz.
	State string
}

type usageError string

// Error returns what is wrong with the arguments.
func (e usageError) Error() string { return string(e) }

const usage = "usage: ployz-pool [--state DIR] up"

// Run does what the arguments say.
func (p *Program) Run(ctx context.Context, args []string) error {
	if len(args) >= 2 && args[0] == "--state" {
		p.State, args = args[1], args[2:]
	}
	switch {
	case len(args) == 1 && args[0] == "up":
		return p.up(ctx)
	case len(args) == 1 && (args[0] == "--help" || args[0] == "-h"):
		_, err := fmt.Println(usage)
		return err
	}
	return usageError(usage)
}

// up mounts what is ours to mount. A Btrfs of the operator's is mounted by the operator's own fstab, and only looked
// at. That a new pool has no mark yet is no failure: who makes it writes that once it is mounted.
func (p *Program) up(ctx context.Context) error {
	s, err := storage.LoadSource(p.State)
	if err != nil {
		return err
	}
	switch s.Kind {
	case storage.SourceLoop:
		return btrfs.Mount(s.File(p.State), s.Folder(p.State))
	case storage.SourceZFS:
		pool, err := zfs.Open(ctx, s.At, s.Folder(p.State))
		if err != nil {
			return err
		}
		return pool.MountAll(ctx)
	}
	return btrfs.Look(s.Folder(p.State))
}
