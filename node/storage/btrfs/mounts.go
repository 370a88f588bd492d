package btrfs

import (
	"errors"
	"path/filepath"
	"strings"

	"github.com/ployz/ployz/node/storage"
)

// mounts says which mounts of this machine show a folder of the pool or something in it. The pool's own does
// not count.
func (p *Pool) mounts(dir string) ([]storage.Mount, error) {
	own, err := storage.OwnMounts()
	if err != nil {
		return nil, typed(err)
	}
	at, ok := under(own, p.root)
	if !ok {
		return nil, p.unavailable(errors.New("no mount holds it"))
	}
	relative, err := filepath.Rel(at.Point, dir)
	if err != nil {
		return nil, typed(err)
	}
	every, err := storage.EveryMount()
	if err != nil {
		return nil, typed(err)
	}
	inside, users := filepath.Join(at.Root, relative), []storage.Mount(nil)
	for _, m := range every {
		if m.Device == at.Device && (m.Root == inside || strings.HasPrefix(m.Root, inside+"/")) {
			users = append(users, m)
		}
	}
	return users, nil
}

// under finds the mount that a path is on: the last of those with the longest mount point.
func under(all []storage.Mount, path string) (best storage.Mount, ok bool) {
	for _, m := range all {
		if path == m.Point || m.Point == "/" || strings.HasPrefix(path, m.Point+"/") {
			if !ok || len(m.Point) >= len(best.Point) {
				best, ok = m, true
			}
		}
	}
	return best, ok
}
