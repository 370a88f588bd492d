package vm_test

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/nodetest/vm"
)

// suites are tests that want the real kernel: a package, which of its tests, and what must be there for them. A suite of
// which one of must did not run has failed. What more stands for it are further flags.
var suites = []struct{ pkg, run, features, must, more string }{
	{"node/mesh/wireguard", "TestKernel", "root,wireguard", "TestKernelConformance", ""},
	{"node/storage/zfs", ".", "root,zfs", "TestConformance", ""},
	{"node/storage/btrfs", ".", "root,btrfs,loop", "TestConformance", ""},
	{"node/storage/transfer", "TestZFS", "root,zfs", "TestZFS", "-test.bench ZFS -test.benchtime 3x"},
}

// testsOf builds a package's tests for the machine.
func testsOf(t *testing.T, payload, pkg string) {
	t.Helper()
	build := exec.Command("go", "test", "-c", "-o", filepath.Join(payload, binary(pkg)), "./"+pkg)
	build.Dir = testenv.Repo()
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", pkg, err, out)
	}
}

func binary(pkg string) string { return strings.ReplaceAll(pkg, "/", "-") + ".test" }

// suiteLimit is for one suite; Machine.Try waits longer.
const suiteLimit = "40m"

var (
	passed   = regexp.MustCompile(`(?m)^\s*--- PASS: (\S+) \(([\d.]+)s\)`)
	measured = regexp.MustCompile(`(?m)^Benchmark.*$`)
)

// told says how many tests passed, which of them took longest, and what was measured.
func told(t *testing.T, out string) {
	tests := passed.FindAllStringSubmatch(out, -1)
	seconds := func(test []string) float64 {
		s, _ := strconv.ParseFloat(test[2], 64) // the pattern lets nothing else through
		return s
	}
	slices.SortStableFunc(tests, func(a, b []string) int { return cmp.Compare(seconds(b), seconds(a)) })
	t.Logf("%d tests passed, the longest were", len(tests))
	for _, test := range tests[:min(len(tests), 12)] {
		t.Logf("%8.2fs %s", seconds(test), test[1])
	}
	for _, line := range measured.FindAllString(out, -1) {
		t.Log(line)
	}
}

// TestSuites runs the conformance suites on the kernel's own WireGuard device and on real file systems.
func TestSuites(t *testing.T) {
	testenv.Require(t, testenv.VM)
	payload := t.TempDir()
	for _, s := range suites {
		testsOf(t, payload, s.pkg)
	}
	m := vm.Start(t, payload)
	for _, s := range suites {
		t.Run(s.pkg, func(t *testing.T) {
			out, ok := m.Try("cd /root; modprobe -a wireguard zfs; PLOYZ_TEST_REQUIRE=" + s.features +
				" TMPDIR=/var/tmp " + mounted + "/" + binary(s.pkg) + " -test.v -test.timeout " + suiteLimit + " -test.run " + s.run + " " + s.more)
			if !ok || !strings.Contains(out, "--- PASS: "+s.must+" ") {
				t.Fatal(out)
			}
			told(t, out)
		})
	}
}
