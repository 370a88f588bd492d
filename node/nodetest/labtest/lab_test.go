package labtest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
)

func TestLab(t *testing.T) {
	lab := labtest.Start(t, 2)
	t.Run("machines are clean and up", func(t *testing.T) { machinesAreClean(t, lab) })
	t.Run("exec", func(t *testing.T) { execPassesThrough(t, lab) })
	t.Run("signals", func(t *testing.T) { signalsReachTheCommand(t, lab) })
	t.Run("network", func(t *testing.T) { placesReachEachOther(t, lab) })
	t.Run("up again", func(t *testing.T) { upIsRepeatable(t, lab) })
	t.Run("reboot", func(t *testing.T) { rebootIsReal(t, lab) })
	t.Run("power cut", func(t *testing.T) { powerCutIsSudden(t, lab) })
	t.Run("refusals", func(t *testing.T) { refusalsAreTyped(t, lab) })
}

func machinesAreClean(t *testing.T, lab *labtest.Lab) {
	if got := lab.Run("m1", "systemctl", "is-system-running"); got != "running" {
		t.Errorf("m1 is %s", got)
	}
	if got := lab.Run("m2", "hostname"); got != "m2" {
		t.Errorf("m2 calls itself %s", got)
	}
	if a, b := lab.Run("m1", "cat", "/etc/machine-id"), lab.Run("m2", "cat", "/etc/machine-id"); a == b || len(a) != 32 {
		t.Errorf("machine ids %q and %q", a, b)
	}
	if got := lab.Run("m1", "ls", "/home", "/srv", "/opt", "/usr/local/bin"); strings.Contains(strings.ReplaceAll(got, ":", ""), "go") {
		t.Errorf("the host shows:\n%s", got)
	}
	if got := lab.Run("m1", "stat", "-f", "-c", "%T", "/var/lib/ployz"); strings.Contains(got, "overlay") {
		t.Errorf("/var/lib/ployz is on %s", got)
	}
}

func execPassesThrough(t *testing.T, lab *labtest.Lab) {
	r := lab.Try("m1", "sh", "-c", "echo out; echo err >&2; exit 7")
	if r != (labtest.Result{Status: 7, Out: "out\n", Err: "err\n"}) {
		t.Errorf("got %+v", r)
	}
	if r := lab.Try("m1", "no-such-command"); r.Status != 127 {
		t.Errorf("a missing command gave %+v", r)
	}
	if r := lab.Try("m1", "sh", "-c", "kill -9 $$"); r.Status != 128+9 {
		t.Errorf("a killed command gave %+v", r)
	}
	if got := lab.Run("m1", "sh", "-c", `printf '%s|' "$HOME" "$PWD" "$1" "$2"`, "sh", "a b", "*"); got != "/root|/|a b|*|" {
		t.Errorf("arguments and environment: %s", got)
	}
	binary := bytes.Repeat([]byte{0, 1, 2, 255, '\n', 4}, 100_000)
	var out bytes.Buffer
	status, err := dev.Exec(t.Context(), lab.Name, "m1", []string{"cat"}, dev.Streams{In: bytes.NewReader(binary), Out: &out})
	if status != 0 || err != nil || !bytes.Equal(out.Bytes(), binary) {
		t.Errorf("cat: status %d, %v, %d of %d bytes", status, err, out.Len(), len(binary))
	}
	if got := lab.Run("m1", "cat", "/proc/self/cgroup"); !strings.HasSuffix(got, "0::/ployz-dev-exec") {
		t.Errorf("a command runs in the cgroup %s", got)
	}
}

// signalsReachTheCommand also proves that ctx ends a command that ignores everything.
func signalsReachTheCommand(t *testing.T, lab *labtest.Lab) {
	signals := make(chan os.Signal, 1)
	out := &firstLine{line: make(chan string, 1)}
	script := `trap 'echo bye; exit 42' TERM; echo ready; while :; do sleep 0.05; done`
	go func() {
		<-out.line
		signals <- syscall.SIGTERM
	}()
	status, err := dev.Exec(t.Context(), lab.Name, "m1", []string{"sh", "-c", script}, dev.Streams{Out: out, Signals: signals})
	if status != 42 || err != nil || !strings.HasSuffix(out.all.String(), "bye\n") {
		t.Errorf("status %d, %v, printed %q", status, err, out.all.String())
	}

	ctx, cancel := context.WithCancel(t.Context())
	out = &firstLine{line: make(chan string, 1)}
	go func() {
		<-out.line
		cancel()
	}()
	stubborn := `trap '' TERM INT HUP; echo $$; while :; do sleep 0.05; done`
	if _, err := dev.Exec(ctx, lab.Name, "m1", []string{"sh", "-c", stubborn}, dev.Streams{Out: out}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled exec ended with %v", err)
	}
	if r := lab.Try("m1", "test", "-e", "/proc/"+strings.TrimSpace(out.all.String())); r.Status == 0 {
		t.Error("the command outlived its exec")
	}
}

// firstLine keeps what is written and hands on that something was.
type firstLine struct {
	all  bytes.Buffer
	line chan string
}

func (f *firstLine) Write(p []byte) (int, error) {
	select {
	case f.line <- string(p):
	default:
	}
	return f.all.Write(p)
}

func placesReachEachOther(t *testing.T, lab *labtest.Lab) {
	serveIn(t, lab, "m1")
	for _, from := range []string{"m2", "m1", labtest.Client} {
		for _, url := range []string{"http://m1:8080/", "http://10.90.0.1:8080/", "http://[fd90:10:90::1]:8080/"} {
			if got := lab.Run(from, "curl", "-sS", "--max-time", "5", url); !strings.HasPrefix(got, "m1 to ") {
				t.Errorf("%s asked %s and got %q", from, url, got)
			}
		}
	}
	if got := lab.Run(labtest.Client, "curl", "-sS", "http://m1:8080/"); !strings.Contains(got, "10.90.0.254") && !strings.Contains(got, "fd90:10:90::254") {
		t.Errorf("the client comes from %q", got)
	}
	links := lab.Run(labtest.Client, "ip", "-brief", "link")
	if n := strings.Count(links, "\n") + 1; n != 4 { // lo, the bridge, and one cable for each machine
		t.Errorf("the lab has other links than its own:\n%s", links)
	}
}

// serveIn runs this test binary as a web server on port 8080 of a machine.
func serveIn(t *testing.T, lab *labtest.Lab, machine string) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lab.Copy(machine, self, "/usr/local/bin/labtest")
	lab.Run(machine, "systemd-run", "--quiet", "--unit=web", "--setenv=LABTEST_SERVE=:8080", "/usr/local/bin/labtest")
	lab.Eventually("the web server", func() bool { return lab.Try(machine, "curl", "-sf", "http://127.0.0.1:8080/").Status == 0 })
}

func upIsRepeatable(t *testing.T, lab *labtest.Lab) {
	before := inspect(t, lab)
	after := lab.Up(dev.Options{})
	for i, m := range before.Machines {
		if m.Leader == 0 || after.Machines[i].Leader != m.Leader {
			t.Errorf("%s was restarted: leader %d, then %d", m.Name, m.Leader, after.Machines[i].Leader)
		}
	}
	if grown := lab.Up(dev.Options{Machines: 3}); len(grown.Machines) != 3 || grown.Machines[0].Leader != before.Machines[0].Leader {
		t.Errorf("growing by one machine gave %+v", grown.Machines)
	}
	if got := lab.Run("m1", "getent", "hosts", "m3"); !strings.HasPrefix(got, "fd90:10:90::3") {
		t.Errorf("m1 does not know the new m3: %s", got)
	}
}

func inspect(t *testing.T, lab *labtest.Lab) *dev.Lab {
	t.Helper()
	found, err := dev.Inspect(lab.Name)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func rebootIsReal(t *testing.T, lab *labtest.Lab) {
	boot := lab.Script("m2", "ip link add left type dummy 2>/dev/null || ip link add left type bridge; echo kept >/etc/kept; cat /proc/sys/kernel/random/boot_id")
	// A command that runs at the time ends with its machine.
	ended := make(chan error, 1)
	go func() {
		_, err := dev.Exec(t.Context(), lab.Name, "m2", []string{"sleep", "infinity"}, dev.Streams{})
		ended <- err
	}()
	if err := dev.Reboot(t.Context(), lab.Name, "m2"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the command in the machine: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the command in the machine never ended")
	}
	if now := lab.Run("m2", "cat", "/proc/sys/kernel/random/boot_id"); now == boot {
		t.Error("the boot id is still the same")
	}
	if r := lab.Try("m2", "ip", "link", "show", "left"); r.Status == 0 {
		t.Error("a network device survived the reboot")
	}
	if got := lab.Run("m2", "cat", "/etc/kept"); got != "kept" {
		t.Errorf("the disk lost a file: %q", got)
	}
	lab.Run("m2", "curl", "-sS", "--max-time", "5", "http://m1:8080/")
}

func powerCutIsSudden(t *testing.T, lab *labtest.Lab) {
	lab.Script("m2", `systemd-run --quiet --unit=witness --property=ExecStop='/bin/touch /var/lib/ployz/stopped' sleep infinity
		truncate -s 1M /var/lib/ployz/disk /var/tmp/disk; losetup -f /var/lib/ployz/disk; losetup -f /var/tmp/disk`)
	if got := loopsOn(t, "/disk"); got < 2 {
		t.Fatalf("%d loop devices attached before", got)
	}
	if err := dev.PowerCut(lab.Name, "m2"); err != nil {
		t.Fatal(err)
	}
	if got := inspect(t, lab).Machines[1].State; got != dev.Off {
		t.Errorf("m2 is %s", got)
	}
	if got := loopsOn(t, "/disk"); got != 0 {
		t.Errorf("%d loop devices outlived the machine", got)
	}
	if _, err := dev.Exec(t.Context(), lab.Name, "m2", []string{"true"}, dev.Streams{}); api.CodeOf(err) != api.CodeDevOff {
		t.Errorf("exec in a machine that is off: %v", err)
	}
	if err := dev.Boot(t.Context(), lab.Name, "m2"); err != nil {
		t.Fatal(err)
	}
	if r := lab.Try("m2", "test", "-e", "/var/lib/ployz/disk", "-a", "!", "-e", "/var/lib/ployz/stopped"); r.Status != 0 {
		t.Error("a disk was lost, or a unit had time to stop")
	}
}

// loopsOn counts loop devices whose backing file's name ends so; the tests' own are the only such.
func loopsOn(t *testing.T, suffix string) int {
	t.Helper()
	n := 0
	for _, file := range glob(t, "/sys/block/loop*/loop/backing_file") {
		if text, err := os.ReadFile(file); err == nil && strings.HasSuffix(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(string(text)), "(deleted)")), suffix) {
			n++
		}
	}
	return n
}

func refusalsAreTyped(t *testing.T, lab *labtest.Lab) {
	up := func(o dev.Options) error { _, err := dev.Up(t.Context(), o); return err }
	exec := func(name, place string, argv ...string) error {
		_, err := dev.Exec(t.Context(), name, place, argv, dev.Streams{Out: io.Discard})
		return err
	}
	for _, c := range []struct {
		what string
		err  error
		want api.Code
	}{
		{"a name with a slash", up(dev.Options{Name: "a/b"}), api.CodeDevName},
		{"an empty name", dev.Down(""), api.CodeDevName},
		{"a smaller lab", up(dev.Options{Name: lab.Name, Machines: 1}), api.CodeDevOptions},
		{"far too many machines", up(dev.Options{Name: lab.Name, Machines: 201}), api.CodeDevOptions},
		{"another tree", up(dev.Options{Name: lab.Name, Tree: "/usr"}), api.CodeDevOptions},
		{"a package that is not there", up(dev.Options{Name: lab.Name, Debs: []string{"/nowhere.deb"}}), api.CodeDevOptions},
		{"a package that is none", up(dev.Options{Name: lab.Name, Debs: []string{"/etc/hostname"}}), api.CodeDevInstall},
		{"a lab that is not there", exec("no-such-lab", "m1", "true"), api.CodeDevNoLab},
		{"a machine that is not there", exec(lab.Name, "m77", "true"), api.CodeDevNoMachine},
		{"no command", exec(lab.Name, "m1"), api.CodeDevOptions},
	} {
		if e := api.AsError(c.err); e == nil || e.Code != c.want {
			t.Errorf("%s: %v, want %s", c.what, c.err, c.want)
		} else if e.Hint == "" && e.Subject == "" {
			t.Errorf("%s: neither subject nor hint in %v", c.what, e)
		}
	}
}

// TestBootIsQuick holds the lab to what makes it usable in tests: seconds, not minutes.
func TestBootIsQuick(t *testing.T) {
	started := time.Now()
	labtest.Start(t, 1)
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("one machine took %v to boot, more than 5 s", took)
	}
}
