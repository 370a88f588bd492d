package services

import (
	"errors"
	"strings"
	"testing"

	"github.com/ployz/ployz/units"
)

var unit = units.Stamp("ployz-dns.service", "[Unit]\n[Service]\nExecStart=/bin/true\n")

// good is a unit that runs exactly as wanted.
func good() Seen {
	return Seen{Config: "c1", Observation: units.Observation{
		Name: unit.Name, File: true, Identity: unit.Identity, Intact: true, Enabled: true, Load: "loaded",
		Active: "active", Sub: "running", MainPID: 7, RunningIdentity: unit.Identity, Executable: "/usr/lib/ployz/ployz-dns",
	}}
}

func TestVerdict(t *testing.T) {
	for _, tc := range []struct {
		name   string
		bend   func(*Seen)
		err    error
		bare   bool // wants neither hand-over nor a configuration that reloads
		want   Act
		reason string
	}{
		{"as wanted", func(s *Seen) {}, nil, false, Adopt, ""},
		{"oneshot that remains", func(s *Seen) { s.MainPID, s.RunningIdentity = 0, "" }, nil, false, Adopt, ""},
		{"not at boot", func(s *Seen) { s.Enabled = false }, nil, false, Adopt, "boot"},
		{"drop-in", func(s *Seen) { s.DropIns = []string{"/etc/x.conf"} }, nil, false, Adopt, "/etc/x.conf"},
		{"nowhere", func(s *Seen) { *s = Seen{Observation: units.Observation{Load: "not-found", Active: "inactive"}} }, nil, false, Create, "not there"},
		{"stopped", func(s *Seen) { s.Active, s.MainPID = "inactive", 0 }, nil, false, Create, "not running"},
		{"stopped, old text", func(s *Seen) { s.Active, s.MainPID, s.Identity = "inactive", 0, "old" }, nil, false, Create, "not running"},
		{"failed", func(s *Seen) { s.Active, s.MainPID, s.Result = "failed", 0, "exit-code" }, nil, false, Create, "exit-code"},
		{"old text", func(s *Seen) { s.Identity = "old" }, nil, false, Recreate, "old"},
		{"edited by hand", func(s *Seen) { s.Intact = false }, nil, false, Recreate, "by hand"},
		{"new text, old process", func(s *Seen) { s.RunningIdentity = "older" }, nil, false, Recreate, "older"},
		{"new program", func(s *Seen) { s.ExecutableStale = true }, nil, false, Replace, "another program"},
		{"new program, no hand-over", func(s *Seen) { s.ExecutableStale = true }, nil, true, Recreate, "another program"},
		{"new program and text", func(s *Seen) { s.ExecutableStale, s.Identity = true, "old" }, nil, false, Recreate, "old"},
		{"new configuration", func(s *Seen) { s.Config = "c0" }, nil, false, Replace, "c0"},
		{"new configuration, no reload", func(s *Seen) { s.Config = "c0" }, nil, true, Recreate, "c0"},
		{"file deleted under it", func(s *Seen) { s.File, s.Identity, s.Intact = false, "", false }, nil, false, Recreate, "none"},
		{"configuration unknown", func(s *Seen) { s.Config = "" }, nil, false, Leave, "configuration"},
		{"bus away", func(s *Seen) { *s = Seen{} }, errors.New("bus away"), false, Leave, "bus away"},
		{"error beside an answer", func(s *Seen) { s.Identity = "old" }, errors.New("half"), false, Leave, "half"},
		{"masked", func(s *Seen) { s.Masked, s.Active = true, "inactive" }, nil, false, Leave, "unmask"},
		{"foreign", func(s *Seen) { s.Identity, s.Intact = "", false }, nil, false, Leave, "did not write"},
		{"foreign and stopped", func(s *Seen) { s.Identity, s.Active, s.MainPID = "", "inactive", 0 }, nil, false, Leave, "did not write"},
		{"stopping", func(s *Seen) { s.Active = "deactivating" }, nil, false, Leave, "deactivating"},
		{"in hand-over", func(s *Seen) { s.Active, s.ExecutableStale = "reloading", true }, nil, false, Leave, "reloading"},
		{"process unreadable", func(s *Seen) { s.RunningIdentity = "" }, nil, false, Leave, "could not be read"},
		{"crash loop", func(s *Seen) { s.Active, s.Sub, s.MainPID = "activating", "auto-restart", 0 }, nil, false, Leave, "auto-restart"},
		{"crash loop of an old text", func(s *Seen) { s.Active, s.Identity, s.MainPID = "activating", "old", 0 }, nil, false, Recreate, "old"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seen := good()
			tc.bend(&seen)
			w := Wanted{Unit: unit, Config: "c1", HandOver: !tc.bare, ReloadTakesConfig: !tc.bare}
			got := Verdict(w, seen, tc.err)
			if got.Act != tc.want || !strings.Contains(strings.Join(got.Reasons, "; "), tc.reason) {
				t.Fatalf("verdict %v, want %s because of %q", got, tc.want, tc.reason)
			}
		})
	}
}
