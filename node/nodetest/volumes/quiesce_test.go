package volumes_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// pair writes two volumes in turn, and goes on through commits that are about another service.
const pair = `name: pair
services:
  pair:
    image: db:1
    environment: {TURNS: "/left/rows:/right/rows"}
    volumes: ["left:/left", "right:/right"]
    x-ployz: {QUIESCE}
  other:
    image: db:1
    environment: {VERSION: "1"}
volumes:
  left:
  right:
`

func pairAt(version int, quiesce string) string {
	return strings.NewReplacer("QUIESCE", quiesce, `VERSION: "1"`, fmt.Sprintf("VERSION: %q", strconv.Itoa(version))).Replace(pair)
}

// count is how many rows of a volume a commit's snapshot shows.
func count(t *testing.T, m *onemachine.Machine, volume string, commit int) int {
	t.Helper()
	path := fmt.Sprintf("/var/lib/ployz/pool/volumes/pair.%s/snapshots/c%d/data/rows", volume, commit)
	n, err := strconv.Atoi(m.Script("m1", "wc -l < "+path))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestQuiesce: the snapshots of two volumes that are written all the while are of one moment, on a file system that
// takes them one after the other; what refuses refuses; and nobody stands still for ever.
func TestQuiesce(t *testing.T) {
	testenv.Require(t, testenv.Loop)
	m := onemachine.StartWith(t, dev.Options{Machines: 1})
	m.Must("init", "--pool", "loop", "--pool-size", "300M")
	m.Push("db:1", nil)
	m.MustDeploy(pairAt(1, "needs: []"))
	pid := func() string { return m.Script("m1", "systemctl show -P MainPID 'ployz-workload@pair-pair-0*'") }
	writer := pid()
	for version := 2; version <= 6; version++ {
		m.MustDeploy(pairAt(version, "needs: []"))
		left, right := count(t, m, "left", version), count(t, m, "right", version)
		if left == 0 || left-right < 0 || left-right > 1 {
			t.Errorf("commit %d shows %d rows on the left and %d on the right", version, left, right)
		}
	}
	if now := pid(); now != writer {
		t.Errorf("the writer was %s and is %s", writer, now)
	}
	m.MustDeploy(pairAt(7, `quiesce: {before: [/agent, "write=/left/before"], after: [/agent, "write=/left/after"]}`))
	m.Script("m1", "cd /var/lib/ployz/pool/volumes/pair.left; test -e snapshots/c7/data/before && ! test -e snapshots/c7/data/after && test -e data/after")
	out := m.Deploy(pairAt(8, `quiesce: {before: [/agent, "say=the disk is busy", "exit=3"]}`))
	if said := onemachine.Said(out.Error); out.Outcome != api.RolledBack || !strings.Contains(said, string(api.CodeVolumeQuiesce)) || !strings.Contains(said, "the disk is busy") {
		t.Errorf("%s: %s", out.Outcome, said)
	}
	diesFrozen(t, m)
	if left := m.Script("m1", "systemctl list-units --all --no-legend 'ployz-thaw-*' | wc -l"); left != "0" {
		t.Errorf("%s units stay of what was to thaw", left)
	}
}

// diesFrozen kills the daemon, for good, at a moment when an instance stands still. It goes on by itself.
func diesFrozen(t *testing.T, m *onemachine.Machine) {
	t.Helper()
	for try := range 5 {
		caught := killFrozen(t, m, pairAt(9+try, "needs: []"))
		m.Script("m1", "systemctl unmask --runtime -q ployzd; systemctl start ployzd")
		m.AwaitDaemon()
		var list []api.OperationSummary
		m.JSON(&list, "operation", "ls", "-n", "1")
		if list[0].State == string(api.Interrupted) {
			m.Must("operation", "resolve", list[0].Operation)
		}
		m.MustDeploy(pairAt(20+try, "needs: []"))
		if caught {
			return
		}
	}
	t.Error("ployzd never died while it had frozen anything")
}

// killFrozen deploys, kills the daemon once it has frozen the writer, and waits until that goes on without it. It
// returns whether the daemon died before it could thaw.
func killFrozen(t *testing.T, m *onemachine.Machine, compose string) bool {
	t.Helper()
	const frozen = `at=$(echo /sys/fs/cgroup/ployz.slice/ployz-workloads.slice/ployz-workload@pair-pair-0*/cgroup.freeze); frozen() { read -r is < "$at"; test "$is" = 1; }; `
	cmd, cancel := m.Command("deploy", "-f", m.File("compose.yaml", compose))
	defer cancel()
	pid := m.Script("m1", "systemctl mask --runtime -q ployzd; systemctl show -P MainPID ployzd")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	caught := m.Try("m1", "sh", "-c", frozen+"until frozen; do :; done; kill -KILL "+pid+"; frozen")
	_ = cmd.Wait() // its daemon is gone
	m.Script("m1", frozen+"for i in $(seq 300); do frozen || exit 0; sleep 0.1; done; exit 1")
	return caught.Status == 0
}
