package runc

import (
	"regexp"
	"strconv"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/units"
)

// runcLine is a line of runc's own log, which it writes where the instance's output goes.
var runcLine = regexp.MustCompile(`^time="[^"]*" level=(\w+) msg=("(?:[^"\\]|\\.)*")`)

// startFailed tells why an instance did not start: in runc's own words where it gave some, else
// in systemd's, with what else the unit wrote beside it.
func startFailed(id, why string, lines []string) error {
	var log []string
	for _, line := range lines {
		m := runcLine.FindStringSubmatch(line)
		if m == nil {
			log = append(log, line)
			continue
		}
		text, err := strconv.Unquote(m[2])
		if err == nil && m[1] == "error" { // its warnings are about cgroup files that tell nothing here
			why = text
		}
	}
	e := api.Errorf(api.CodeStartFailed, "%s", why).About("instance " + id)
	e.Log = log
	return e.WithHint("ployzctl logs, or: journalctl -u %s", units.WorkloadService(id))
}
