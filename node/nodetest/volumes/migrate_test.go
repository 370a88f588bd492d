package volumes_test

import (
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/load"
	"github.com/ployz/ployz/node/nodetest/onemachine"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// library keeps rows in a volume, behind an application on each machine that finds it by its name for every request.
const library = `name: library
services:
  db:
    image: db:1
    environment: {VERSION: "rows"}
    volumes: ["data:/data"]
    x-ployz:
      ready: {http: {path: /healthz, port: 8080}, timeout: 30s}
  app:
    image: db:1
    environment: {VERSION: "app", BEHIND: "db:8080"}
    depends_on: {db: {condition: service_healthy}}
    deploy: {mode: global}
    x-ployz:
      routes: [{host: library.test, port: 8080}]
      ready: {http: {path: /healthz, port: 8080}, timeout: 30s}
volumes:
  data: {x-ployz: {size: 100m}}
`

// longestHold is longer than a gateway holds a request.
const longestHold = 45 * time.Second

// TestMigrateHold: while a database moves to and fro on hold, no request to the applications in front of it fails, at
// neither machine's gateway: what is let go finds the database where it is by then.
func TestMigrateHold(t *testing.T) {
	testenv.Require(t, testenv.Loop)
	m := onemachine.StartWith(t, dev.Options{Machines: 2})
	m.Must("init", "--pool", "loop", "--pool-size", "300M")
	m.Must("machine", "add", "dev://"+m.Name+"/m2", "--pool", "loop", "--pool-size", "300M")
	m.Push("db:1", nil)
	m.MustDeploy(library)
	var all load.Plan
	for _, at := range []string{"m1", "m2"} {
		for _, kind := range []string{"fresh", "kept"} {
			all.HTTP = append(all.HTTP, load.HTTP{
				Name: kind + " at " + at, URL: "http://" + at + "/behind", Host: "library.test", Want: "version rows",
				Rate: 5, Fresh: kind == "fresh", Patience: longestHold,
			})
		}
	}
	asking := m.Load(labtest.Client, all)
	for _, to := range []string{"m2", "m1", "m2", "m1", "m2", "m1"} {
		r := operate[api.MigrateResult](t, m, "migrate", "library/db", "--to", to, "--hold")
		t.Logf("to %s: a stop of %s, %s was stated", to, r.Stop, r.StopStated)
	}
	report := asking.Stop()
	t.Logf("%d requests, %d failed\n%s", report.Asked(), report.Failed(), report)
	if report.Failed() > 0 {
		t.Errorf("%d of %d requests failed", report.Failed(), report.Asked())
	}
}
