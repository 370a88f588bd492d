package dev

import (
	"context"
	"errors"

	"github.com/ployz/ployz/node/api"
)

// Reboot lets a machine's systemd stop everything in order and boots it again, and returns
// when it is up. Its network and cgroups are new ones, as on a real machine. Errors:
// dev.machine-off, dev.boot-failed.
func Reboot(ctx context.Context, name, machine string) error {
	l, err := openLab(name)
	if err != nil {
		return err
	}
	old, err := l.leader(machine)
	if err != nil {
		return err
	}
	status, err := Exec(ctx, name, machine, []string{"systemctl", "reboot"}, Streams{})
	if err != nil {
		return err
	}
	// systemd may end the command before it can say 0: only a plain refusal counts.
	if status == 1 {
		return api.Errorf(api.CodeDevBoot, "%s/%s refused to reboot", name, machine).WithHint("ployzctl dev shell %s/%s", name, machine)
	}
	_, _, err = l.awaitBoot(ctx, machine, old)
	return err
}

// PowerCut kills everything in a machine at once, without a word to any of it, and leaves it off.
// In a lab with disk images what the machine had not synced to /var/lib/ployz is lost. All else, and
// in other labs that too, is in this computer's page cache and kept.
func PowerCut(name, machine string) error {
	l, err := openLab(name)
	if err != nil {
		return err
	}
	if _, err := l.number(machine); err != nil {
		return err
	}
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	mounts, err := findCgroups()
	if err != nil {
		return err
	}
	loops := l.loops(machine)
	release, err := l.stopDisk(mounts, machine)
	if err != nil {
		return err
	}
	if err := killTree(l.cgroup(mounts, machine)); err != nil {
		return errors.Join(err, release())
	}
	detach(loops)
	return errors.Join(release(), removeTree(l.cgroup(mounts, machine)))
}

// Boot boots a machine that is off and returns when it is up; one that runs is left alone.
func Boot(ctx context.Context, name, machine string) error {
	l, err := openLab(name)
	if err != nil {
		return err
	}
	if _, err := l.number(machine); err != nil {
		return err
	}
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.ensureHolder(ctx); err != nil {
		return err
	}
	return l.ensureMachine(ctx, machine, Options{})
}
