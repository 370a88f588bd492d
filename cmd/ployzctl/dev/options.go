package dev

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ployz/ployz/node/api"
)

// checkHost looks for everything that a lab needs, and names all of what is missing at once.
func checkHost(o Options) error {
	if os.Geteuid() != 0 {
		return api.Errorf(api.CodeDevHost, "a lab needs root: user %d may not make machines", os.Geteuid()).WithHint("sudo ployzctl dev ...")
	}
	if missing := missingPackages(o); len(missing) > 0 {
		return api.Errorf(api.CodeDevHost, "this computer lacks what a lab is made of: %s", strings.Join(missing, ", ")).
			WithHint("apt-get install --no-install-recommends %s", strings.Join(missing, " "))
	}
	_, err := findCgroups()
	return err
}

// missingPackages names the Debian packages whose programs are not here.
func missingPackages(o Options) []string {
	var missing []string
	needs := [][2]string{
		{"systemd-nspawn", "systemd-container"}, {"dbus-daemon", "dbus"}, {"ip", "iproute2"},
		{"nsenter", "util-linux"}, {"mount", "mount"}, {"awk", "mawk"},
	}
	if o.DiskImages {
		needs = append(needs, [2]string{"mkfs.ext4", "e2fsprogs"})
	}
	if len(o.NAT) > 0 {
		needs = append(needs, [2]string{"nft", "nftables"})
	}
	for _, need := range needs {
		if _, err := exec.LookPath(need[0]); err != nil {
			missing = append(missing, need[1])
		}
	}
	if _, err := os.Stat("/usr/lib/systemd/systemd"); err != nil {
		if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
			missing = append(missing, "systemd-sysv")
		}
	}
	return missing
}

// adoptOptions settles what the lab shall be: what was asked for now on top of what is there.
func (l *lab) adoptOptions(o Options) error {
	if o.Machines < 0 || o.Machines > maxMachines {
		return api.Errorf(api.CodeDevOptions, "a lab has 1 to %d machines, not %d", maxMachines, o.Machines).
			WithHint("ployzctl dev up --name %s --machines 3", l.name)
	}
	err := l.read()
	before := l.plan.Machines
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.plan = plan{Machines: max(o.Machines, 1), Tree: o.Tree, DiskImages: o.DiskImages, Created: time.Now().UTC()}
	case err != nil:
		return err
	case o.Machines != 0 && o.Machines < l.plan.Machines:
		return api.Errorf(api.CodeDevOptions, "lab %s has %d machines, and up never removes any (asked for %d)", l.name, l.plan.Machines, o.Machines).
			WithHint("ployzctl dev down --name %s", l.name)
	case o.Tree != "" && o.Tree != l.plan.Tree:
		return api.Errorf(api.CodeDevOptions, "lab %s boots from %q, not from %q", l.name, l.plan.Tree, o.Tree).
			WithHint("ployzctl dev down --name %s", l.name)
	case o.DiskImages && !l.plan.DiskImages:
		return api.Errorf(api.CodeDevOptions, "lab %s was made without disk images, and its machines keep the disks that they have", l.name).
			WithHint("ployzctl dev down --name %s", l.name)
	default:
		l.plan.Machines = max(o.Machines, l.plan.Machines)
	}
	if err := l.adoptNAT(o.NAT, before); err != nil {
		return err
	}
	if l.plan.Installed == nil {
		l.plan.Installed = map[string][]string{}
	}
	if err := os.MkdirAll(l.state, 0o755); err != nil {
		return err
	}
	if err := l.refuseOverlay(); err != nil {
		return err
	}
	return l.write()
}

// adoptNAT puts new machines behind NAT, where before is how many there were.
func (l *lab) adoptNAT(machines []string, before int) error {
	for _, m := range machines {
		number, err := l.number(m)
		if err != nil {
			return err
		}
		if slices.Contains(l.plan.NAT, m) {
			continue
		}
		if number <= before {
			return api.Errorf(api.CodeDevOptions, "%s/%s is there, and was not made behind NAT", l.name, m).WithHint("ployzctl dev down --name %s", l.name)
		}
		l.plan.NAT = append(l.plan.NAT, m)
	}
	return nil
}

// refuseOverlay looks at the file system the disks would be on.
func (l *lab) refuseOverlay() error {
	var fsinfo syscall.Statfs_t
	if err := syscall.Statfs(l.state, &fsinfo); err != nil {
		return err
	}
	const overlayMagic = 0x794c7630
	if fsinfo.Type != overlayMagic {
		return nil
	}
	return api.Errorf(api.CodeDevHost, "%s is on overlayfs, which cannot carry the machines' disks", l.state).
		WithHint("set PLOYZ_DEV_STATE to a folder on ext4, xfs or btrfs (a volume, in a container)")
}
