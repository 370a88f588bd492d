package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// TestJoinTakesNoStaleFolder tries every folder that a joining core must not run on.
func TestJoinTakesNoStaleFolder(t *testing.T) {
	m := natslab.New(t)
	verb := func(verb string) (int, string) {
		code, _, errs := ployzNats(t, verb, "--config", filepath.Join(m.Dir, "core.conf"), "--route-secret", filepath.Join(m.Dir, "route.secret"))
		return code, errs
	}
	refused := func(what, v, want string) {
		t.Helper()
		if code, errs := verb(v); code != 3 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit status %d, %q; want 3 and %q", what, code, errs, want)
		}
	}
	refused("no folder", "core", "neither founded nor joined")
	refused("no other voter", "join", "nobody to join")
	m.CoreConfig.Voters = append(m.CoreConfig.Voters, netip.MustParseAddrPort("127.0.0.1:1"))
	m.Render()
	for range 2 {
		if code, errs := verb("join"); code != 0 {
			t.Fatalf("join: %d, %q", code, errs)
		}
	}
	refused("founding what was joined", "found", "in another way")
	m.CoreConfig.Name = "m1-2"
	m.Render()
	refused("another incarnation joins", "join", "was made for m1-1")
	refused("another incarnation starts", "core", "was made for m1-1")
	m.CoreConfig.Name, m.CoreConfig.Generation = "m1-1", 2
	m.Render()
	refused("another generation starts", "core", "of ployz-lab-g1, not")

	for range 2 {
		if err := natsstore.RetireCore(m.CoreConfig.StoreDir); err != nil {
			t.Fatal(err)
		}
	}
	if code, errs := verb("join"); code != 0 {
		t.Errorf("after it was retired: %d, %q", code, errs)
	}
	if left, err := filepath.Glob(m.CoreConfig.StoreDir + ".[jr]*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.RemoveAll(filepath.Join(m.CoreConfig.StoreDir, markerFile)); err != nil {
		t.Fatal(err)
	}
	refused("no marker", "core", "neither founded nor joined")
}

// TestJournalKeepsTheRouteSecret prints what nats-server prints when a route is taken away.
func TestJournalKeepsTheRouteSecret(t *testing.T) {
	var out bytes.Buffer
	newJournal(&out).Noticef("Removed route %v", "nats-route://voter:SUAISECRET@127.0.0.1:45685")
	if got := out.String(); strings.Contains(got, "SUAI") || !strings.Contains(got, "Removed route nats-route://voter:[REDACTED]@127.0.0.1:45685\n") {
		t.Errorf("%q", got)
	}
}
