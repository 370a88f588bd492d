package machine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
)

func (c *cluster) relay(of, by string) api.Outcome {
	return c.run(machine.NewSet(c.kit(), api.MachineSetRequest{Machine: of, Relay: &by}))
}

// ways are a machine's peers, with the numbers of the machines that lie behind each.
func ways(members []machine.Member, self machine.Member) string {
	var list []string
	for _, p := range machine.Peers(members, self) {
		behind := ""
		for _, a := range p.Allowed {
			if a.Addr().Is4() {
				behind += fmt.Sprint(a.Addr().As4()[2])
			}
		}
		list = append(list, p.Machine+":"+behind)
	}
	return strings.Join(list, " ")
}

func TestRelay(t *testing.T) {
	c := found(t)
	c.admit(t, 5)
	must(t, c.relay("m3", "m1"))
	must(t, c.relay("m4", "m2"))
	members := c.members(t)
	for i, want := range []string{
		"m2:24 m3:3 m5:5", // m1 relays for m3, and reaches m4 by m2
		"m1:13 m4:4 m5:5",
		"m1:1245", // m3 has only its relay
		"m2:2135",
		"m1:13 m2:24",
	} {
		if got := ways(members, members[i]); sorted(got) != sorted(want) {
			t.Errorf("m%d has %s, want %s", i+1, got, want)
		}
	}
	for _, m := range members {
		if c.fleet.followed[m.ID] == 0 {
			t.Errorf("%s was not waited for", m.Name)
		}
	}
	must(t, c.relay("m3", ""))
	members = c.members(t)
	if got := ways(members, members[4]); sorted(got) != sorted("m1:1 m2:24 m3:3") {
		t.Errorf("without a relay for m3: %s", got)
	}
}

// sorted orders the peers, and what lies behind each.
func sorted(ways string) string {
	list := strings.Fields(ways)
	for i, way := range list {
		peer, behind, _ := strings.Cut(way, ":")
		letters := strings.Split(behind, "")
		slices.Sort(letters)
		list[i] = peer + ":" + strings.Join(letters, "")
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestRelayIsRefused(t *testing.T) {
	c := found(t)
	c.admit(t, 4)
	must(t, c.relay("m3", "m1"))
	before := c.snapshot()
	for name, tc := range map[string]struct {
		of, by string
		code   api.Code
		hint   string
	}{
		"by nobody":           {"m2", "m9", api.CodeMachineAbsent, "machine ls"},
		"by itself":           {"m2", "m2", api.CodeMachineRelay, "machine rtt"},
		"by one with a relay": {"m2", "m3", api.CodeMachineRelay, `machine set m3 --relay ""`},
		"of a relay":          {"m1", "m2", api.CodeMachineRelay, `machine set m3 --relay ""`},
	} {
		out := c.relay(tc.of, tc.by)
		if out.Outcome != api.Refused || out.Error.Code != tc.code || !strings.Contains(out.Error.Hint, tc.hint) {
			t.Errorf("%s: ended %s: %v", name, out.Outcome, out.Error)
		}
	}
	for _, lost := range []bool{false, true} {
		kit := c.kit()
		kit.Machine = "m2"
		out := c.run(machine.NewRemove(kit, api.MachineRemoveRequest{Machine: "m1", Lost: lost}))
		if out.Outcome != api.Refused || out.Error.Code != api.CodeMachineRelay || !strings.Contains(out.Error.Hint, "machine set m3") {
			t.Errorf("the relay's removal ended %s: %v", out.Outcome, out.Error)
		}
	}
	if after := c.snapshot(); after != before {
		t.Errorf("it changed something:\n%s\n%s", before, after)
	}
}
