package runc

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/ployz/ployz/node/runtime/runc/boot"
)

// systemMounts are what every Linux program expects.
func systemMounts() []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
	}
}

// mounts come in the order in which they may hide one another: system, memory and volumes, files.
func (in Input) mounts() []specs.Mount {
	all := append(systemMounts(), in.folders()...)
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		all = append(all, bind(filepath.Join(in.Dir, "files", name), "/etc/"+name))
	}
	for i, f := range in.Spec.Files {
		source := filepath.Join(in.Dir, configName(i))
		if f.Sealed != nil {
			source = filepath.Join(boot.SecretsDir(in.Run, in.Spec.ID), secretName(i))
		}
		all = append(all, bind(source, f.Target))
	}
	return all
}

// folders are memory file systems and volumes.
func (in Input) folders() (all []specs.Mount) {
	for _, t := range in.Spec.Tmpfs {
		options := []string{"nosuid", "nodev", "mode=" + octal(t.Mode, 0o1777)}
		if t.SizeBytes > 0 {
			options = append(options, "size="+strconv.FormatInt(t.SizeBytes, 10))
		}
		all = append(all, specs.Mount{Destination: t.Target, Type: "tmpfs", Source: "tmpfs", Options: options})
	}
	if len(in.Spec.Mounts) == 0 {
		return all // in the order that bundles had before there were volumes
	}
	for _, m := range in.Spec.Mounts {
		options := []string{"bind", "rprivate", "nosuid", "nodev", "rw"}
		if m.ReadOnly {
			options[len(options)-1] = "ro"
		}
		all = append(all, specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: options})
	}
	// One inside another comes after it, or it would be hidden.
	slices.SortStableFunc(all, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return all
}

func bind(source, target string) specs.Mount {
	return specs.Mount{Destination: target, Type: "bind", Source: source, Options: []string{"rbind", "ro", "nosuid", "nodev", "noexec"}}
}

// configName and secretName are the names of the spec's i-th file, below the instance's folder
// and below its folder of opened secrets.
func configName(i int) string { return "files/config-" + strconv.Itoa(i) }
func secretName(i int) string { return "secret-" + strconv.Itoa(i) }

func octal(mode, fallback uint32) string {
	if mode == 0 {
		mode = fallback
	}
	return fmt.Sprintf("%04o", mode)
}

// files are the contents that go into the folder besides bundle and root file system.
func (in Input) files() []content {
	all := []content{
		{name: "files/hosts", text: []byte(in.hosts()), mode: 0o644},
		{name: "files/hostname", text: []byte(in.hostname() + "\n"), mode: 0o644},
		{name: "files/resolv.conf", text: []byte(in.resolvConf()), mode: 0o644},
	}
	for i, f := range in.Spec.Files {
		if f.Sealed == nil {
			mode := f.Mode
			if mode == 0 {
				mode = 0o444
			}
			all = append(all, content{name: configName(i), text: f.Plain, mode: fileMode(mode), uid: f.UID, gid: f.GID})
		}
	}
	return all
}

func (in Input) hosts() string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	for _, a := range []netip.Addr{in.Addresses.V4, in.Addresses.V6} {
		if a.IsValid() {
			fmt.Fprintf(&b, "%s\t%s\n", a, in.hostname())
		}
	}
	for _, name := range sortedKeys(in.Spec.Process.ExtraHosts) {
		fmt.Fprintf(&b, "%s\t%s\n", in.Spec.Process.ExtraHosts[name], name)
	}
	return b.String()
}

// resolvConf asks for "db" and "db.prod" in the cluster before anywhere else: with ndots:2, a name
// of one dot is not sent out first.
func (in Input) resolvConf() string {
	var b strings.Builder
	for _, n := range in.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", n)
	}
	fmt.Fprintf(&b, "search %s.%s %s\noptions ndots:2 timeout:2 attempts:2\n", in.Spec.Namespace, in.Domain, in.Domain)
	return b.String()
}

// secrets are the sealed parts, and whether there are any.
func (in Input) secrets() (s boot.Secrets, any bool) {
	for name, v := range in.Spec.SecretEnv {
		if s.Env == nil {
			s.Env = map[string][]byte{}
		}
		s.Env[name] = v.Sealed
	}
	for i, f := range in.Spec.Files {
		if f.Sealed != nil {
			mode := f.Mode
			if mode == 0 {
				mode = 0o400
			}
			s.Files = append(s.Files, boot.SecretFile{Name: secretName(i), UID: f.UID, GID: f.GID, Mode: mode, Sealed: f.Sealed})
		}
	}
	return s, len(s.Env)+len(s.Files) > 0
}

// checkTargets refuses places that are not absolute, or that two things want.
func (in Input) checkTargets() error {
	var seen []string
	for _, t := range in.Spec.Tmpfs {
		seen = append(seen, t.Target)
	}
	for _, m := range in.Spec.Mounts {
		seen = append(seen, m.Target)
	}
	for _, f := range in.Spec.Files {
		seen = append(seen, f.Target)
	}
	for i, target := range seen {
		if !filepath.IsAbs(target) || filepath.Clean(target) != target || target == "/" {
			return in.invalid("%q is not a place for a mount: an absolute path without . and .. is", target)
		}
		if slices.Contains(seen[:i], target) {
			return in.invalid("two mounts want %s", target)
		}
	}
	return nil
}
