package compose

import (
	"path"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/ployz/ployz/node/api"
)

// Compose says that secrets are readable by all inside: images run as users of their own.
const defaultFileMode = 0o444

// mounts fills in secrets, configs, memory file systems and volumes, and sees that no two want one place.
func (m *mapper) mounts(at string, c types.ServiceConfig, s *api.Service) {
	for i, ref := range c.Secrets {
		here := item(at+".secrets", i)
		if _, ok := m.project.Secrets[ref.Source]; !ok {
			m.bad(here, "there is no secret %q", ref.Source).WithHint("declare it under secrets: at the top level")
			continue
		}
		f := m.file(here, types.FileReferenceConfig(ref), "/run/secrets/")
		f.Secret = ref.Source
		s.Files = append(s.Files, f)
	}
	for i, ref := range c.Configs {
		here := item(at+".configs", i)
		if _, ok := m.project.Configs[ref.Source]; !ok {
			m.bad(here, "there is no config %q", ref.Source).WithHint("declare it under configs: at the top level")
			continue
		}
		f := m.file(here, types.FileReferenceConfig(ref), "/")
		f.Config = ref.Source
		s.Files = append(s.Files, f)
	}
	s.Tmpfs = m.tmpfs(at, c)
	s.Mounts = m.volumeMounts(at, c)
	m.distinct(at, *s)
}

func item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// file places a secret or a config; folder is for targets that are only a name.
func (m *mapper) file(at string, ref types.FileReferenceConfig, folder string) api.File {
	target := ref.Target
	if target == "" {
		target = ref.Source
	}
	if !path.IsAbs(target) {
		target = folder + target
	}
	f := api.File{Target: path.Clean(target), UID: m.id(at+".uid", ref.UID), GID: m.id(at+".gid", ref.GID), Mode: defaultFileMode}
	if ref.Mode != nil {
		f.Mode = m.mode(at+".mode", int64(*ref.Mode))
	}
	return f
}

func (m *mapper) id(at, text string) int {
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		m.bad(at, "%q is not a number", text).WithHint("names are known only inside the image: give the number")
	}
	return int(n)
}

func (m *mapper) mode(at string, mode int64) uint32 {
	if mode < 1 || mode > 0o1777 {
		m.bad(at, "%#o are no permissions", mode).WithHint("octal digits with a 0 in front, such as 0440: without it YAML takes them for a decimal number")
		return 0
	}
	return uint32(mode)
}

func (m *mapper) tmpfs(at string, c types.ServiceConfig) (all []api.Tmpfs) {
	for i, text := range c.Tmpfs {
		all = append(all, m.shortTmpfs(item(at+".tmpfs", i), text))
	}
	for i, v := range c.Volumes {
		here := item(at+".volumes", i)
		if v.Type != types.VolumeTypeTmpfs {
			continue
		}
		if v.ReadOnly {
			m.refuse(here+".read_only", "true", "an empty read-only folder is of no use", "take read_only away")
		}
		t := api.Tmpfs{Target: v.Target}
		if v.Tmpfs != nil {
			t.SizeBytes, t.Mode = int64(v.Tmpfs.Size), v.Tmpfs.Mode
			if t.Mode != 0 {
				t.Mode = m.mode(here+".tmpfs.mode", int64(t.Mode))
			}
		}
		all = append(all, t)
	}
	if c.ShmSize != 0 {
		all = append(all, api.Tmpfs{Target: "/dev/shm", SizeBytes: int64(c.ShmSize), Mode: 0o1777})
	}
	for i, t := range all {
		if t.SizeBytes < 0 {
			m.bad(item(at+".tmpfs", i), "the size of %s is negative", t.Target).WithHint("such as size=64m")
		}
	}
	return all
}

// shortTmpfs reads TARGET[:OPTION,...].
func (m *mapper) shortTmpfs(at, text string) api.Tmpfs {
	target, options, _ := strings.Cut(text, ":")
	t := api.Tmpfs{Target: target}
	for _, option := range strings.FieldsFunc(options, func(r rune) bool { return r == ',' }) {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "rw", "nosuid", "nodev": // so it is anyway
		case "size":
			var size types.UnitBytes
			if err := size.DecodeMapstructure(value); err != nil {
				m.bad(at, "%q is no size", value).WithHint("such as size=64m")
			}
			t.SizeBytes = int64(size)
		case "mode":
			mode, err := strconv.ParseInt(value, 8, 32)
			if err != nil {
				mode = -1
			}
			t.Mode = m.mode(at, mode)
		default:
			m.refuse(at, option, "only size= and mode= can be chosen", "take the option away")
		}
	}
	return t
}

// distinct refuses places that are none, and two things in one place.
func (m *mapper) distinct(at string, s api.Service) {
	taken := map[string]bool{}
	claim := func(here, target string) {
		switch {
		case !path.IsAbs(target) || path.Clean(target) != target || target == "/":
			m.bad(here, "%q is not a place for a mount", target).WithHint("an absolute path without . and .., and not / itself")
		case taken[target]:
			m.bad(here, "something else is mounted at %s already", target).WithHint("give one of them another target")
		}
		taken[target] = true
	}
	for _, f := range s.Files {
		key := ".configs"
		if f.Secret != "" {
			key = ".secrets"
		}
		claim(at+key, f.Target)
	}
	for _, t := range s.Tmpfs {
		claim(at+".tmpfs", t.Target)
	}
	for _, v := range s.Mounts {
		claim(at+".volumes", v.Target)
	}
}
