package machine_test

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/store"
)

// TestRosterOfWhatCannotBeRead: one fact that cannot be read leaves what was there before in its place, and says so; the
// others are followed, and operations that need it are refused.
func TestRosterOfWhatCannotBeRead(t *testing.T) {
	c := three(t)
	was := c.roster(t, machine.Roster{})
	bad := was.Members[1]
	for _, key := range []store.Key{store.Machine(bad.ID), store.Cluster(), store.Token("x")} {
		c.overwrite(t, key, "{")
	}
	other := was.Members[2]
	other.Zone = "elsewhere"
	c.overwrite(t, store.Machine(other.ID), fmt.Sprintf(`{"id":%q,"name":%q,"zone":"elsewhere"}`, other.ID, other.Name))
	now := c.roster(t, was)
	if len(now.Members) != 3 || !slices.IsSortedFunc(now.Members, func(a, b machine.Member) int { return strings.Compare(a.ID, b.ID) }) {
		t.Fatalf("%+v", now.Members)
	}
	if got, _ := now.Self(bad.ID); got.Name != bad.Name || got.Overlay != bad.Overlay {
		t.Errorf("of %s is left: %+v", bad.Name, got)
	}
	if got, _ := now.Self(other.ID); got.Zone != "elsewhere" {
		t.Errorf("not followed: %+v", got)
	}
	if now.Cluster.ID != was.Cluster.ID {
		t.Errorf("of the cluster is left: %+v", now.Cluster)
	}
	for i, key := range []store.Key{store.Cluster(), store.Machine(bad.ID)} {
		if e := now.Unreadable[i]; e.Code != api.CodeStoreUnreadable || e.Subject != string(key) || !strings.Contains(e.Hint, "ployzctl store verify") {
			t.Errorf("told: %v", e)
		}
	}
	before := c.snapshot()
	if out := c.run(machine.NewSet(c.kit(), api.MachineSetRequest{Machine: other.Name, Zone: new(string)})); out.Outcome != api.Refused || out.Error.Code != api.CodeStoreUnreadable {
		t.Errorf("a write that needs it: %s %v", out.Outcome, out.Error)
	}
	if after := c.snapshot(); after != before {
		t.Errorf("refused, and it changed\n%s\nto\n%s", before, after)
	}
	if _, err := machine.ReadRoster(t.Context(), c.store.View(), "x", c.clock.Now(), machine.Roster{}); api.CodeOf(err) != api.CodeStoreUnreadable {
		t.Errorf("with nothing before it: %v", err)
	}
}

func (c *cluster) roster(t *testing.T, last machine.Roster) machine.Roster {
	t.Helper()
	r, err := machine.ReadRoster(t.Context(), c.store.View(), "x", c.clock.Now(), last)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (c *cluster) overwrite(t *testing.T, key store.Key, value string) {
	t.Helper()
	b := store.Batch{ID: "overwrite " + rand.Text(), Puts: []store.Put{{Key: key, Value: []byte(value)}}}
	if _, err := c.store.Facts().Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}
