package machine_test

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// TestSeatsWaitForNewcomers: a machine that was admitted and does not obey yet gets no seat, and the store's voters
// are not touched; once it does, it votes.
func TestSeatsWaitForNewcomers(t *testing.T) {
	c := found(t)
	c.admit(t, 3)
	joining := c.members(t)[1]
	c.fleet.absent[joining.ID] = true
	before := c.snapshot()
	for _, op := range []operation.Operation{
		machine.NewVoters(c.kit(), api.VotersRequest{}),
		machine.NewVoters(c.kit(), api.VotersRequest{Count: 2}),
	} {
		out := c.run(op)
		if out.Outcome != api.Refused || out.Error.Code != api.CodeParticipantAbsent || out.Error.Subject != joining.Name || !out.Error.Retryable {
			t.Errorf("got %s: %v", out.Outcome, out.Error)
		}
	}
	if after := c.snapshot(); after != before {
		t.Errorf("it changed\n%s\nto\n%s", before, after)
	}
	delete(c.fleet.absent, joining.ID)
	must(t, c.run(machine.NewVoters(c.kit(), api.VotersRequest{})))
	c.admit(t, 4)
	c.fleet.absent[c.members(t)[3].ID] = true
	out := c.run(machine.NewRemove(c.kit(), api.MachineRemoveRequest{Machine: "m2"}))
	if out.Outcome != api.Refused || out.Error.Code != api.CodeParticipantAbsent || out.Error.Subject != "m4" {
		t.Errorf("a removal whose seat nobody takes: %s %v", out.Outcome, out.Error)
	}
}

// TestSeatsOfAnInterrupted: whoever comes after a change of voters that did not commit takes back the seats that it
// gave, and gives back those that it took.
func TestSeatsOfAnInterrupted(t *testing.T) {
	for _, c := range []struct {
		had, cut, next int
		want           string
	}{{1, 3, 1, "m1"}, {3, 1, 3, "m1 m2 m3"}, {3, 1, 2, "m1 m2"}} {
		w := found(t)
		w.admit(t, 3)
		voters := func(n int) api.Outcome { return w.run(machine.NewVoters(w.kit(), api.VotersRequest{Count: n})) }
		must(t, voters(c.had))
		w.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
			if strings.HasSuffix(b.ID, "-commit") {
				return memstore.ReplyLost()
			}
			return nil
		}})
		if out := voters(c.cut); out.Outcome != api.Uncertain {
			t.Fatalf("it ended %s", out.Outcome)
		}
		w.store.SetHooks(memstore.Hooks{})
		w.clock.Advance(coordination.TTL)
		must(t, voters(c.next))
		if got := strings.Join(w.seats.voting, " "); got != c.want {
			t.Errorf("from %d, cut short on the way to %d, then %d: %s vote", c.had, c.cut, c.next, got)
		}
	}
}

// TestVotersAreSet: once the store has its voters, a plan changes nothing, in whichever order the facts list the
// machines. A seat that was given and not committed is not yet there.
func TestVotersAreSet(t *testing.T) {
	for range 10 { // ids are drawn anew each time
		c := found(t)
		c.admit(t, 5)
		wantChange := func(when, to string) {
			t.Helper()
			plan, err := c.runner().Preview(t.Context(), machine.NewVoters(c.kit(), api.VotersRequest{}), "root")
			if err != nil {
				t.Fatal(err)
			}
			if got := len(plan.Changes); got > 1 || got == 1 != (to != "") || got == 1 && plan.Changes[0].To != to {
				t.Fatalf("%s: %+v, and %q was to come", when, plan.Changes, to)
			}
		}
		wantChange("before", "m1 m2 m3")
		c.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
			if strings.HasSuffix(b.ID, "-commit") {
				return memstore.ReplyLost()
			}
			return nil
		}})
		if out := c.run(machine.NewVoters(c.kit(), api.VotersRequest{})); out.Outcome != api.Uncertain || len(c.seats.voting) != 3 {
			t.Fatalf("it ended %s, and %v vote", out.Outcome, c.seats.voting)
		}
		c.store.SetHooks(memstore.Hooks{})
		wantChange("with seats and no commit", "m1 m2 m3")
		c.clock.Advance(coordination.TTL)
		must(t, c.run(machine.NewVoters(c.kit(), api.VotersRequest{})))
		wantChange("after", "")
	}
}
