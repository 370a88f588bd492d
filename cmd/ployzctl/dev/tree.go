package dev

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// hidden are folders of the lower tree that a machine starts with empty: the host's people,
// their work, its logs, and everything that says what the host runs.
var hidden = []string{
	"boot", "home", "media", "mnt", "opt", "root", "srv", "tmp",
	"etc/cron.d", "etc/cron.daily", "etc/cron.hourly", "etc/cron.weekly", "etc/cron.monthly",
	"etc/network", "etc/ployz", "etc/profile.d", "etc/ssh", "etc/sysctl.d", "etc/systemd", "etc/wireguard",
	"etc/rc0.d", "etc/rc1.d", "etc/rc2.d", "etc/rc3.d", "etc/rc4.d", "etc/rc5.d", "etc/rc6.d", "etc/rcS.d",
	"usr/local", "var/backups", "var/cache/apt", "var/lib/containerd", "var/lib/docker", "var/lib/machines",
	"var/lib/apt/lists", "var/lib/ployz", "var/lib/ployz-dev", "var/lib/postgresql", "var/lib/systemd", "var/log", "var/mail",
	"var/spool", "var/tmp", "var/www",
}

// absent are files of the lower tree that a machine must not see: what stops packages from
// starting their services, what says "this is a container of another kind".
var absent = []string{
	".dockerenv", "usr/sbin/policy-rc.d", "etc/crypttab", "etc/crontab", "etc/resolv.conf",
	"etc/apt/sources.list", "etc/environment", "etc/sysctl.conf",
	"var/lib/man-db/auto-update", // or each install would index all manuals of the host, for seconds
}

// standard are the folders at the top of a Linux tree. Any other is the host's own and hidden.
var standard = []string{
	"bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "media", "mnt", "opt", "proc",
	"root", "run", "sbin", "srv", "sys", "tmp", "usr", "var",
}

// masked are units that would wait for, change or look after the host's own hardware, clock,
// kernel settings or terminals. A mask also holds when a package brings the unit along.
var masked = []string{
	"apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
	"man-db.timer", "dpkg-db-backup.timer", "logrotate.timer",
	"console-getty.service", "getty.target", "getty@.service", "serial-getty@.service", "container-getty@.service",
	"systemd-timesyncd.service", "systemd-networkd-wait-online.service", "NetworkManager-wait-online.service",
	"systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket", "systemd-udevd-varlink.socket",
	"systemd-udev-trigger.service", "systemd-udev-settle.service", "systemd-modules-load.service", "systemd-sysctl.service",
	"systemd-binfmt.service", "systemd-firstboot.service", "systemd-hwdb-update.service", "systemd-random-seed.service",
	"systemd-pstore.service", "systemd-rfkill.socket", "ldconfig.service", "systemd-journal-catalog-update.service",
	"proc-sys-fs-binfmt_misc.automount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount",
	"modprobe@.service", "tmp.mount", "systemd-tpm2-setup.service", "systemd-tpm2-setup-early.service",
}

// prepareDisk makes the disk of a machine that was never booted. It is made beside its place
// and renamed, so a disk that is there is whole.
func (l *lab) prepareDisk(machine string) error {
	disk := l.disk(machine)
	if _, err := os.Stat(disk); err == nil {
		return l.writeHosts(filepath.Join(disk, "upper"), machine)
	}
	half := disk + ".half"
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	for _, dir := range []string{"upper", "work", "root", "lower", "ployz"} {
		if err := os.MkdirAll(filepath.Join(half, dir), 0o755); err != nil {
			return err
		}
	}
	number, err := l.number(machine)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(half, "address"), []byte(standing(number).String()), 0o644); err != nil {
		return err
	}
	if l.plan.DiskImages {
		if err := makeImage(half); err != nil {
			return err
		}
	}
	upper := upperDir{path: filepath.Join(half, "upper"), lower: l.lower()}
	if err := upper.clean(); err != nil {
		return err
	}
	if err := l.personalise(upper, machine); err != nil {
		return err
	}
	return os.Rename(half, disk)
}

// lower is the tree that the lab's machines boot from.
func (l *lab) lower() string {
	if l.plan.Tree == "" {
		return "/"
	}
	if isFolder(l.plan.Tree) {
		return l.plan.Tree
	}
	return l.path("tree")
}

func isFolder(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// upperDir is the upper layer of an overlay that is not mounted yet.
type upperDir struct{ path, lower string }

// clean hides what belongs to the tree's first owner.
func (u upperDir) clean() error {
	for _, name := range hidden {
		if err := u.hide(name); err != nil {
			return err
		}
	}
	for _, name := range slices.Concat(absent, u.strangers()) {
		if err := u.remove(name); err != nil {
			return err
		}
	}
	for _, unit := range masked {
		if err := u.link("/dev/null", "etc/systemd/system/"+unit); err != nil {
			return err
		}
	}
	return u.link("/usr/lib/systemd/system/multi-user.target", "etc/systemd/system/default.target")
}

// strangers are the entries at the top of the lower tree that no Linux tree has.
func (u upperDir) strangers() []string {
	entries, err := os.ReadDir(u.lower)
	if err != nil {
		return nil // the mount of the overlay will say why
	}
	var names []string
	for _, e := range entries {
		if !slices.Contains(standard, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

// hide makes a folder that the lower layer has empty. One that it does not have stays away,
// but for those that systemd or we write to.
func (u upperDir) hide(name string) error {
	below, err := os.Lstat(filepath.Join(u.lower, name))
	if err != nil || !below.IsDir() {
		return nil
	}
	if err := u.folder(name, below.Mode().Perm()|below.Mode()&fs.ModeSticky); err != nil {
		return err
	}
	if err := unix.Setxattr(filepath.Join(u.path, name), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		return fmt.Errorf("hiding /%s: %w", name, err)
	}
	return nil
}

// folder makes a folder with the lower layer's own mode and owner for it and everything above it.
func (u upperDir) folder(name string, mode fs.FileMode) error {
	if name == "." {
		return nil
	}
	at := filepath.Join(u.path, name)
	if isFolder(at) {
		return nil
	}
	if err := u.folder(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	return os.Chmod(at, mode)
}

// remove hides one file with a whiteout, overlayfs's word for "not there".
func (u upperDir) remove(name string) error {
	if _, err := os.Lstat(filepath.Join(u.lower, name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := u.folder(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	err := unix.Mknod(filepath.Join(u.path, name), unix.S_IFCHR, 0)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("hiding /%s: %w", name, err)
	}
	return nil
}

func (u upperDir) link(target, name string) error {
	if err := u.folder(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.Symlink(target, filepath.Join(u.path, name))
}

// write puts a file into the upper layer, over whatever is there.
func (u upperDir) write(name, text string) error {
	if err := u.folder(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	at := filepath.Join(u.path, name)
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(at, []byte(text), 0o644)
}

// personalise gives a machine its own name, identity and a journal that survives reboots.
func (l *lab) personalise(u upperDir, machine string) error {
	id := make([]byte, 16)
	rand.Read(id)
	files := map[string]string{
		"etc/hostname":    machine + "\n",
		"etc/machine-id":  hex.EncodeToString(id) + "\n",
		"etc/fstab":       "",
		"etc/resolv.conf": "# a dev machine has no resolver but its own\n",
		"etc/systemd/journald.conf.d/ployz-dev.conf": "[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitBurst=0\n",
		"root/.profile": "PS1='\\u@\\h:\\w\\$ '\n",
	}
	for name, text := range files {
		if err := u.write(name, text); err != nil {
			return err
		}
	}
	for name, mode := range map[string]fs.FileMode{
		"var/log/journal": 0o755, "var/cache/apt/archives/partial": 0o755, "var/lib/apt/lists/partial": 0o755, "var/lib/systemd": 0o755,
		"var/lib/ployz": 0o755, "var/log/apt": 0o755, "usr/local/bin": 0o755, "usr/local/sbin": 0o755,
	} {
		if err := u.folder(name, mode); err != nil {
			return err
		}
	}
	return l.writeHosts(u.path, machine)
}

// hosts is the /etc/hosts of a place in the lab. A machine behind NAT does not find itself at its router.
func (l *lab) hosts(place string) string {
	var text strings.Builder
	text.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost\n")
	all := l.everyAddress()
	for i, m := range l.machines() {
		at := all[m]
		if m == place && slices.Contains(l.plan.NAT, m) {
			at = inner(i + 1)
		}
		fmt.Fprintf(&text, "%s %s\n%s %s\n", at.v4, m, at.v6, m)
	}
	fmt.Fprintf(&text, "%s%s %s\n%s%s %s\n", underlay4, bridgeHost, clientPlace, underlay6, bridgeHost, clientPlace)
	return text.String()
}

// writeHosts writes the machines' names into an upper layer. A running machine's is written
// through its own root instead, as a mounted overlay does not see changes under it.
func (l *lab) writeHosts(upper, machine string) error {
	if leader, err := l.leader(machine); err == nil && leader != 0 {
		return os.WriteFile(fmt.Sprintf("/proc/%d/root/etc/hosts", leader), []byte(l.hosts(machine)), 0o644)
	}
	return upperDir{path: upper, lower: l.lower()}.write("etc/hosts", l.hosts(machine))
}
