package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ployz/ployz/node/nodetest/testenv"
)

const (
	// bootLimit is long: the machine has one emulated processor, and others may use this computer. answerLimit is for one
	// try to log in; there, too, it is the machine that has to be waited for.
	bootLimit   = 30 * time.Minute
	answerLimit = 5 * time.Minute
	// commandLimit is for a whole suite of tests in the machine, which itself ends before.
	commandLimit = 45 * time.Minute
	memoryMiB    = 2048
	payloadMount = "/mnt/payload"
	// bootOptions leave out what a first boot does for later ones, sessions of logins, and what the console need not say:
	// under emulation each costs seconds. Where the machine is given little time, its kernel would believe that a timer is
	// broken, and its systemd that services hang.
	bootOptions = "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off no_timer_check audit=0 loglevel=4" +
		" systemd.condition_needs_update=no systemd.getty_auto=no systemd.show_status=error" +
		" systemd.default_timeout_start_sec=900 systemd.service_watchdogs=no" +
		" systemd.mask=systemd-logind.service systemd.mask=systemd-binfmt.service systemd.mask=systemd-pstore.service"
)

// Machine is a virtual machine that belongs to one test.
type Machine struct {
	t       testing.TB
	dir     string
	port    int
	process *exec.Cmd
	// link is the card to the other machine of a pair, and spare its empty disk; only those of a pair have them.
	link  *link
	spare string
}

// Start boots a machine that has the files of a folder under /mnt/payload, and removes it when the test ends.
func Start(t testing.TB, payload string) *Machine {
	t.Helper()
	m := prepare(t, payload)
	m.Boot()
	return m
}

// prepare makes a machine's disks, and has it removed when the test ends.
func prepare(t testing.TB, payload string) *Machine {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.VM)
	m := &Machine{t: t, dir: t.TempDir()}
	m.host("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", m.image("disk.img"), m.disk())
	m.host("mke2fs", "-q", "-t", "ext4", "-d", payload, m.payload(), strconv.Itoa(megabytes(t, payload)*5/4+64)+"M")
	t.Cleanup(m.remove)
	return m
}

func (m *Machine) image(name string) string { return filepath.Join(testenv.VMImage(), name) }
func (m *Machine) disk() string             { return filepath.Join(m.dir, "disk.qcow2") }
func (m *Machine) payload() string          { return filepath.Join(m.dir, "payload.img") }
func (m *Machine) console() string          { return filepath.Join(m.dir, "console") }

func megabytes(t testing.TB, dir string) int {
	t.Helper()
	var total int64
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return int(total >> 20)
}

func (m *Machine) host(name string, args ...string) {
	m.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// Boot starts the machine and returns when it answers.
func (m *Machine) Boot() {
	m.t.Helper()
	began := time.Now()
	m.powerOn()
	m.ready(began)
}

func (m *Machine) powerOn() {
	m.t.Helper()
	m.port = freePort(m.t)
	options := bootOptions
	if m.link != nil {
		options += m.link.boot()
	}
	args := []string{
		// Nothing that the kernel would look for a driver for, and page tables of four levels, not five.
		"-M", "q35,usb=off,sata=off", "-nodefaults", "-vga", "none", "-accel", "tcg", "-cpu", "max,la57=off", "-smp", "1", "-m", strconv.Itoa(memoryMiB),
		"-display", "none", "-monitor", "none", "-serial", "file:" + m.console(), "-no-reboot",
		"-kernel", m.image("vmlinuz"), "-initrd", m.image("initrd.img"), "-append", options,
		"-drive", "if=virtio,format=qcow2,file=" + m.disk(),
		"-drive", "if=virtio,format=raw,readonly=on,file=" + m.payload(),
		"-netdev", fmt.Sprintf("user,id=n,hostfwd=tcp:127.0.0.1:%d-:22", m.port), "-device", "virtio-net-pci,netdev=n",
	}
	if m.link != nil {
		args = append(args, "-drive", "if=virtio,format=qcow2,discard=unmap,file="+m.spare)
		args = append(args, m.link.args()...)
	}
	m.process = exec.Command("qemu-system-x86_64", args...)
	m.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.process.Start(); err != nil {
		m.t.Fatal(err)
	}
}

// ready returns when a machine that was started answers.
func (m *Machine) ready(began time.Time) {
	m.t.Helper()
	m.await(began.Add(bootLimit))
	m.Run("mkdir -p " + payloadMount + "; mount -o ro /dev/vdb " + payloadMount)
	m.t.Logf("booted in %v", time.Since(began).Round(time.Second))
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// await asks until the machine has booted to the end, degraded or not.
func (m *Machine) await(deadline time.Time) {
	m.t.Helper()
	var last error
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(m.t.Context(), answerLimit)
		_, err := m.ssh(ctx, "systemctl is-system-running --wait >/dev/null; true")
		cancel()
		if err == nil {
			return
		}
		last = err
		time.Sleep(time.Second) // ssh ends at once while nobody listens
	}
	m.t.Fatalf("the machine does not answer: %v\n%s", last, m.said())
}

// said are the last lines of the machine's console.
func (m *Machine) said() string {
	text, err := os.ReadFile(m.console())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4<<10):])
}

// Cut takes the machine's power away.
func (m *Machine) Cut() {
	m.t.Helper()
	if m.process == nil {
		return
	}
	err := m.process.Process.Kill()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.t.Fatal(err)
	}
	m.process.Wait() //nolint:errcheck // it was killed
	m.process = nil
}

func (m *Machine) remove() {
	if m.t.Failed() {
		m.t.Logf("the console's last words:\n%s", m.said())
	}
	m.Cut()
}

// ssh runs a shell script in the machine as root, and returns all that it printed.
func (m *Machine) ssh(ctx context.Context, script string) (string, error) {
	cmd := exec.CommandContext(ctx, "ssh", "-q", "-i", m.image("key"), "-p", strconv.Itoa(m.port),
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=120", "-o", "KexAlgorithms=curve25519-sha256",
		"-o", "ControlMaster=auto", "-o", "ControlPersist=10m", "-o", "ControlPath="+filepath.Join(m.dir, "s-%p"),
		"root@127.0.0.1", "sh -c "+quote(script))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	return strings.TrimSuffix(out.String(), "\n"), err
}

func quote(script string) string { return "'" + strings.ReplaceAll(script, "'", `'\''`) + "'" }

// Try runs a shell script in the machine and returns what it printed, and whether it succeeded.
func (m *Machine) Try(script string) (out string, ok bool) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), commandLimit)
	defer cancel()
	out, err := m.ssh(ctx, script)
	return out, err == nil
}

// Run runs a shell script that must succeed.
func (m *Machine) Run(script string) string {
	m.t.Helper()
	out, ok := m.Try("set -eu\n" + script)
	if !ok {
		m.t.Fatalf("in the machine: %s\n%s", script, out)
	}
	return out
}

// Eventually asks until a script succeeds, and fails the test with what was awaited after a while.
func (m *Machine) Eventually(what, script string) {
	m.t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for {
		out, ok := m.Try(script)
		if ok {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("waited for %s in vain: %s", what, out)
		}
		time.Sleep(time.Second)
	}
}

// In is the same machine for a subtest.
func (m *Machine) In(t testing.TB) *Machine {
	other := *m
	other.t = t
	return &other
}
