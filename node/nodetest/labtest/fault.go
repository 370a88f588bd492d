package labtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/cmd/ployzctl/dev/wire"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// Partition cuts groups such as "m1,m2" and "m3" off from each other.
func (l *Lab) Partition(groups ...string) {
	l.t.Helper()
	l.must(dev.Partition(l.Name, dev.Split{Groups: dev.ParseGroups(groups...)}))
}

// PartitionOneWay drops packets from one group to another, and not those that come back.
func (l *Lab) PartitionOneWay(from, to string) {
	l.t.Helper()
	l.must(dev.Partition(l.Name, dev.Split{Groups: dev.ParseGroups(from, to), OneWay: true}))
}

// Block drops a machine's "udp", "tcp" or "icmp": dev.Both ways, or only dev.From it or dev.To it.
func (l *Lab) Block(machine, protocol string, only dev.Direction) {
	l.t.Helper()
	l.must(dev.BlockProtocol(l.Name, dev.Block{Machine: machine, Protocol: protocol, Only: only}))
}

// Delay makes a machine's line a bad one.
func (l *Lab) Delay(machine string, line wire.Line) {
	l.t.Helper()
	l.must(dev.Delay(l.t.Context(), l.Name, machine, line, l.probe(), "wire"))
}

// Heal makes the network whole again.
func (l *Lab) Heal() {
	l.t.Helper()
	l.must(dev.Heal(l.Name))
}

// Cut cuts a machine's power.
func (l *Lab) Cut(machine string) {
	l.t.Helper()
	l.must(dev.PowerCut(l.Name, machine))
}

// Boot boots a machine that is off.
func (l *Lab) Boot(machine string) {
	l.t.Helper()
	l.must(dev.Boot(l.t.Context(), l.Name, machine))
}

// Faults are the underlay's faults as found now, in the words of the commands that make them.
func (l *Lab) Faults() []string {
	l.t.Helper()
	found, err := dev.Inspect(l.Name)
	l.must(err)
	var texts []string
	for _, f := range found.Faults {
		texts = append(texts, f.Text)
	}
	return texts
}

func (l *Lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// probePath is where a machine has the probe.
const probePath = "/usr/local/bin/probe"

// probePort is where the probe listens, far from what Ployz uses.
const probePort = "7777"

// probe builds node/nodetest/probe, once for each test, and returns its path.
func (l *Lab) probe() string {
	l.t.Helper()
	if l.built != "" {
		return l.built
	}
	path := filepath.Join(l.t.TempDir(), "probe")
	build := exec.Command("go", "build", "-o", path, "./node/nodetest/probe")
	build.Dir, build.Env = testenv.Repo(), append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		l.t.Fatalf("building the probe: %v\n%s", err, said)
	}
	l.built = path
	return path
}

// Listen lets machines answer Reach until they go off.
func (l *Lab) Listen(machines ...string) {
	l.t.Helper()
	for _, m := range machines {
		l.Copy(m, l.probe(), probePath)
		l.Run(m, "systemd-run", "--quiet", "--unit=probe", probePath, "listen", probePort)
	}
	for _, m := range machines {
		l.Eventually(m+" to listen", func() bool { return l.Try(m, probePath, "ask", "hello", "tcp=127.0.0.1:"+probePort).Out == "tcp\n" })
	}
}

// Everything is what Reach says of two places with nothing between them.
const Everything = "tcp4 tcp6 udp4 udp6"

// Reach tells by which of Everything one place gets answers of a machine that listens.
func (l *Lab) Reach(from, to string) string {
	l.t.Helper()
	return l.say(from, to, "hello")
}

// AwaitReach waits until one place has answers of another by every network. After a heal that takes a
// moment, in which the kernel asks again for neighbours that did not answer: up to a second with IPv6.
func (l *Lab) AwaitReach(from, to string) {
	l.t.Helper()
	l.Eventually(from+" to reach "+to, func() bool { return l.Reach(from, to) == Everything })
}

// Hears tells whether a machine that listens gets a datagram of another place, whatever becomes of its
// answer.
func (l *Lab) Hears(machine, from string) bool {
	l.t.Helper()
	text := fmt.Sprintf("hear-%d", counter.Add(1))
	l.say(from, machine, text)
	return strings.Contains(l.Run(machine, "journalctl", "--unit=probe", "--no-pager", "--output=cat"), text)
}

func (l *Lab) say(from, to, text string) string {
	l.t.Helper()
	program := probePath
	if from == Client {
		program = l.probe()
	}
	argv := []string{program, "ask", text}
	for _, network := range []string{"tcp4", "tcp6", "udp4", "udp6"} {
		argv = append(argv, network+"="+to+":"+probePort)
	}
	return l.Run(from, argv...)
}

// Readdress gives a machine another address in the place of the one of that family.
func (l *Lab) Readdress(machine, address string) {
	l.t.Helper()
	l.must(dev.Readdress(l.t.Context(), l.Name, machine, address))
}

// Dropped counts the packets that partitions and blocks swallowed since they were made.
func (l *Lab) Dropped() int {
	l.t.Helper()
	found, err := dev.Inspect(l.Name)
	l.must(err)
	dropped := 0
	for _, f := range found.Faults {
		dropped += f.Dropped
	}
	return dropped
}
