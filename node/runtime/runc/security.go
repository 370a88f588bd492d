package runc

import (
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/ployz/ployz/node/api"
)

// defaultCapabilities are those that Docker leaves to a container.
var defaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// allCapabilities in the kernel's order of numbers, which is the bit order of CapBnd.
var allCapabilities = strings.Fields(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL
	CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW
	CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN
	CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE
	CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND
	CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE`)

// maskedPaths and readonlyPaths are Docker's: what tells of, or steers, the machine.
var (
	maskedPaths = []string{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware"}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// capabilities are the defaults less CapDrop plus CapAdd; "ALL" is every one. A process that is
// not root may use none of them unless a program file grants them, as in Docker.
func (in Input) capabilities() (*specs.LinuxCapabilities, error) {
	set := slices.Clone(defaultCapabilities)
	for _, name := range in.Spec.Security.CapDrop {
		all, c, err := in.capability(name)
		if err != nil {
			return nil, err
		}
		set = slices.DeleteFunc(set, func(have string) bool { return all || have == c })
	}
	for _, name := range in.Spec.Security.CapAdd {
		all, c, err := in.capability(name)
		if err != nil {
			return nil, err
		}
		if all {
			set = slices.Clone(allCapabilities)
			continue
		}
		set = append(set, c)
	}
	slices.Sort(set)
	set = slices.Compact(set)
	caps := &specs.LinuxCapabilities{Bounding: set}
	if in.User.UID == 0 {
		caps.Effective, caps.Permitted = set, set
	}
	return caps, nil
}

func (in Input) capability(name string) (all bool, c string, err error) {
	c = strings.ToUpper(name)
	if c == "ALL" {
		return true, "", nil
	}
	if !strings.HasPrefix(c, "CAP_") {
		c = "CAP_" + c
	}
	if !slices.Contains(allCapabilities, c) {
		return false, "", in.invalid("%q is not a capability", name)
	}
	return false, c, nil
}

// withheld returns the wanted capabilities that this machine cannot grant, given the bits of CapBnd.
func withheld(caps *specs.LinuxCapabilities, bounding uint64) (missing []string) {
	for _, c := range caps.Bounding {
		if bounding&(1<<slices.Index(allCapabilities, c)) == 0 {
			missing = append(missing, c)
		}
	}
	return missing
}

// defaultSeccomp is Docker's profile, as the Moby project keeps it, for this kernel and these capabilities.
func defaultSeccomp(s *specs.Spec) (*specs.LinuxSeccomp, error) { return seccomp.GetDefaultProfile(s) }

// rlimits turns Compose's names ("nofile") into the OCI's ("RLIMIT_NOFILE").
func rlimits(wanted map[string]api.Ulimit) (limits []specs.POSIXRlimit, err error) {
	known := strings.Fields("as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack")
	for _, name := range sortedKeys(wanted) {
		if !slices.Contains(known, name) {
			return nil, api.Errorf(api.CodeRuntimeInvalid, "%q is not a resource limit: one of %s", name, strings.Join(known, ", "))
		}
		l := wanted[name]
		limits = append(limits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Soft: uint64(l.Soft), Hard: uint64(l.Hard)})
	}
	return limits, nil
}

// sysctls may only be such as belong to a namespace of the instance's own. A process needs no
// capability for low ports and for ping there, as in Docker.
func (in Input) sysctls() (map[string]string, error) {
	set := map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
	for _, name := range sortedKeys(in.Spec.Security.Sysctls) {
		if !namespaced(name) {
			return nil, in.invalid("sysctl %s would change the whole machine: only net.*, fs.mqueue.*, kernel.sem, kernel.shm* and kernel.msg* are an instance's own", name)
		}
		set[name] = in.Spec.Security.Sysctls[name]
	}
	return set, nil
}

func namespaced(name string) bool {
	if name == "kernel.sem" || name == "kernel.shm_rmid_forced" {
		return true
	}
	return slices.ContainsFunc([]string{"net.", "fs.mqueue.", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni"},
		func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// deviceRules allow what was asked for; runc itself adds the usual ones such as /dev/null.
func (in Input) deviceRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for i, d := range in.Devices {
		major, minor := d.Major, d.Minor
		access := first(in.Spec.Security.Devices[i].Permissions, "rwm")
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &major, Minor: &minor, Access: access})
	}
	return rules
}
