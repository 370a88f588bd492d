package bench_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/onemachine"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// sizes are what a volume holds when it is branched, from 1 MB to 10 GB.
var sizes = []int64{1 << 20, 100 << 20, 1 << 30, 10 << 30}

const heavyVolume = `name: heavy%d
services:
  web:
    image: web:1
    environment: {VERSION: "1"}
    volumes: ["data:/data"]
    x-ployz: {ready: {http: {path: /healthz, port: 8080}, timeout: 30s}}
volumes: {data: {}}
`

// BenchmarkBranchSizes branches volumes of four sizes: the storage step takes at most 150 ms, and no longer for more
// data.
func BenchmarkBranchSizes(b *testing.B) {
	testenv.Require(b, testenv.Loop)
	m := onemachine.StartWith(b, dev.Options{Machines: 1})
	m.Must("init", "--pool", "loop", "--pool-size", "16G")
	m.Push("web:1", nil)
	for i, size := range sizes {
		m.MustDeploy(fmt.Sprintf(heavyVolume, i))
		// Incompressible, as data is.
		m.Script("m1", fmt.Sprintf("f=$(echo /var/lib/ployz/pool/volumes/heavy%d.data/data)/fill && head -c %d /dev/urandom > $f && sync $f", i, size))
	}
	for b.Loop() {
		for i, size := range sizes {
			var took []float64
			for n := range 3 {
				took = append(took, branch(b, m, fmt.Sprintf("heavy%d", i), fmt.Sprintf("copy%d-%d", i, n)).Storage.D(0).Seconds())
			}
			atMost(b, 1000*median(took), 150, fmt.Sprintf("ms-%dMB", size>>20))
		}
	}
}

// branch makes one and returns what it says of itself.
func branch(b *testing.B, m *onemachine.Machine, from, to string, args ...string) (r api.BranchResult) {
	b.Helper()
	var out api.Outcome
	m.JSON(&out, append([]string{"branch", from, to}, args...)...)
	if out.Outcome != api.Committed {
		b.Fatalf("branch %s ended %s: %s", to, out.Outcome, onemachine.Said(out.Error))
	}
	if err := json.Unmarshal(out.Value, &r); err != nil {
		b.Fatal(err)
	}
	return r
}

// sql runs a statement in the database of a namespace, or one of PostgreSQL's programs.
func sql(m *onemachine.Machine, ns string, argv ...string) labtest.Result {
	return m.Ctl(append([]string{"exec", ns + "/db", "--", "env", "PGUSER=shop", "PGDATABASE=shop", "PGHOST=127.0.0.1", "PGPASSWORD=for-a-test"}, argv...)...)
}

// gigabyte is pgbench's scale at which its tables hold about a gigabyte.
const gigabyte = 70

// BenchmarkBranchShop branches the whole example with a gigabyte in its database while it serves, and rolls it back
// with its data.
func BenchmarkBranchShop(b *testing.B) {
	testenv.Require(b, testenv.ShopImages, testenv.Loop)
	m := onemachine.StartWith(b, dev.Options{Machines: 1})
	m.Must("init", "--pool", "loop", "--pool-size", "16G")
	m.Must("deploy", "-f", filepath.Join(m.PushShop("for-a-test"), "compose.yaml"))
	mustSQL(b, m, "shop", "pgbench", "-i", "-q", "-s", strconv.Itoa(gigabyte))
	for b.Loop() {
		var whole, storage []float64
		for n := range 3 {
			begin := time.Now()
			r := branch(b, m, "shop", fmt.Sprintf("try%d", n), "--secrets", "copy")
			whole, storage = append(whole, time.Since(begin).Seconds()), append(storage, 1000*r.Storage.D(0).Seconds())
			if got := mustSQL(b, m, r.Namespace, "psql", "-tAc", "select count(*) from pgbench_accounts"); got != strconv.Itoa(gigabyte*100_000) {
				b.Errorf("the branch has %s accounts", got)
			}
		}
		atMost(b, median(whole), 5, "s-branch")
		b.ReportMetric(median(storage), "ms-storage-and-checkpoint") // the storage alone: BenchmarkBranchSizes
	}
}

func mustSQL(b *testing.B, m *onemachine.Machine, ns string, argv ...string) string {
	b.Helper()
	r := sql(m, ns, argv...)
	if r.Status != 0 {
		b.Fatalf("%q in %s: %s%s", argv, ns, r.Out, r.Err)
	}
	return strings.TrimSpace(r.Out)
}

// books is a database, and beside it somebody who writes to it by its name, wherever it is.
const books = `name: books
services:
  db:
    image: shop-db
    environment: {POSTGRES_USER: shop, POSTGRES_DB: shop, POSTGRES_PASSWORD_FILE: /run/secrets/db_password}
    secrets: [db_password]
    volumes: ["data:/var/lib/postgresql"]
    stop_grace_period: 30s
    healthcheck: {test: [CMD, pg_isready, -q, -h, 127.0.0.1, -U, shop, -d, shop], interval: 2s, timeout: 3s, retries: 30}
    x-ployz: {quiesce: {before: [psql, -q, -U, postgres, -d, postgres, -c, checkpoint], timeout: 60s}}
  scribe:
    image: shop-db
    entrypoint: [sleep, infinity]
    environment: {PGUSER: shop, PGDATABASE: shop, PGHOST: db, PGPASSWORD: for-a-test}
    x-ployz: {placement: {machines: [m1]}}
volumes: {data: {x-ployz: {owner: "999:999"}}}
secrets: {db_password: {file: ./db_password}}
`

// moves is how often the database is migrated while it is written to.
const moves = 50

// BenchmarkMigrate moves a database to and fro between two machines while pgbench writes. No transaction that was
// told as committed is lost, and the stop is what was stated before. Besides PostgreSQL's own stop and start, and 1.2
// times the last delta at the bandwidth of the rounds, it is to take 300 ms.
func BenchmarkMigrate(b *testing.B) {
	testenv.Require(b, testenv.ShopImages, testenv.Loop)
	m := onemachine.StartWith(b, dev.Options{Machines: 2})
	m.Must("init", "--pool", "loop", "--pool-size", "4G")
	m.Must("machine", "add", "dev://"+m.Name+"/m2", "--pool", "loop", "--pool-size", "4G")
	m.PushShop("for-a-test")
	file := m.File("books/compose.yaml", books)
	m.File("books/db_password", "for-a-test")
	m.Must("deploy", "-f", file)
	mustSQL(b, m, "books", "pgbench", "-i", "-q", "-s", "10")
	for b.Loop() {
		w := startWriting(b, m)
		var all []stopped
		for n := range moves {
			one := stoppedIn(migrate(b, m, []string{"m2", "m1"}[n%2]))
			b.Log(one)
			all = append(all, one)
		}
		told := w.stop(b)
		has := mustSQL(b, m, "books", "psql", "-tAc", "select count(*) from pgbench_history")
		rows := number(b, has)
		b.Logf("%d transactions were told as committed, the database has %.0f", told, rows)
		atMost(b, max(0, float64(told)-rows), 0, "lost")
		b.ReportMetric(float64(told), "committed")
		report(b, all)
	}
}

// stopped is what a stop took, in milliseconds: PostgreSQL's own stop and start, the last changes by their bytes and by the
// clock, and the rest, which has in it what the last changes took beyond 1.2 times their bytes.
type stopped struct{ all, stated, stop, start, delta, carried, rest float64 }

func stoppedIn(r api.MigrateResult) stopped {
	ms := func(d api.Duration) float64 { return 1000 * d.D(0).Seconds() }
	s := stopped{
		all: ms(r.Stop), stated: ms(r.StopStated), stop: ms(r.StopParts.Stop), start: ms(r.StopParts.Start),
		carried: ms(r.StopParts.LastChanges),
	}
	for _, v := range r.Volumes {
		s.delta += 1000 * deltaSeconds(v.Rounds)
	}
	s.rest = s.all - s.stop - s.start - 1.2*s.delta
	return s
}

// deltaSeconds is the last round's bytes at the bandwidth of all rounds.
func deltaSeconds(rounds []api.MoveRound) float64 {
	var bytes, seconds float64
	for _, round := range rounds {
		bytes, seconds = bytes+float64(round.Bytes), seconds+round.Took.D(0).Seconds()
	}
	return float64(rounds[len(rounds)-1].Bytes) * seconds / bytes
}

// off is how far the stop was from the one stated, as a part of that.
func (s stopped) off() float64 { return abs(s.all/s.stated - 1) }

// String implements fmt.Stringer.
func (s stopped) String() string {
	return fmt.Sprintf("a stop of %.0f ms, %.0f ms were stated (%.0f%% off): to stop %.0f, last changes %.0f (%.0f by their bytes), to start %.0f, rest %.0f",
		s.all, s.stated, 100*s.off(), s.stop, s.carried, s.delta, s.start, s.rest)
}

// report says what the stops took in the middle and at worst, how many of them kept which bound, and what the first and the
// last of them took: each leaves a commit's snapshot behind.
func report(b *testing.B, all []stopped) {
	of := func(get func(stopped) float64) (list []float64) {
		for _, s := range all {
			list = append(list, get(s))
		}
		return list
	}
	for unit, get := range map[string]func(stopped) float64{
		"ms-stop":               func(s stopped) float64 { return s.all },
		"ms-own-stop":           func(s stopped) float64 { return s.stop },
		"ms-own-start":          func(s stopped) float64 { return s.start },
		"ms-last-changes":       func(s stopped) float64 { return s.carried },
		"ms-rest":               func(s stopped) float64 { return s.rest },
		"ms-rest-with-own-stop": func(s stopped) float64 { return s.rest + s.stop },
	} {
		b.ReportMetric(median(of(get)), unit)
	}
	rests := of(func(s stopped) float64 { return s.rest })
	fifth := len(rests) / 5
	b.ReportMetric(median(slices.Clone(rests[:fifth])), "ms-rest-first-fifth")
	b.ReportMetric(median(slices.Clone(rests[len(rests)-fifth:])), "ms-rest-last-fifth")
	b.ReportMetric(slices.Max(of(func(s stopped) float64 { return s.all })), "ms-longest-stop")
	b.ReportMetric(100*median(of(stopped.off)), "%-off-the-stated")
	share := func(holds func(stopped) bool) float64 {
		kept := 0
		for _, s := range all {
			if holds(s) {
				kept++
			}
		}
		return 100 * float64(kept) / float64(len(all))
	}
	b.ReportMetric(share(func(s stopped) bool { return s.off() <= 0.3 }), "%-stated-within-30%")
	b.ReportMetric(share(func(s stopped) bool { return s.rest <= 300 }), "%-rest-within-300ms")
}

func migrate(b *testing.B, m *onemachine.Machine, to string) (r api.MigrateResult) {
	b.Helper()
	var out api.Outcome
	m.JSON(&out, "migrate", "books/db", "--to", to)
	if out.Outcome != api.Committed {
		b.Fatalf("the migration to %s ended %s: %s", to, out.Outcome, onemachine.Said(out.Error))
	}
	if err := json.Unmarshal(out.Value, &r); err != nil {
		b.Fatal(err)
	}
	return r
}

func abs(v float64) float64 { return max(v, -v) }

// writing is pgbench, again and again: it ends when its connection does, and says how many transactions were told
// to it as committed.
type writing struct {
	m    *onemachine.Machine
	told chan int
}

// write is a loop of a minute where the scribe runs, that ends with 3 when it was enough: to begin each pgbench from here
// would take the machine's cores for that while the database is stopped, and nothing else is to be measured then.
const write = `end=$(($(date +%s) + 60))
while [ $(date +%s) -lt $end ]; do
	[ ! -e /tmp/enough ] || exit 3
	pgbench -n -N -T 5 -c 2 2>/dev/null || sleep 0.1
done`

func startWriting(b *testing.B, m *onemachine.Machine) writing {
	w := writing{m, make(chan int, 1)}
	go func() {
		told, status := 0, 0
		for status == 0 {
			r := m.Ctl("exec", "books/scribe", "--", "sh", "-c", write)
			status = r.Status
			for line := range strings.Lines(r.Out) {
				if text, is := strings.CutPrefix(line, "number of transactions actually processed: "); is {
					n, _ := strconv.Atoi(strings.TrimSpace(text))
					told += n
				}
			}
		}
		if status != 3 {
			b.Errorf("who writes ended with %d", status)
		}
		w.told <- told
	}()
	return w
}

func (w writing) stop(b *testing.B) int {
	b.Helper()
	w.m.Must("exec", "books/scribe", "--", "touch", "/tmp/enough")
	select {
	case told := <-w.told:
		return told
	case <-time.After(time.Minute):
		b.Fatal("pgbench does not end")
		return 0
	}
}
