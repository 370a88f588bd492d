package deploy

import (
	"fmt"
	"path"
	"regexp"
	"slices"

	"github.com/ployz/ployz/node/api"
)

// volumeShape has no dot, which stands between a volume's name and its slot's.
var volumeShape = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_-]{0,46}[a-zA-Z0-9])?$`)

func (c *checker) volume(name string, v api.Volume) {
	at := "volumes." + name
	if !volumeShape.MatchString(name) {
		c.bad(at, "%q cannot be a volume's name: letters, digits, - and _ between them, at most 48", name)
		return
	}
	c.oneOf(at+".scope", v.Scope, "", api.ScopeNamespace, api.ScopeSlot)
	if v.Mode > 0o7777 {
		c.bad(at+".mode", "%#o are no permissions", v.Mode)
		return
	}
	spec := storageSpec("ns", name, v)
	spec.ID = "any"
	if err := spec.Check(); err != nil {
		c.bad(at, "%s", api.AsError(err).Message)
	}
}

func (c *checker) retention(r *api.Retention) {
	if r == nil {
		return
	}
	if r.Commits < 0 || r.Commits > api.MaxKeepCommits {
		c.bad("retention.commits", "%d is not between 1 and %d; 0 means %d", r.Commits, api.MaxKeepCommits, api.DefaultKeepCommits)
	}
	if r.Volumes < 0 {
		c.bad("retention.volumes", "%s is less than no time", r.Volumes)
	}
}

// mounts refuses volumes that nobody declared, places that are none or are taken, and two writers at once.
func (c *checker) mounts(at string, s api.Service) {
	taken := map[string]bool{}
	for _, f := range s.Files {
		taken[f.Target] = true
	}
	for _, t := range s.Tmpfs {
		taken[t.Target] = true
	}
	writer := ""
	for i, m := range s.Mounts {
		place := fmt.Sprintf("%s.mounts[%d]", at, i)
		if _, known := c.spec.Volumes[m.Volume]; !known {
			c.bad(place+".volume", "the spec has no volume %q", m.Volume)
		}
		switch {
		case !path.IsAbs(m.Target) || path.Clean(m.Target) != m.Target || m.Target == "/":
			c.bad(place+".target", "%q is not an absolute path without . and ..", m.Target)
		case taken[m.Target]:
			c.bad(place+".target", "something else is mounted at %s", m.Target)
		}
		taken[m.Target] = true
		if !m.ReadOnly {
			writer = m.Volume
		}
	}
	if writer != "" && s.Update.Order == "start-first" {
		c.bad(at+".update.order", "start-first would have the old and the new write the volume %s at once: leave it out, for stop-first", writer)
	}
}

// quiesce refuses what could not come to anything.
func (c *checker) quiesce(at string, s api.Service) {
	q := s.Quiesce
	if q == nil {
		return
	}
	c.oneOf(at+".mode", q.Mode, "", api.QuiesceFreeze, api.QuiesceStop, api.QuiesceNone)
	switch {
	case s.Job != nil:
		c.bad(at, "a job has ended when volumes are snapshot")
	case !slices.ContainsFunc(s.Mounts, func(m api.Mount) bool { return !m.ReadOnly }):
		c.bad(at, "the service writes no volume")
	case q.Mode == api.QuiesceStop && len(q.Before)+len(q.After) > 0:
		c.bad(at, "before and after run inside what runs, and mode stop stops it: take them away, or use freeze")
	case q.Timeout < 0:
		c.bad(at+".timeout", "%s is no time", q.Timeout)
	}
}
