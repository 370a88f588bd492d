package vm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/nodetest/vm"
)

// suites are tests that want the real kernel: a package, which of its tests, and what must be there for them. A suite of
// which one of must did not run has failed.
var suites = []struct{ pkg, run, features, must string }{
	{"node/mesh/wireguard", "TestKernel", "root,wireguard", "TestKernelConformance"},
	{"node/storage/zfs", ".", "root,zfs", "TestConformance"},
	{"node/storage/btrfs", ".", "root,btrfs,loop", "TestConformance"},
	{"node/storage/transfer", "TestZFS", "root,zfs", "TestZFS"},
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

var passed = regexp.MustCompile(`(?m)^\s*--- PASS: (\S+) \(`)

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
				" TMPDIR=/var/tmp " + mounted + "/" + binary(s.pkg) + " -test.v -test.timeout 40m -test.run " + s.run)
			if !ok || !strings.Contains(out, "--- PASS: "+s.must+" ") {
				t.Fatal(out)
			}
			t.Logf("%d tests passed", len(passed.FindAllString(out, -1)))
		})
	}
}
