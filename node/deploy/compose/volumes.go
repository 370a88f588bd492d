package compose

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/ployz/ployz/node/api"
)

// shortMount refuses the options of NAME:TARGET:OPTION,... that compose-go passes over in silence.
func (l *loader) shortMount(at place, path, text string) {
	parts := strings.SplitN(l.filled(text), ":", 3)
	if len(parts) < 3 || strings.ContainsAny(parts[0], "/.~") { // a folder, which is refused as a whole
		return
	}
	for option := range strings.SplitSeq(parts[2], ",") {
		if !slices.Contains([]string{"ro", "rw", "nocopy"}, option) {
			l.add(at, path, Key{Note: "only ro and rw can be chosen", Instead: "take the option away"}.refusal(strconv.Quote(option)))
		}
	}
}

// volumeMounts are the named volumes that a service mounts.
func (m *mapper) volumeMounts(at string, c types.ServiceConfig) (all []api.Mount) {
	for i, v := range c.Volumes {
		here := item(at+".volumes", i)
		_, declared := m.project.Volumes[v.Source]
		switch {
		case v.Type == types.VolumeTypeTmpfs:
		case v.Type == types.VolumeTypeImage:
			m.refuse(here, v.Type+" "+v.Source, "images are not mounted", "put the files into the service's own image")
		case v.Type != types.VolumeTypeVolume:
			m.refuse(here, v.Type+" "+v.Source+":"+v.Target, noBind, noVolumes)
		case v.Source == "":
			m.refuse(here, v.Target, "a volume without a name could not be found again", "NAME:"+v.Target+", and NAME under volumes: at the top level; or tmpfs, for scratch space")
		case !declared:
			m.bad(here, "there is no volume %q", v.Source).WithHint("declare it under volumes: at the top level")
		default:
			all = append(all, api.Mount{Volume: v.Source, Target: path.Clean(v.Target), ReadOnly: v.ReadOnly})
		}
	}
	return all
}

// volumeName has no dot, which stands between a volume's name and its slot's.
var volumeName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_-]{0,46}[a-zA-Z0-9])?$`)

// volumes fills in what is declared at the top level.
func (m *mapper) volumes() {
	mounted := map[string]bool{}
	for _, s := range m.spec.Services {
		for _, v := range s.Mounts {
			mounted[v.Volume] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.project.Volumes)) {
		at, c := "volumes."+name, m.project.Volumes[name]
		if !volumeName.MatchString(name) {
			m.problem(at, api.Errorf(api.CodeComposeName, "%q cannot be a volume's name", name).
				WithHint("letters, digits, - and _ between them, at most 48"))
		}
		if !mounted[name] {
			m.note(at, "no active service mounts the volume: one that is there stays, and none is made")
		}
		if c.Driver != "" && c.Driver != "local" {
			m.refuse(at+".driver", c.Driver, "each machine keeps volumes in its own pool", "driver: local, or nothing")
		}
		m.spec.Volumes[name] = m.volume(at+".x-ployz", c.Extensions["x-ployz"])
	}
	if len(m.spec.Volumes) == 0 {
		m.spec.Volumes = nil
	}
}

// volume reads what Compose cannot say of a volume.
func (m *mapper) volume(at string, raw any) api.Volume {
	x := m.object(at, raw)
	v := api.Volume{
		SizeBytes: m.size(at+".size", x["size"]), Owner: m.owner(at+".owner", x["owner"]),
		Mode: m.folderMode(at+".mode", x["mode"]), Scope: m.text(at+".scope", x["scope"]),
	}
	if !slices.Contains([]string{"", api.ScopeNamespace, api.ScopeSlot}, v.Scope) {
		m.bad(at+".scope", "%q is no scope", v.Scope).WithHint("namespace, for one that all share, or slot, for one for each instance")
	}
	return v
}

// leastVolume is the least size: a file system's own needs are a good part of less.
const leastVolume = 1 << 20

func (m *mapper) size(at string, v any) int64 {
	if v == nil {
		return 0
	}
	var size types.UnitBytes
	if err := size.DecodeMapstructure(m.text(at, v)); err != nil || size < leastVolume {
		m.bad(at, "%v is no size of a volume", v).WithHint("such as 500m or 10g, at least 1m; leave it out for no limit")
	}
	return int64(size)
}

// owner reads UID or UID:GID.
func (m *mapper) owner(at string, v any) *api.Owner {
	if v == nil {
		return nil
	}
	user, group, both := strings.Cut(m.text(at, v), ":")
	if !both {
		group = user
	}
	o := &api.Owner{UID: m.id(at, user), GID: m.id(at, group)}
	if user == "" || group == "" {
		m.bad(at, "%v is no owner", v).WithHint("UID or UID:GID, by number")
	}
	return o
}

// folderMode reads permissions: a number that YAML has read as octal, or octal digits as text.
func (m *mapper) folderMode(at string, v any) uint32 {
	if v == nil {
		return 0
	}
	mode, err := strconv.ParseInt(m.text(at, v), 8, 32)
	if n, number := v.(int); number {
		mode, err = int64(n), nil
	}
	if err != nil || mode < 1 || mode > 0o3777 {
		m.bad(at, "%v are no permissions of a folder", v).WithHint("octal digits with a 0 in front, such as 0750")
		return 0
	}
	return uint32(mode)
}
