package volumes_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/onemachine"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// rollbackAim is what a rollback with data may take.
const rollbackAim = 5 * time.Second

// book keeps rows in a volume.
const book = `name: book
services:
  db:
    image: db:1
    environment: {VERSION: "1"}
    volumes: ["data:/data"]
    x-ployz:
      routes: [{host: book.test, port: 8080}]
      ready: {http: {path: /healthz, port: 8080}, timeout: 30s}
volumes:
  data: {x-ployz: {size: 100m, mode: "0750"}}
`

func version(v string) string {
	return strings.Replace(book, `VERSION: "1"`, `VERSION: "`+v+`"`, 1)
}

// table is the volume as its service's clients see it.
type table struct {
	*onemachine.Machine
	host string
}

func (b table) get(path string) labtest.Result { return b.getWithin("10", path) }

// getWithin asks for a path and waits some seconds for the answer.
func (b table) getWithin(seconds, path string) labtest.Result {
	return b.Try(labtest.Client, "curl", "-sS", "--fail-with-body", "--max-time", seconds, "-H", "Host: "+b.host, "http://m1"+path)
}

// insert writes rows, each acknowledged once it is on the disk.
func (b table) insert(t *testing.T, commit, n int) {
	t.Helper()
	for i := range n {
		if r := b.get(fmt.Sprintf("/append?path=/data/rows&row=%d.%d", commit, i)); r.Status != 0 {
			t.Fatalf("row %d.%d: %s%s", commit, i, r.Out, r.Err)
		}
	}
}

// want compares the rows with those of commits, and which version serves them.
func (b table) want(t *testing.T, version string, rows ...string) {
	t.Helper()
	if r := b.get("/"); !strings.HasPrefix(r.Out, "version "+version+" ") {
		t.Errorf("version %s is to serve: %s%s", version, r.Out, r.Err)
	}
	if r := b.get("/file?path=/data/rows"); r.Status != 0 || r.Out != strings.Join(rows, "\n")+"\n" {
		t.Errorf("rows %q %s, want %q", r.Out, r.Err, rows)
	}
}

// rows are those that insert writes.
func rows(commit, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%d.%d", commit, i))
	}
	return all
}

// rollback goes back with data and returns what it took, as the ledger has it.
func (b table) rollback(t *testing.T, args ...string) time.Duration {
	t.Helper()
	var out api.Outcome
	b.JSON(&out, append([]string{"rollback", "book", "--with-data"}, args...)...)
	if out.Outcome != api.Committed {
		t.Fatalf("the rollback ended %s: %s", out.Outcome, onemachine.Said(out.Error))
	}
	return out.Took.D(0)
}

// TestRollbackWithData: rows are those that the commit left, and undoing the rollback gives the newer ones back.
func TestRollbackWithData(t *testing.T) {
	testenv.Require(t, testenv.Loop)
	m := onemachine.StartWith(t, dev.Options{Machines: 1})
	m.Must("init", "--pool", "loop", "--pool-size", "300M")
	m.Push("db:1", nil)
	b := table{m, "book.test"}
	m.MustDeploy(version("1"))
	b.insert(t, 1, 20)
	m.MustDeploy(version("2"))
	b.insert(t, 2, 30)
	first, both := rows(1, 20), append(rows(1, 20), rows(2, 30)...)
	b.want(t, "2", both...)

	plan := m.Must("rollback", "book", "--to", "1", "--with-data", "--preview")
	if !strings.Contains(plan, "as commit 1 left it: a clone of c2 of v") || !strings.Contains(plan, "comes back with: ployzctl rollback book --to 2 --with-data") {
		t.Errorf("the plan says\n%s", plan)
	}
	t.Log("\n" + plan)
	b.want(t, "2", both...)
	back := b.rollback(t, "--to", "1")
	b.want(t, "1", first...)
	b.insert(t, 3, 5)
	again := b.rollback(t)
	b.want(t, "2", both...)
	third := b.rollback(t, "--to", "3")
	b.want(t, "1", append(first, rows(3, 5)...)...)
	for _, took := range []time.Duration{back, again, third} {
		if took > rollbackAim {
			t.Errorf("a rollback with data took %v, the aim is %v", took, rollbackAim)
		}
	}
	t.Logf("back with data in %v, undone in %v, and once more in %v (aim %v)", back, again, third, rollbackAim)
	t.Log("\n" + m.Must("history", "book") + m.Must("volume", "ls", "book"))
	t.Run("ployzd dies when the data is swapped", func(t *testing.T) { diesSwapped(t, table{m.In(t), b.host}) })
}

// diesSwapped kills the daemon once the volume has changed places, and before anything serves with it. What it left is
// not served from until it is resolved, which puts everything back.
func diesSwapped(t *testing.T, b table) {
	const mark = "/var/lib/ployz/pool/volumes/book.data/volume.json"
	was := b.get("/file?path=/data/rows").Out
	id := b.Run("m1", "cat", mark)
	cmd, cancel := b.Command("rollback", "book", "--to", "4", "--with-data")
	defer cancel()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.Script("m1", "before=$(cat "+mark+"); while test \"$(cat "+mark+" 2>/dev/null || echo \"$before\")\" = \"$before\"; do :; done; systemctl kill --signal=KILL ployzd")
	if err := cmd.Wait(); err == nil {
		t.Error("the rollback ended well")
	}
	b.AwaitDaemon()
	var list []api.OperationSummary
	b.JSON(&list, "operation", "ls", "-n", "1")
	if list[0].Kind != api.KindRollback || list[0].State != string(api.Interrupted) {
		t.Fatalf("the last operation is %+v", list[0])
	}
	b.Must("operation", "resolve", list[0].Operation)
	b.want(t, "1", strings.Split(strings.TrimSpace(was), "\n")...)
	if now := b.Run("m1", "cat", mark); now != id {
		t.Errorf("it was %s and is %s", id, now)
	}
	b.rollback(t, "--to", "4")
	b.want(t, "2", append(rows(1, 20), rows(2, 30)...)...)
}
