package compose

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/ployz/ployz/node/api"
)

func (m *mapper) security(at string, c types.ServiceConfig) api.Security {
	s := api.Security{CapAdd: c.CapAdd, CapDrop: c.CapDrop, ReadOnly: c.ReadOnly, Sysctls: c.Sysctls, Init: c.Init != nil && *c.Init}
	for i, option := range c.SecurityOpt {
		m.securityOption(item(at+".security_opt", i), option, &s)
	}
	for i, d := range c.Devices {
		m.device(item(at+".devices", i), d, &s)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Ulimits)) {
		m.ulimit(at+".ulimits."+name, name, c.Ulimits[name], &s)
	}
	return s
}

func (m *mapper) securityOption(at, option string, s *api.Security) {
	name, value, _ := strings.Cut(strings.Replace(option, ":", "=", 1), "=")
	switch {
	case name == "no-new-privileges" && (value == "" || value == "true"):
		s.NewPrivileges = false
	case name == "no-new-privileges" && value == "false":
		s.NewPrivileges = true
	case name == "seccomp" && value == "unconfined":
		s.SeccompUnconfined = true
	default:
		m.refuse(at, option, "only no-new-privileges and seccomp=unconfined can be chosen", "take the option away: Docker's seccomp profile is used")
	}
}

func (m *mapper) device(at string, d types.DeviceMapping, s *api.Security) {
	device := api.Device{Source: d.Source, Target: d.Target, Permissions: d.Permissions}
	if device.Target == "" {
		device.Target = d.Source
	}
	switch {
	case !path.IsAbs(device.Source) || !path.IsAbs(device.Target):
		m.refuse(at, d.Source, "only devices with a file can be passed in", "/dev/NAME[:/dev/NAME[:rwm]]")
	case strings.Trim(d.Permissions, "rwm") != "":
		m.bad(at, "%q are no permissions of a device", d.Permissions).WithHint("letters out of rwm")
	default:
		s.Devices = append(s.Devices, device)
	}
}

func (m *mapper) ulimit(at, name string, u *types.UlimitsConfig, s *api.Security) {
	if u == nil {
		m.bad(at, "has no value").WithHint("a number, or soft and hard")
		return
	}
	limit := api.Ulimit{Soft: int64(u.Soft), Hard: int64(u.Hard)}
	if u.Single != 0 {
		limit = api.Ulimit{Soft: int64(u.Single), Hard: int64(u.Single)}
	}
	if limit.Soft < -1 || limit.Hard < -1 || limit.Hard >= 0 && (limit.Soft > limit.Hard || limit.Soft == -1) {
		m.bad(at, "the soft limit %d and the hard limit %d do not fit", limit.Soft, limit.Hard).WithHint("soft is at most hard; -1 is unlimited")
	}
	if s.Ulimits == nil {
		s.Ulimits = map[string]api.Ulimit{}
	}
	s.Ulimits[name] = limit
}
