package machine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// newer is the package that the machines of a test are updated to; they run 0.4.1.
var newer = api.Package{Digest: "newer", Version: "0.5.0", Architecture: "amd64", Bytes: 7}

// shelves are all machines' packages, in memory.
type shelves struct {
	runs    map[string]string // versions, by the machine's name
	holds   map[string][]string
	began   []string // who was updated, in order
	silent  map[string]bool
	broken  map[string]bool // their dpkg fails
	behind  []*api.Error
	arch    map[string]string
	foreign map[string]bool // not installed by dpkg
}

func newShelves() *shelves {
	return &shelves{
		runs: map[string]string{}, holds: map[string][]string{"m1": {newer.Digest}}, silent: map[string]bool{}, broken: map[string]bool{},
		arch: map[string]string{}, foreign: map[string]bool{},
	}
}

func (s *shelves) version(name string) string {
	if v := s.runs[name]; v != "" {
		return v
	}
	return "0.4.1"
}

func (s *shelves) Held(_ context.Context, digest string) (api.Package, error) {
	if digest != newer.Digest {
		return api.Package{}, api.Errorf(api.CodePackageAbsent, "not here").About(digest)
	}
	return newer, nil
}

func (s *shelves) Observe(_ context.Context, m machine.Member) (api.MachineVersion, error) {
	if s.silent[m.Name] {
		return api.MachineVersion{}, api.Errorf(api.CodeParticipantAbsent, "nobody there").About(m.ID)
	}
	v := api.MachineVersion{Version: s.version(m.Name), Installed: s.version(m.Name), Architecture: "amd64", Adopted: true, Holds: s.holds[m.Name]}
	if arch := s.arch[m.Name]; arch != "" {
		v.Architecture = arch
	}
	if s.foreign[m.Name] {
		v.Installed = ""
	}
	return v, nil
}

func (s *shelves) Copy(_ context.Context, _ *operation.Act, m machine.Member, p api.Package) error {
	if !slices.Contains(s.holds[m.Name], p.Digest) {
		s.holds[m.Name] = append(s.holds[m.Name], p.Digest)
	}
	return nil
}

func (s *shelves) Drop(_ context.Context, _ *operation.Act, m machine.Member, p api.Package) error {
	s.holds[m.Name] = slices.DeleteFunc(s.holds[m.Name], func(d string) bool { return d == p.Digest })
	return nil
}

func (s *shelves) Install(_ context.Context, _ *operation.Act, m machine.Member, p api.Package) error {
	if !slices.Contains(s.holds[m.Name], p.Digest) {
		return errors.New("it does not hold the package")
	}
	s.began = append(s.began, m.Name)
	if !s.broken[m.Name] {
		s.runs[m.Name] = p.Version
	}
	return nil
}

func (s *shelves) Await(_ context.Context, m machine.Member, p api.Package) error {
	if s.version(m.Name) != p.Version {
		return api.Errorf(api.CodePackageFailed, "dpkg could not install it").About(m.Name)
	}
	return nil
}

func (s *shelves) Ready(context.Context) ([]*api.Error, error) { return s.behind, nil }

func (s *shelves) picture() string {
	var lines []string
	for name, version := range s.runs {
		lines = append(lines, name+" runs "+version)
	}
	for name, holds := range s.holds {
		if len(holds) > 0 {
			lines = append(lines, fmt.Sprint(name, " holds ", holds))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// five are five machines of which m1, m2 and m3 vote.
func five(t *testing.T) *cluster {
	t.Helper()
	c := found(t)
	c.admit(t, 5)
	must(t, c.run(machine.NewVoters(c.kit(), api.VotersRequest{})))
	return c
}

func (c *cluster) update(digest string, machines ...string) api.Outcome {
	return c.run(machine.NewUpdate(c.kit(), api.MachineUpdateRequest{Digest: digest, Machines: machines}))
}

func TestUpdateIsOneMachineAtATime(t *testing.T) {
	c := five(t)
	out := c.update(newer.Digest)
	must(t, out)
	if got := strings.Join(c.shelves.began, " "); got != "m4 m5 m2 m3 m1" {
		t.Errorf("in the order %s", got)
	}
	if !strings.Contains(string(out.Value), `"detached":"m1"`) || !strings.Contains(string(out.Value), `"updated":["m4","m5","m2","m3"]`) {
		t.Errorf("the result: %s", out.Value)
	}
	c.shelves.began = nil
	must(t, c.update("")) // there is nothing left to do
	if len(c.shelves.began) > 0 {
		t.Errorf("updated again: %v", c.shelves.began)
	}
}

func TestUpdateStopsAtTheFirstFailure(t *testing.T) {
	c := five(t)
	c.shelves.broken["m5"] = true
	out := c.update(newer.Digest)
	if out.Outcome != api.CommittedLeftovers || strings.Join(c.shelves.began, " ") != "m4 m5" {
		t.Fatalf("ended %s after %v", out.Outcome, c.shelves.began)
	}
	var left []string
	for _, l := range out.Leftovers {
		left = append(left, l.Subject+": "+l.Problem)
		if l.Clear != "ployzctl machine update" {
			t.Errorf("%s is cleared by %q", l.Subject, l.Clear)
		}
	}
	text := strings.Join(left, "\n")
	for _, want := range []string{
		"update m5: m5: dpkg could not install it (package.install-failed)", "update m2: m2: not begun, since the update of m5 failed (machine.update-not-begun)", "update m3:", "update m1:",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	c.shelves.broken["m5"], c.shelves.began = false, nil
	must(t, c.update(""))
	if got := strings.Join(c.shelves.began, " "); got != "m5 m2 m3 m1" {
		t.Errorf("it went on with %s", got)
	}
}

func TestUpdateIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		bend     func(*cluster)
		digest   string
		machines []string
		code     api.Code
		word     string
	}{
		"a package that is not here":    {func(*cluster) {}, "other", nil, api.CodePackageAbsent, "not here"},
		"going on with nothing":         {func(*cluster) {}, "", nil, api.CodePackageAbsent, "no machine was ever updated"},
		"a machine that is none":        {func(*cluster) {}, newer.Digest, []string{"m9"}, api.CodeMachineAbsent, "m9"},
		"a machine that is silent":      {func(c *cluster) { c.shelves.silent["m3"] = true }, newer.Digest, nil, api.CodeParticipantAbsent, "m3"},
		"another architecture":          {func(c *cluster) { c.shelves.arch["m3"] = "arm64" }, newer.Digest, nil, api.CodePackageUnfit, "it is arm64"},
		"a machine without dpkg":        {func(c *cluster) { c.shelves.foreign["m3"] = true }, newer.Digest, nil, api.CodePackageUnfit, "dpkg"},
		"two minor versions at once":    {func(c *cluster) { c.shelves.runs["m3"] = "0.3.9" }, newer.Digest, nil, api.CodeMachineVersion, "0.3.9"},
		"two apart from one that stays": {func(c *cluster) { c.shelves.runs["m3"] = "0.3.9" }, newer.Digest, []string{"m2"}, api.CodeMachineVersion, "0.3.9"},
		"a voter that is behind": {func(c *cluster) {
			c.shelves.behind = []*api.Error{api.Errorf(api.CodeStoreNoQuorum, "its copy of the store is 7 behind").About("m3")}
		}, newer.Digest, nil, api.CodeStoreNoQuorum, "7 behind"},
	} {
		t.Run(name, func(t *testing.T) {
			c := five(t)
			tc.bend(c)
			before := c.snapshot()
			out := c.update(tc.digest, tc.machines...)
			if out.Outcome != api.Refused || out.Error.Code != tc.code || !strings.Contains(out.Error.Error(), tc.word) {
				t.Errorf("ended %s: %v", out.Outcome, out.Error)
			}
			if after := c.snapshot(); after != before {
				t.Errorf("it changed something:\n%s\n%s", before, after)
			}
		})
	}
}

func TestOneThatIsSilentIsNotInTheWayOfOthers(t *testing.T) {
	c := five(t)
	c.shelves.silent["m4"] = true
	must(t, c.update(newer.Digest, "m5"))
	if got := strings.Join(c.shelves.began, " "); got != "m5" {
		t.Errorf("updated: %s", got)
	}
	fact, err := c.store.Facts().Get(t.Context(), store.Update())
	if err != nil || !strings.Contains(string(fact.Value), `"machines":["m5"]`) {
		t.Errorf("the fact: %s, %v", fact.Value, err)
	}
}
