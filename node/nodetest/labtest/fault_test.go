package labtest_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/cmd/ployzctl/dev/wire"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/load"
)

// everything is what Reach says of places with nothing between them.
const everything = labtest.Everything

func TestFaults(t *testing.T) {
	lab := labtest.Start(t, 3)
	lab.Listen("m1", "m2", "m3")
	for _, c := range []struct {
		name string
		test func(*testing.T, *labtest.Lab)
	}{
		{"partition", partitionCutsBothWays},
		{"partition under load", partitionSparesTheOthers},
		{"one way", oneWayIsOneWay},
		{"client", clientIsCutOff},
		{"block", blockTakesOneProtocol},
		{"delay", delayIsCounted},
		{"loss", lossLosesSome},
		{"reboot", delaySurvivesReboot},
		{"commands", commandsShowWhatIs},
		{"refusals", faultRefusalsAreTyped},
	} {
		t.Run(c.name, func(t *testing.T) {
			lab := lab.In(t)
			c.test(t, lab)
			lab.Heal()
			lab.Heal() // may be repeated
			for _, pair := range [][2]string{{"m1", "m2"}, {"m1", "m3"}, {"m3", "m1"}, {"client", "m3"}} {
				lab.AwaitReach(pair[0], pair[1])
			}
			if left := lab.Faults(); len(left) > 0 {
				t.Errorf("after heal there are %q", left)
			}
		})
	}
}

// wantReach takes pairs of "FROM TO" and what shall be answered.
func wantReach(t *testing.T, lab *labtest.Lab, pairs ...string) {
	t.Helper()
	var all sync.WaitGroup
	for pair := range slices.Chunk(pairs, 2) {
		all.Go(func() {
			from, to, _ := strings.Cut(pair[0], " ")
			got := lab.Reach(from, to)
			// A busy computer may answer late, or find a neighbour late; what is cut never answers.
			for again := 0; again < 3 && len(got) < len(pair[1]); again++ {
				got = lab.Reach(from, to)
			}
			if got != pair[1] {
				t.Errorf("%s reaches %s by %q, want %q", from, to, got, pair[1])
			}
		})
	}
	all.Wait() // together, as no answer takes its time
}

func partitionCutsBothWays(t *testing.T, lab *labtest.Lab) {
	lab.Partition("m1,m2", "m3")
	lab.Partition("m1,m2", "m3") // may be repeated
	lab.Script("m1", "ip neigh flush all")
	wantReach(t, lab, "m1 m3", "", "m3 m2", "", "m1 m2", everything, "client m3", everything)
	if known := lab.Run("m1", "ip", "neigh"); strings.Contains(known, "10.90.0.3 dev eth0 lladdr") || strings.Contains(known, "::3 dev eth0 lladdr") {
		t.Errorf("neighbours are still found through the partition:\n%s", known)
	}
	if got := lab.Dropped(); got < 4 {
		t.Errorf("the partition counted %d packets", got)
	}
	if got := lab.Faults(); !slices.Equal(got, []string{"partition m1,m2 m3"}) {
		t.Errorf("the lab shows %q", got)
	}
}

// partitionSparesTheOthers: while m3 is cut off, m1 answers m2 every single time.
func partitionSparesTheOthers(t *testing.T, lab *labtest.Lab) {
	report := echoes(lab, func() {
		lab.Partition("m1,m2", "m3")
		wantReach(t, lab, "m3 m1", "")
		lab.Heal()
		lab.AwaitReach("m3", "m1")
	})
	if report.Failed() > 0 || report.Asked() < 20 {
		t.Errorf("m2 asked m1 meanwhile:\n%s", report)
	}
}

func oneWayIsOneWay(t *testing.T, lab *labtest.Lab) {
	wantReach(t, lab, "m1 m2", everything, "m2 m1", everything) // both know each other's hardware addresses
	lab.PartitionOneWay("m1", "m2")
	wantReach(t, lab, "m1 m2", "", "m2 m1", "", "m1 m3", everything, "m3 m2", everything)
	if !lab.Hears("m1", "m2") {
		t.Error("m1 does not hear m2")
	}
	if lab.Hears("m2", "m1") {
		t.Error("m2 hears m1")
	}
}

func clientIsCutOff(t *testing.T, lab *labtest.Lab) {
	lab.Partition("client,m1", "m3")
	wantReach(t, lab, "client m3", "", "client m1", everything, "m1 m3", "", "m2 m3", everything)
	lab.Heal()
	lab.AwaitReach(labtest.Client, "m3")
	lab.PartitionOneWay("m3", "client")
	wantReach(t, lab, "client m3", "")
	if !lab.Hears("m3", labtest.Client) {
		t.Error("m3 does not hear the client")
	}
}

func blockTakesOneProtocol(t *testing.T, lab *labtest.Lab) {
	lab.Block("m1", "udp", dev.Both)
	wantReach(t, lab, "m1 m2", "tcp4 tcp6", "m2 m1", "tcp4 tcp6", "client m1", "tcp4 tcp6", "m2 m3", everything)
	lab.Heal()
	lab.Block("m1", "udp", dev.From)
	wantReach(t, lab, "m1 m2", "tcp4 tcp6", "m2 m1", "tcp4 tcp6", "m2 m3", everything)
	if !lab.Hears("m1", "m2") || lab.Hears("m2", "m1") {
		t.Error("m1 shall hear m2, and m2 shall not hear m1")
	}
}

// echoes asks m1's echo once every 20 ms until the test has done something.
func echoes(lab *labtest.Lab, during func()) load.Report {
	running := lab.Load("m2", load.Plan{TCP: []load.TCP{{Name: "echo", Address: "10.90.0.1:7777", Every: 20 * time.Millisecond}}})
	during()
	return running.Stop()
}

func delayIsCounted(t *testing.T, lab *labtest.Lab) {
	lab.Delay("m1", wire.Line{Delay: 50 * time.Millisecond, Jitter: 10 * time.Millisecond})
	if got := lab.Faults(); !slices.Equal(got, []string{"delay m1 50ms --jitter 10ms"}) {
		t.Errorf("the lab shows %q", got)
	}
	report := echoes(lab, func() { time.Sleep(time.Second) })
	if took := report.Counts["echo"].Median; took < 80*time.Millisecond || took > 200*time.Millisecond {
		t.Errorf("a round trip over a line of 50 ms took %v", took)
	}
	if report.Failed() > 0 {
		t.Errorf("a slow line lost something:\n%s", report)
	}
	// A partition also holds for a machine with a bad line.
	lab.Partition("m1", "m2")
	wantReach(t, lab, "m1 m2", "", "m3 m1", everything)
}

func lossLosesSome(t *testing.T, lab *labtest.Lab) {
	lab.Delay("m1", wire.Line{Loss: 1})
	wantReach(t, lab, "m1 m2", "", "m3 m1", "", "m2 m3", everything)
	// The next line takes the place of the last one, and a reordered one loses nothing.
	lab.Delay("m1", wire.Line{Delay: 5 * time.Millisecond, Reorder: 0.5})
	lab.AwaitReach("m1", "m2")
	// What TCP says arrives all the same, but takes its time.
	lab.Delay("m1", wire.Line{Loss: 0.1})
	report := echoes(lab, func() { time.Sleep(time.Second) })
	if c := report.Counts["echo"]; c.Failed > 0 || c.Longest < 100*time.Millisecond {
		t.Errorf("a line that loses 10%% was never felt:\n%s", report)
	}
}

func delaySurvivesReboot(t *testing.T, lab *labtest.Lab) {
	lab.Delay("m3", wire.Line{Delay: 20 * time.Millisecond})
	lab.Cut("m3")
	if got := lab.Faults(); !slices.Equal(got, []string{"delay m3 20ms"}) {
		t.Errorf("with m3 off the lab shows %q", got)
	}
	lab.Boot("m3")
	lab.Listen("m3")
	wantReach(t, lab, "m1 m3", everything, "m3 m1", everything)
	cables := lab.Run(labtest.Client, "ip", "-o", "link", "show", "master", "lab0")
	if !strings.Contains(cables, "m3-wire") || strings.Contains(cables, "m3@") {
		t.Errorf("the bridge has these cables:\n%s", cables)
	}
}

func faultRefusalsAreTyped(t *testing.T, lab *labtest.Lab) {
	split := func(oneWay bool, groups ...string) error {
		return dev.Partition(lab.Name, dev.Split{Groups: dev.ParseGroups(groups...), OneWay: oneWay})
	}
	delay := func(machine string, line wire.Line) error {
		return dev.Delay(t.Context(), lab.Name, machine, line, "/nowhere")
	}
	for _, c := range []struct {
		what string
		err  error
		want api.Code
	}{
		{"a lab that is not there", dev.Heal("no-such-lab"), api.CodeDevNoLab},
		{"a machine that is not there", split(false, "m1", "m9"), api.CodeDevNoMachine},
		{"an empty group", split(false, "m1", ""), api.CodeDevNoMachine},
		{"one group", split(false, "m1,m2"), api.CodeDevOptions},
		{"a machine in two groups", split(false, "m1,m2", "m2"), api.CodeDevOptions},
		{"one way between three", split(true, "m1", "m2", "m3"), api.CodeDevOptions},
		{"an unknown protocol", dev.BlockProtocol(lab.Name, dev.Block{Machine: "m1", Protocol: "ipx"}), api.CodeDevOptions},
		{"a block of the client", dev.BlockProtocol(lab.Name, dev.Block{Machine: "client", Protocol: "udp"}), api.CodeDevNoMachine},
		{"no delay", delay("m1", wire.Line{}), api.CodeDevOptions},
		{"more jitter than delay", delay("m1", wire.Line{Jitter: time.Second}), api.CodeDevOptions},
		{"a delay of no machine", delay("m9", wire.Line{Loss: 1}), api.CodeDevNoMachine},
	} {
		if e := api.AsError(c.err); e == nil || e.Code != c.want || e.Hint == "" {
			t.Errorf("%s: %v, want %s and a hint", c.what, c.err, c.want)
		}
	}
}
