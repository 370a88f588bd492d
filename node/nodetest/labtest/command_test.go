package labtest_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/nodetest/labtest"
)

// ctl runs `ployzctl dev` with arguments that must be right, and returns what it prints.
func ctl(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := dev.Command()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("dev %s: %v\n%s", strings.Join(args, " "), err, out.String())
	}
	return out.String()
}

// counted is how a fault tells what it dropped.
var counted = regexp.MustCompile(` \(\d+ packets dropped\)`)

func commandsShowWhatIs(t *testing.T, lab *labtest.Lab) {
	for _, c := range []struct{ args, want string }{
		{"partition LAB m1,m2 m3", "LAB: partition m1,m2 m3\n"},
		{"partition LAB m1 m2 --one-way", "LAB: partition m1,m2 m3\nLAB: partition m1 m2 --one-way\n"},
		{"heal LAB", ""},
		{"block LAB/m1 udp --only to", "LAB: block m1 udp --only to\n"},
		{"cut LAB/m3", ""},
		{"boot LAB/m3", ""},
		{"readdress LAB/m3 10.90.0.3", ""},
	} {
		args := strings.Fields(strings.ReplaceAll(c.args, "LAB", lab.Name))
		// The kernels of the machines may have something to say to each other at any time.
		if got := counted.ReplaceAllString(ctl(t, args...), ""); got != strings.ReplaceAll(c.want, "LAB", lab.Name) {
			t.Errorf("dev %s printed:\n%s", c.args, got)
		}
	}
	lab.Listen("m3")
	if got := ctl(t, "ls", lab.Name); !strings.Contains(got, lab.Name+": block m1 udp --only to") {
		t.Errorf("ls shows no fault:\n%s", got)
	}
	var shown struct{ Faults []dev.Fault }
	for _, args := range [][]string{{"heal", lab.Name, "--json"}, {"block", lab.Name + "/m1", "udp", "--json"}, {"ls", lab.Name, "--json"}} {
		if err := json.Unmarshal([]byte(ctl(t, args...)), &shown); err != nil {
			t.Errorf("dev %v: %v", args, err)
		}
	}
	if len(shown.Faults) != 1 || shown.Faults[0].Text != "block m1 udp" {
		t.Errorf("ls --json shows %+v", shown)
	}
}
