package dev

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/ployz/ployz/node/api"
)

// Down removes a lab and everything of it: processes at once, then cgroups, loop devices and
// disks. It may be repeated, works on a lab that an interrupted Up or a kill left in pieces, and
// a lab that is not there is gone already. What it cannot remove it names: dev.leftovers.
func Down(name string) error {
	l, err := newLab(name)
	if err != nil {
		return err
	}
	if err := l.read(); err != nil && !errors.Is(err, os.ErrNotExist) {
		l.plan = plan{} // unreadable: everything below works from what is there
	}
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	errs := []error{l.killAll(), os.RemoveAll(l.state), os.Remove(l.run)}
	removeEmpty(stateRoot(), filepath.Dir(l.run))
	if err := errors.Join(errs...); err != nil {
		return api.Errorf(api.CodeDevLeftovers, "lab %s is not all gone: %w", name, err).WithHint("ployzctl dev down --name %s", name)
	}
	return nil
}

// killAll ends every process of the lab at once and removes its cgroup folders.
func (l *lab) killAll() error {
	mounts, err := findCgroups()
	if err != nil {
		return err
	}
	loops := l.loops(l.machines()...)
	if err := killTree(l.cgroup(mounts)); err != nil {
		return err
	}
	detach(loops)
	if err := removeTree(l.cgroup(mounts)); err != nil {
		return err
	}
	if mounts.named == "" {
		return nil
	}
	return removeTree(filepath.Join(mounts.named, l.tree()))
}

// removeEmpty removes folders that the last lab left empty; other labs' keep them.
func removeEmpty(folders ...string) {
	for _, dir := range folders {
		// Not empty is the usual answer, and fine.
		_ = os.Remove(dir)
	}
}
