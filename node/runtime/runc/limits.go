package runc

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func fileMode(bits uint32) fs.FileMode { return fs.FileMode(bits & 0o777) }

// limits are the unit's directives for the resources, each with the controller that it needs.
func limits(r api.Resources) (directives []string, controllers []string) {
	add := func(controller, directive string) {
		directives, controllers = append(directives, directive), append(controllers, controller)
	}
	if r.MemoryBytes > 0 {
		add("memory", fmt.Sprintf("MemoryMax=%d", r.MemoryBytes))
	}
	if r.CPUs > 0 {
		add("cpu", fmt.Sprintf("CPUQuota=%s%%", strconv.FormatFloat(r.CPUs*100, 'f', -1, 64)))
	}
	if r.PIDs > 0 {
		add("pids", fmt.Sprintf("TasksMax=%d", r.PIDs))
	}
	if r.IOWeight > 0 {
		add("io", fmt.Sprintf("IOWeight=%d", r.IOWeight))
	}
	return directives, controllers
}

// checkLimits refuses a limit that this machine would not enforce.
func checkLimits(spec runtime.Spec, available []string) error {
	directives, needed := limits(spec.Resources)
	for i, controller := range needed {
		if !slices.Contains(available, controller) {
			return api.Errorf(api.CodeControllerMissing, "%s needs the cgroup controller %q, this machine has: %s",
				directives[i], controller, first(strings.Join(available, " "), "none")).About("instance " + spec.ID).WithHint("ployzctl doctor")
		}
	}
	return nil
}

// Controllers returns the cgroup v2 controllers that units of this machine can use.
func Controllers() ([]string, error) {
	text, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(text)), nil
}

// bounding returns this process's bounding set of capabilities, which is what units can be granted.
func bounding() (uint64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			return strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		}
	}
	return 0, fmt.Errorf("runc: /proc/self/status has no CapBnd")
}

// lookUpDevices asks this machine for the devices' numbers. Errors: runtime.invalid-spec.
func lookUpDevices(spec runtime.Spec) (devices []specs.LinuxDevice, err error) {
	for _, d := range spec.Security.Devices {
		var st unix.Stat_t
		if err := unix.Stat(d.Source, &st); err != nil {
			return nil, api.Errorf(api.CodeRuntimeInvalid, "device %s: %w", d.Source, err).About("instance " + spec.ID)
		}
		kind := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[st.Mode&unix.S_IFMT]
		if kind == "" {
			return nil, api.Errorf(api.CodeRuntimeInvalid, "%s is not a device", d.Source).About("instance " + spec.ID)
		}
		mode, uid, gid := fileMode(st.Mode), st.Uid, st.Gid
		devices = append(devices, specs.LinuxDevice{
			Path: first(d.Target, d.Source), Type: kind, FileMode: &mode, UID: &uid, GID: &gid,
			Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		})
	}
	return devices, nil
}
