package inside_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// packages are the ones whose tests want systemd, with the features that their machine has.
var packages = []string{"node/services/systemd", "node/runtime/runc"}

const features = "root,systemd,runc,overlay,dev-machine"

// place puts a package's tests into the machine. They are linked statically, since the runc
// backend's also play the program of a container without any library.
func place(t testing.TB, lab *labtest.Lab, pkg string) (dir string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "tests")
	build := exec.Command("go", "test", "-c", "-o", binary, "./"+pkg)
	build.Dir = testenv.Repo()
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", pkg, err, out)
	}
	dir = "/var/lib/ployz/inside/" + pkg
	lab.Run("m1", "mkdir", "-p", dir+"/testdata")
	lab.Copy("m1", binary, dir+"/tests")
	goldens, err := filepath.Glob(filepath.Join(testenv.Repo(), pkg, "testdata", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range goldens {
		lab.Copy("m1", g, dir+"/testdata/"+filepath.Base(g))
	}
	return dir
}

// script runs the tests where everything that they need must be there.
func script(dir, flags string) string {
	return "cd " + dir + "; PLOYZ_RUNC=/usr/lib/ployz/runc PLOYZ_TEST_REQUIRE=" + features + " ./tests -test.timeout 110s " + flags + " 2>&1"
}

func TestInsideAMachine(t *testing.T) {
	lab := labtest.StartInstalled(t, 1)
	for _, pkg := range packages {
		t.Run(pkg, func(t *testing.T) {
			r := lab.Try("m1", "sh", "-c", script(place(t, lab, pkg), "-test.v"))
			if r.Status != 0 || !strings.Contains(r.Out, "--- PASS: TestConformance ") {
				t.Fatalf("exit status %d\n%s%s", r.Status, r.Out, r.Err)
			}
		})
	}
	if left := lab.Script("m1", `ls /etc/systemd/system | grep -E '^ployz-(test|workload)' || true; mount | grep -c runc-test/workloads || true`); left != "0" {
		t.Errorf("the tests left behind: %s", left)
	}
}

// BenchmarkWorkload reports the start of a cached workload through its unit against bare runc in
// turns, and the adoption of 50 running ones.
func BenchmarkWorkload(b *testing.B) {
	lab := labtest.StartInstalled(b, 1)
	dir := place(b, lab, "node/runtime/runc")
	for b.Loop() {
		report(b, lab.Script("m1", script(dir, "-test.run XXX -test.bench Start -test.benchtime 30x")))
		report(b, lab.Script("m1", script(dir, "-test.run XXX -test.bench Adopt -test.benchtime 5x")))
	}
}

// report passes a benchmark line's figures on: a name and a count, then value and unit in turns.
func report(b *testing.B, out string) {
	b.Helper()
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(line, "Benchmark") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(fields[0], "Benchmark"), "-")
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				b.Fatalf("%q: %v", line, err)
			}
			b.ReportMetric(value, strings.ToLower(name)+"-"+fields[i+1])
		}
	}
}
