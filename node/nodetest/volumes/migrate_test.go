package volumes_test

import (
	"strings"
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

// TestMoves has volumes go from machine to machine in the ways that TestMigrate leaves out.
func TestMoves(t *testing.T) {
	testenv.Require(t, testenv.Loop)
	m := onemachine.StartWith(t, dev.Options{Machines: 2})
	m.Must("init", "--pool", "loop", "--pool-size", "300M")
	m.Must("machine", "add", "dev://"+m.Name+"/m2", "--pool", "loop", "--pool-size", "300M")
	m.Push("db:1", nil)
	m.MustDeploy(library)
	t.Run("hold", func(t *testing.T) { migratesOnHold(t, m.In(t)) })
	t.Run("all", func(t *testing.T) { migratesAll(t, m.In(t)) })
	t.Run("send", func(t *testing.T) { sends(t, m.In(t)) })
}

// longestHold is longer than a gateway holds a request.
const longestHold = 45 * time.Second

// migratesOnHold: while a database moves to and fro on hold, no request to the applications in front of it fails, at
// neither machine's gateway: what is let go finds the database where it is by then.
func migratesOnHold(t *testing.T, m *onemachine.Machine) {
	var plan load.Plan
	for _, at := range []string{"m1", "m2"} {
		for _, kind := range []string{"fresh", "kept"} {
			plan.HTTP = append(plan.HTTP, load.HTTP{
				Name: kind + " at " + at, URL: "http://" + at + "/behind", Host: "library.test", Want: "version rows",
				Rate: 5, Fresh: kind == "fresh", Patience: longestHold,
			})
		}
	}
	asking := m.Load(labtest.Client, plan)
	for _, to := range []string{"m2", "m1", "m2", "m1"} {
		r := operate[api.MigrateResult](t, m, "migrate", "library/db", "--to", to, "--hold")
		t.Logf("to %s: a stop of %s, %s was stated: %+v", to, r.Stop, r.StopStated, r.StopParts)
	}
	report := asking.Stop()
	t.Logf("%d requests, %d failed\n%s", report.Asked(), report.Failed(), report)
	if report.Failed() > 0 {
		t.Errorf("%d of %d requests failed", report.Failed(), report.Asked())
	}
}

// migratesAll: a machine's worth goes, namespace after namespace, and where one cannot, the rest is named.
func migratesAll(t *testing.T, m *onemachine.Machine) {
	m.MustDeploy(version("1"))
	b := table{m, "book.test"}
	b.insert(t, 1, 5)
	from := liveOn(t, m, "book/data")
	to := map[string]string{"m1": "m2", "m2": "m1"}[from]
	if at := liveOn(t, m, "library/data"); at != from {
		m.Must("migrate", "library/db", "--to", from)
	}
	m.Must("machine", "set", to, "--role", "draining")
	r := m.Ctl("migrate", "--all", "--from", from, "--to", to)
	if r.Status != api.Refused.Exit() || !strings.Contains(r.Err, to+" is draining") || !strings.Contains(r.Err, "0 of 2 namespaces were moved; the rest, from book on: ployzctl migrate --all --from "+from) {
		t.Errorf("to a machine that takes nothing: %+v", r)
	}
	m.Must("machine", "set", to, "--role", "compute")
	r = m.Ctl("migrate", "--all", "--from", from)
	if r.Status != 0 || !strings.Contains(r.Err, "1 of 2: book to "+to) || !strings.Contains(r.Err, "2 of 2: library to "+to) {
		t.Fatalf("%+v", r)
	}
	for _, name := range []string{"book/data", "library/data"} {
		if at := liveOn(t, m, name); at != to {
			t.Errorf("%s is on %s", name, at)
		}
	}
	b.want(t, "1", rows(1, 5)...)
	if r := m.Ctl("migrate", "--all", "--from", from); r.Status != 0 || !strings.Contains(r.Err, from+" has no live volume") {
		t.Errorf("a second time: %+v", r)
	}
}

// liveOn is the machine that has a live volume.
func liveOn(t *testing.T, m *onemachine.Machine, name string) string {
	t.Helper()
	var detail api.VolumeDetail
	m.JSON(&detail, "volume", "show", name)
	return detail.Machine
}

// sends: a copy of a live volume comes to another machine in full, and once more with only what was written since, while
// it is written to.
func sends(t *testing.T, m *onemachine.Machine) {
	b := table{m, "book.test"}
	from := liveOn(t, m, "book/data")
	to := map[string]string{"m1": "m2", "m2": "m1"}[from]
	m.Must("volume", "prune", "book", "--older-than", "0s")
	m.Script(from, "head -c 5000000 /dev/urandom > /var/lib/ployz/pool/volumes/book.data/data/fill")
	b.insert(t, 2, 5)
	first := operate[api.VolumeSendResult](t, m, "volume", "send", "book/data", "--to", to)
	b.insert(t, 3, 5)
	again := operate[api.VolumeSendResult](t, m, "volume", "send", "book/data", "--to", to)
	if first.Move.Bytes < 5_000_000 || again.Move.Bytes > first.Move.Bytes/4 {
		t.Errorf("%d bytes were sent, and then %d", first.Move.Bytes, again.Move.Bytes)
	}
	if first.Copy.Machine != to || first.Copy.GUID == "" || again.Copy.GUID == first.Copy.GUID || again.Move.From != from || again.Move.To != to {
		t.Errorf("sent %+v, and then %+v", first, again)
	}
	m.Script(to, "grep -rqx 3.4 /var/lib/ployz/pool --include=rows")
	if at := liveOn(t, m, "book/data"); at != from {
		t.Errorf("sent, and it lives on %s", at)
	}
	b.want(t, "1", append(append(rows(1, 5), rows(2, 5)...), rows(3, 5)...)...)
}
