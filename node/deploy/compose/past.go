package compose

import (
	"slices"
	"strconv"

	"github.com/ployz/ployz/node/api"
)

// quiesce reads how a service holds still while its volumes are snapshot.
func (m *mapper) quiesce(at string, x map[string]any) *api.Quiesce {
	q := &api.Quiesce{Mode: m.text(at+".mode", x["mode"]), Timeout: m.length(at+".timeout", x["timeout"])}
	if !slices.Contains([]string{"", api.QuiesceFreeze, api.QuiesceStop, api.QuiesceNone}, q.Mode) {
		m.bad(at+".mode", "%q is no way to hold still", q.Mode).WithHint("freeze, stop or none")
	}
	for _, c := range []struct {
		key     string
		command *[]string
	}{{"before", &q.Before}, {"after", &q.After}} {
		if v, ok := x[c.key]; ok {
			*c.command = m.command(at+"."+c.key, v)
		}
	}
	return q
}

// finishQuiesce refuses a quiesce that could not come to anything.
func (m *mapper) finishQuiesce(at string, s api.Service) {
	at += ".x-ployz.quiesce"
	switch {
	case s.Quiesce == nil:
	case s.Job != nil:
		m.bad(at, "a job has ended when volumes are snapshot").WithHint("take it away, or the job")
	case !slices.ContainsFunc(s.Mounts, func(v api.Mount) bool { return !v.ReadOnly }):
		m.bad(at, "the service writes no volume").WithHint("take it away, or mount a volume to write")
	case s.Quiesce.Mode == api.QuiesceStop && len(s.Quiesce.Before)+len(s.Quiesce.After) > 0:
		m.bad(at, "before and after run inside what runs, and mode stop stops it").WithHint("take the commands away, or use mode: freeze")
	}
}

// retention reads what the namespace keeps of its past.
func (m *mapper) retention() {
	x := m.object("x-ployz", m.project.Extensions["x-ployz"])
	raw, ok := x["retention"]
	if !ok {
		return
	}
	at := "x-ployz.retention"
	o := m.object(at, raw)
	r := &api.Retention{Volumes: m.length(at+".volumes", o["volumes"])}
	if v, ok := o["commits"]; ok {
		n, err := strconv.Atoi(m.text(at+".commits", v))
		if err != nil || n < 1 {
			m.bad(at+".commits", "%v is no number of commits", v).WithHint("1 or more; 1 keeps the data of the present commit only")
		}
		r.Commits = n
	}
	m.spec.Retention = r
}
