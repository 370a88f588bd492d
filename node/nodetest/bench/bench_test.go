package bench_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/load"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

func TestMain(m *testing.M) {
	status := m.Run()
	onemachine.RemoveTools()
	os.Exit(status)
}

// atMost reports a figure and fails the benchmark when it is beyond its bound.
func atMost(b *testing.B, value, bound float64, unit string) {
	b.Helper()
	b.ReportMetric(value, unit)
	if value > bound {
		b.Errorf("%.3f %s, the bound is %.3f", value, unit, bound)
	}
}

// use prints, for each of our own processes, its name, its proportional set in kB and its time on a
// CPU in nanoseconds. The kernel's ticks would be too coarse for processes that wake up for less.
const use = `
for unit in ployzd ployz-nats ployz-nats-core ployz-gateway ployz-dns; do
	pid=$(systemctl show --value --property=MainPID $unit)
	echo "$unit $(awk '/^Pss:/ {print $2}' /proc/$pid/smaps_rollup) $(cat /proc/$pid/task/*/schedstat | awk '{sum += $1} END {printf "%d", sum}')"
done`

// BenchmarkAtRest measures a machine with one small application that nobody asks for a minute.
func BenchmarkAtRest(b *testing.B) {
	m := onemachine.Found(b)
	m.DeployTown()
	for b.Loop() {
		time.Sleep(20 * time.Second) // what a deploy leaves to do is not rest
		const window = time.Minute
		_, before := used(b, m)
		time.Sleep(window)
		memory, after := used(b, m)
		atMost(b, memory/1000, 100, "MB-PSS")
		atMost(b, 100*(after-before)/float64(window.Nanoseconds()), 0.5, "%-of-a-core")
	}
}

// used sums up the processes' memory in kB and their time on a CPU in nanoseconds.
func used(b *testing.B, m *onemachine.Machine) (memory, cpu float64) {
	b.Helper()
	text := m.Script("m1", use)
	b.Log("process, kB PSS, ns on a CPU:\n" + text)
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			b.Fatalf("%q", line)
		}
		memory += number(b, fields[1])
		cpu += number(b, fields[2])
	}
	return memory, cpu
}

func number(b *testing.B, text string) float64 {
	b.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		b.Fatal(err)
	}
	return v
}

const one = `name: site
services:
  web:
    image: web:1
    environment: {VERSION: "%d"}
    x-ployz:
      routes: [{host: site.test, port: 8080}]
      ready: {http: {path: /healthz, port: 8080}, timeout: 30s}
`

// BenchmarkDeploy measures the deploy of a changed service to its outcome, and a rollback to the
// moment when a client outside gets the answers of the earlier version.
func BenchmarkDeploy(b *testing.B) {
	m := onemachine.Found(b)
	m.Push("web:1", nil)
	m.MustDeploy(fmt.Sprintf(one, 0))
	for b.Loop() {
		var deploys, flips, rollbacks []float64
		for i := range 5 {
			begin := time.Now()
			m.MustDeploy(fmt.Sprintf(one, i+1))
			deploys = append(deploys, time.Since(begin).Seconds())
			flip, whole := rollback(b, m, fmt.Sprintf("version %d ", i))
			flips, rollbacks = append(flips, flip), append(rollbacks, whole)
			m.MustDeploy(fmt.Sprintf(one, i+1))
		}
		atMost(b, median(deploys), 2, "s-deploy")
		atMost(b, median(flips), 2, "s-rollback-flip")
		b.ReportMetric(median(rollbacks), "s-rollback")
	}
}

// rollback returns the seconds until the gateway answered with a text, and until the outcome.
func rollback(b *testing.B, m *onemachine.Machine, want string) (flip, whole float64) {
	b.Helper()
	begin := time.Now()
	done := make(chan error, 1)
	cmd, cancel := m.Command("rollback", "site", "-q")
	defer cancel()
	go func() { done <- cmd.Run() }()
	const ask = `until curl -s --max-time 5 -H "Host: site.test" http://m1/ | grep -q "$0"; do sleep 0.01; done`
	m.Run(labtest.Client, "sh", "-c", ask, want)
	flip = time.Since(begin).Seconds()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	return flip, time.Since(begin).Seconds()
}

func median(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }

// heavy is 200 requests a second and a line that stays.
var heavy = load.Plan{
	HTTP: []load.HTTP{
		{Name: "http, fresh", URL: "http://m1/", Host: "site.test", Want: "version 1", Rate: 100, Fresh: true},
		{Name: "http, kept", URL: "http://m1/", Host: "site.test", Want: "version 1", Rate: 100},
	},
	TCP: onemachine.Outside.TCP,
}

// kills is how often ployzd is killed.
const kills = 100

// BenchmarkKilled kills ployzd at random moments while 50 workloads run under load.
func BenchmarkKilled(b *testing.B) {
	m := onemachine.Found(b)
	m.Push("web:1", nil)
	m.MustDeploy(strings.ReplaceAll(onemachine.Town, "replicas: 2", "replicas: 49"))
	seed := uint64(time.Now().UnixNano())
	b.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for b.Loop() {
		before := m.Starts("ployz-[!z]*.service")
		burden := m.Bear(heavy)
		var adoptions []float64
		for range kills {
			m.KillDaemon()
			adoptions = append(adoptions, time.Duration(m.AwaitDaemon().Daemon.AdoptionTook).Seconds())
			time.Sleep(time.Duration(random.Int64N(int64(200 * time.Millisecond))))
		}
		report := burden.PutDown()
		atMost(b, float64(report.Failed()), 0, "failed")
		b.ReportMetric(float64(report.Asked()), "requests")
		b.ReportMetric(median(adoptions), "s-adoption-median")
		atMost(b, slices.Max(adoptions), 1, "s-adoption-longest")
		restarted := 0
		for line := range strings.Lines(onemachine.Differences(before, m.Starts("ployz-[!z]*.service"))) {
			b.Log(line)
			restarted++
		}
		atMost(b, float64(restarted), 0, "units-restarted")
	}
}

// BenchmarkReplaced upgrades to packages whose gateway and resolver are other programs, under load.
func BenchmarkReplaced(b *testing.B) {
	m := onemachine.Found(b)
	m.DeployTown()
	versions := []string{"901", "902", "903"}
	for _, v := range versions {
		m.Copy("m1", onemachine.NewerDeb(b, v), "/var/tmp/"+v+".deb")
	}
	for b.Loop() {
		workloads := m.Starts("ployz-workload@*")
		burden := m.Bear(heavy)
		for _, v := range versions {
			m.Apt("install", "/var/tmp/"+v+".deb")
			m.Eventually("the new programs to serve", func() bool {
				s := m.AwaitDaemon()
				return s.Gateway.Version == v && s.DNS.Version == v && s.Gateway.State == api.StateUp
			})
			time.Sleep(3 * time.Second) // the old ones drain
		}
		report := burden.PutDown()
		atMost(b, float64(report.Failed()), 0, "failed")
		b.ReportMetric(float64(report.Asked()), "requests")
		if after := m.Starts("ployz-workload@*"); after != workloads {
			b.Errorf("workloads were restarted:\n%s", onemachine.Differences(workloads, after))
		}
	}
}
