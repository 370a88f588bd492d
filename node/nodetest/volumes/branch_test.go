package volumes_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// maskedVersion is book with a job that runs in branches alone, before anything serves what it changes.
func maskedVersion(v string) string {
	job := `  mask:
    image: db:1
    command: [/agent, "write=/data/masked"]
    volumes: ["data:/data"]
    x-ployz: {job: branch}
volumes:`
	return strings.Replace(version(v), "volumes:\n  data: {", job+"\n  data: {", 1)
}

// of is the book as another namespace serves it.
func (b table) of(host string) table { return table{b.Machine, host} }

// operate runs a command that must commit, and returns its value.
func operate[V any](t *testing.T, m *onemachine.Machine, args ...string) (value V) {
	t.Helper()
	var out api.Outcome
	m.JSON(&out, args...)
	if out.Outcome != api.Committed {
		t.Fatalf("%q ended %s: %s", args, out.Outcome, onemachine.Said(out.Error))
	}
	if len(out.Value) > 0 {
		if err := json.Unmarshal(out.Value, &value); err != nil {
			t.Fatal(err)
		}
	}
	return value
}

// TestBranch: a branch has the rows of its moment and its own from then on; what it runs is promoted, with its rows
// where that is asked for, and that is taken back like any rollback with data.
func TestBranch(t *testing.T) {
	testenv.Require(t, testenv.Loop)
	m := onemachine.StartWith(t, dev.Options{Machines: 1})
	m.Must("init", "--pool", "loop", "--pool-size", "300M")
	m.Push("db:1", nil)
	m.MustDeploy(maskedVersion("1"))
	original := table{m, "book.test"}
	original.insert(t, 1, 5)
	made := operate[api.BranchResult](t, m, "branch", "book", "try")
	t.Logf("the branch took %s, of which %s for its data", made.Ready, made.Storage)
	branch := original.of("try.book.test")
	branch.want(t, "1", rows(1, 5)...)
	if r := branch.get("/file?path=/data/masked"); r.Status != 0 {
		t.Errorf("the branch was not masked: %s%s", r.Out, r.Err)
	}
	if r := original.get("/file?path=/data/masked"); r.Status == 0 {
		t.Error("the job of branches ran on the original's data")
	}
	branch.insert(t, 2, 3)
	original.insert(t, 3, 2)
	branch.want(t, "1", append(rows(1, 5), rows(2, 3)...)...)
	original.want(t, "1", append(rows(1, 5), rows(3, 2)...)...)

	m.MustDeploy(strings.Replace(maskedVersion("2"), "book.test", "try.book.test", 1), "--namespace", "try")
	m.Must("promote", "try")
	original.want(t, "2", append(rows(1, 5), rows(3, 2)...)...)
	m.Must("promote", "try", "--with-data")
	original.want(t, "2", append(rows(1, 5), rows(2, 3)...)...)
	m.Must("rollback", "book", "--with-data")
	original.want(t, "2", append(rows(1, 5), rows(3, 2)...)...)
	branchDies(t, m, original)
	m.Must("branch", "prune", "try")
	if left := m.Must("branch", "ls"); strings.Contains(left, "try") {
		t.Errorf("pruned, and there is\n%s", left)
	}
	original.want(t, "2", append(rows(1, 5), rows(3, 2)...)...)
}

// branchDies kills the daemon when a branch's volume is there and its release is not, since its masking does not end.
// Resolving takes it away.
func branchDies(t *testing.T, m *onemachine.Machine, original table) {
	t.Helper()
	m.MustDeploy(strings.Replace(maskedVersion("2"), `"write=/data/masked"`, "serve", 1))
	before := m.Script("m1", "ls /var/lib/ployz/pool/volumes")
	cmd, cancel := m.Command("branch", "book", "half")
	defer cancel()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.Script("m1", "until test -e /var/lib/ployz/pool/volumes/half.data; do :; done; systemctl kill --signal=KILL ployzd")
	if err := cmd.Wait(); err == nil {
		t.Error("the branch ended well")
	}
	m.AwaitDaemon()
	var list []api.OperationSummary
	m.JSON(&list, "operation", "ls", "-n", "1")
	if list[0].Kind != api.KindBranch || list[0].State != string(api.Interrupted) {
		t.Fatalf("the last operation is %+v", list[0])
	}
	if r := original.get("/"); r.Status != 0 {
		t.Errorf("the original does not serve: %s%s", r.Out, r.Err)
	}
	m.Must("operation", "resolve", list[0].Operation)
	if after := m.Script("m1", "ls /var/lib/ployz/pool/volumes"); after != before {
		t.Errorf("the pool had\n%s\nand has\n%s", before, after)
	}
}

// TestMigrate: rows that are written while the volume moves are there afterwards, no request that was asked to wait
// fails, and the way back carries what changed.
func TestMigrate(t *testing.T) {
	testenv.Require(t, testenv.Loop)
	m := onemachine.StartWith(t, dev.Options{Machines: 2})
	m.Must("init", "--pool", "loop", "--pool-size", "300M")
	m.Must("machine", "add", "dev://"+m.Name+"/m2", "--pool", "loop", "--pool-size", "300M")
	m.Push("db:1", nil)
	m.MustDeploy(strings.Replace(book, "size: 100m, ", "", 1))
	b := table{m, "book.test"}
	b.insert(t, 1, 5)
	m.Script("m1", "head -c 20000000 /dev/urandom > /var/lib/ployz/pool/volumes/book.data/data/fill")
	written := make(chan int, 1)
	enough := make(chan struct{})
	go func() { written <- b.scribble(t, enough) }()
	there := operate[api.MigrateResult](t, m, "migrate", "book/db", "--to", "m2", "--hold")
	close(enough)
	n := <-written
	b.want(t, "1", append(rows(1, 5), rows(2, n)...)...)
	back := operate[api.MigrateResult](t, m, "migrate", "book", "--to", "m1")
	b.want(t, "1", append(rows(1, 5), rows(2, n)...)...)
	t.Logf("%d rows were written meanwhile; the stop was to take %s and took %s, back %s and %s", n, there.StopStated, there.Stop, back.StopStated, back.Stop)
	if to, from := there.Volumes["data"].Bytes, back.Volumes["data"].Bytes; to < 20_000_000 || from > to/4 {
		t.Errorf("%d bytes went there and %d back", to, from)
	}
	if shown := m.Must("volume", "show", "book/data"); !strings.Contains(shown, "on m1") || !strings.Contains(shown, "copy on m2, left by a migration") {
		t.Errorf("the volume is\n%s", shown)
	}
}

// scribble writes rows, one after the other, until it is enough, and returns how many.
func (b table) scribble(t *testing.T, enough <-chan struct{}) (n int) {
	for ; ; n++ {
		select {
		case <-enough:
			return n
		default:
		}
		if r := b.getWithin("40", "/append?path=/data/rows&row="+rows(2, n+1)[n]); r.Status != 0 {
			t.Errorf("row %d: %s%s", n, r.Out, r.Err)
			return n
		}
	}
}
