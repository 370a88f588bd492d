package vm_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/nodetest/vm"
)

// TestStateOnZFS is what an operator does with data, on real OpenZFS: snapshots, clones, branches, promotions, rollbacks and
// migrations of a volume that is written to, between two machines with the kernel's WireGuard. Where a snapshot cannot go
// before what began as it, the refusal says so, and the order that works does.
func TestStateOnZFS(t *testing.T) {
	c := founded(t)
	c.deploy("1", "book", original)
	c.insert(original, 1, 5)
	c.want(original, "1", rows(1, 5))
	for _, step := range stateSteps {
		if !t.Run(step.name, func(t *testing.T) { step.test(t, c.in(t)) }) {
			return // the next one begins with what this one leaves
		}
	}
}

// stateSteps come one after the other.
var stateSteps = []struct {
	name string
	test func(*testing.T, cluster)
}{
	{"snapshot and clone", testClone},
	{"branch and promote", testBranch},
	{"rollback with data", testRollback},
	{"send", testSend},
	{"migrate", testMigrate},
	{"prune", testPrune},
	{"figures", testFigures},
}

// testClone: a clone is of its moment; the snapshot that it began as stays until it is gone.
func testClone(t *testing.T, c cluster) {
	c.do("volume snapshot book/data first")
	c.insert(original, 2, 3)
	made := operate[api.VolumeResult](c, "volume clone book/data@first trial")
	if got := c.m1.Run("cat " + c.live("book", "trial").Path + "/rows"); got != strings.Join(rows(1, 5), "\n") {
		t.Errorf("the clone has %q", got)
	}
	c.want(original, "1", rows(1, 5), rows(2, 3))
	c.refused("volume snapshot rm book/data first", api.CodeVolumeSnapshotNeeded, made.ID)
	shown := c.ctl("volume ls book; ployzctl volume show book/data; ployzctl volume show book/trial")
	t.Log("\n" + shown)
	for _, word := range []string{"trial", "first", "NEEDED-BY"} {
		if !strings.Contains(shown, word) {
			t.Errorf("nothing says %q", word)
		}
	}
	c.do("volume rm book/trial")
	c.refused("volume snapshot rm book/data first", api.CodeVolumeSnapshotNeeded, made.ID)
	c.do("volume prune book --id " + made.ID)
	c.do("volume snapshot rm book/data first")
	c.absent(c.m1, "@first")
}

// absent asks the pool itself.
func (c cluster) absent(m *vm.Machine, what string) {
	c.t.Helper()
	if all := m.Run("zfs list -H -t all -o name -r tank"); strings.Contains(all, what) {
		c.t.Errorf("%s is left:\n%s", what, all)
	}
}

// testBranch: neither side sees the other's rows until they are promoted, and that is taken back. The branch's volume is what
// the promoted one began as: it stays until that is gone.
func testBranch(t *testing.T, c cluster) {
	before := c.rowsNow()
	made := operate[api.BranchResult](c, "branch book try")
	t.Logf("the branch took %s, of which %s for its data", made.Ready, made.Storage)
	c.insert(branch, 3, 2)
	c.insert(original, 4, 2)
	own, branched := [][]string{before, rows(4, 2)}, [][]string{before, rows(3, 2)}
	c.want(branch, "1", branched...)
	c.want(original, "1", own...)
	c.deploy("2", "try", branch)
	c.do("promote try --with-data")
	c.want(original, "2", branched...)
	t.Log("\n" + c.ctl("volume show book/data; ployzctl branch ls; ployzctl volume ls"))
	promoted := c.live("book", "data").ID
	c.insert(original, 5, 1) // lost by the rollback, and kept by it
	c.do("rollback book --with-data")
	c.want(original, "1", own...)
	c.want(branch, "2", branched...)

	c.do("branch rm try")
	kept := c.keptOf("try")
	if len(kept) != 1 {
		t.Fatalf("the branch keeps %v", kept)
	}
	c.refused("volume prune try --keep-commits 1 --id "+kept[0], api.CodeVolumeSnapshotNeeded, promoted)
	c.deploy("1", "book", original) // the next commit lets go what the one before it can be gone back to with
	c.do("volume prune book --older-than 0s --keep-commits 1")
	c.absent(c.m1, promoted)
	c.do("volume prune try --keep-commits 1 --id " + kept[0])
	c.absent(c.m1, kept[0])
	c.want(original, "1", own...)
}

// testRollback goes back with data, and forth.
func testRollback(t *testing.T, c cluster) {
	before := c.rowsNow()
	c.deploy("3", "book", original)
	c.insert(original, 6, 3)
	c.do("rollback book --with-data")
	c.want(original, "1", before)
	c.insert(original, 7, 1)
	c.do("rollback book --with-data")
	c.want(original, "3", before, rows(6, 3))
	t.Log("\n" + c.ctl("history book; ployzctl volume show book/data"))
}

func (c cluster) rowsNow() []string {
	c.t.Helper()
	return strings.Split(c.m1.Run(ask(original, "/file?path=/data/rows")), "\n")
}

// testSend: the first copy is in full, the next one of what was written since.
func testSend(t *testing.T, c cluster) {
	c.m1.Run("head -c 20000000 /dev/urandom >" + c.live("book", "data").Path + "/fill; sync")
	full := operate[api.VolumeSendResult](c, "volume send book/data --to m2")
	c.insert(original, 8, 1)
	next := operate[api.VolumeSendResult](c, "volume send book/data --to m2")
	if full.Move.Bytes < 20_000_000 || next.Move.Bytes > 2_000_000 {
		t.Errorf("%d bytes in full, and %d of what was written since", full.Move.Bytes, next.Move.Bytes)
	}
	dataset := "tank/ployz/kept/" + next.ID
	if far := guid(c.m2, dataset+"@"+next.Copy.Snapshot); far != next.Copy.GUID {
		t.Errorf("the copy's snapshot is %s, and %s was told", far, next.Copy.GUID)
	}
	c.refused("volume prune book --id "+next.ID, api.CodeVolumeCopied, "--machine m2")
	c.do("volume prune book --id " + next.ID + " --machine m2")
	c.absent(c.m2, next.ID)
}

// scribe appends rows until /run/enough is there, and prints how many were acknowledged, and how often one had to be sent
// again. It asks as a client does, by the gateway of the machine that it is on. A gateway holds a request for 30 s, which an
// emulated machine may need for more than a stop: then it says so, and has not passed the request on.
const scribe = `rm -f /run/enough; i=0 again=0
while ! test -e /run/enough; do
  until curl -sS --fail-with-body --max-time 300 -H 'Host: book.test' "http://127.0.0.1/append?path=/data/rows&row=9.$i" >/run/said 2>&1; do
    grep -q held-too-long /run/said || { cat /run/said; exit 1; }
    again=$((again+1))
  done
  i=$((i+1))
done
echo $i $again`

// testMigrate moves the volume while it is written to, and back.
func testMigrate(t *testing.T, c cluster) {
	before := c.rowsNow()
	type wrote struct {
		said string
		ok   bool
	}
	written := make(chan wrote, 1)
	go func() {
		said, ok := c.m1.Try(scribe)
		written <- wrote{said, ok}
	}()
	out := c.try("migrate book/db --to m2 --hold")
	c.m1.Run("touch /run/enough")
	w := <-written
	var n, again int
	if _, err := fmt.Sscan(w.said, &n, &again); !w.ok || err != nil {
		t.Errorf("the writer ended: %s", w.said)
	}
	there := moved(t, out)
	all := append(before, rows(9, n)...)
	c.want(original, "3", all)
	c.evidence(c.m1, c.m2, there)
	c.insert(original, 10, 2)
	back := moved(t, c.try("migrate book --to m1"))
	c.want(original, "3", all, rows(10, 2))
	c.evidence(c.m2, c.m1, back)
	to, from := there.Volumes["data"], back.Volumes["data"]
	t.Logf("%d rows were acknowledged meanwhile, and %d times one was held for too long; there: %d bytes in %d rounds, the stop was to take %s and took %s; back: %d bytes in %d rounds, %s and %s",
		n, again, to.Bytes, len(to.Rounds), there.StopStated, there.Stop, from.Bytes, len(from.Rounds), back.StopStated, back.Stop)
	if to.Bytes < 20_000_000 || from.Bytes > to.Bytes/4 {
		t.Errorf("%d bytes went there and %d back", to.Bytes, from.Bytes)
	}
	if shown := c.ctl("volume show book/data"); !strings.Contains(shown, "on m1") || !strings.Contains(shown, "copy on m2, left by a migration") {
		t.Errorf("the volume is\n%s", shown)
	}
}

func moved(t *testing.T, out api.Outcome) (r api.MigrateResult) {
	t.Helper()
	if out.Outcome != api.Committed {
		t.Fatalf("the migration ended %s: %v %+v", out.Outcome, out.Error, out.Leftovers)
	}
	if err := json.Unmarshal(out.Value, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// evidence asks both pools for the snapshot that a migration says both have.
func (c cluster) evidence(from, to *vm.Machine, r api.MigrateResult) {
	c.t.Helper()
	v := r.Volumes["data"]
	near := guid(from, "tank/ployz/kept/"+r.Kept[0]+"@"+v.Snapshot)
	far := guid(to, "tank/ployz/volumes/book.data@"+v.Snapshot)
	if v.GUID == "" || near != v.GUID || far != v.GUID {
		c.t.Errorf("%s is %s on the old machine and %s on the new, and %s was told", v.Snapshot, near, far, v.GUID)
	}
}

// testPrune leaves the live volume and what it began as, since a clone cannot be without that, and nothing else.
func testPrune(t *testing.T, c cluster) {
	before := c.rowsNow()
	c.do("volume prune book --older-than 0s --keep-commits 1")
	t.Log("\n" + c.ctl("volume show book/data"))
	c.want(original, "3", before)
	t.Log("\n" + c.m1.Run("zfs list -H -t all -o name,used,origin,clones -r tank"))
	for _, id := range c.keptOf("book") {
		if got := c.m1.Run("zfs list -H -t snapshot -o clones -r tank/ployz/kept/" + id + " | grep -v '^-$' || true"); got == "" {
			t.Errorf("%s is kept, and nothing began as it", id)
		}
	}
	if got := c.m2.Run("zfs list -H -t all -o name -r tank/ployz/kept tank/ployz/incoming"); strings.Count(got, "\n") != 1 {
		t.Errorf("m2 keeps\n%s", got)
	}
}

// sizes are what a volume holds when it is branched: from 1 MB to 1 GB, and to 10 GB where a test may take long.
func sizes() []int64 {
	all := []int64{1 << 20, 100 << 20, 1 << 30}
	if testenv.Long.Missing() == "" {
		all = append(all, 10<<30)
	}
	return all
}

const heavy = `name: heavy%d
services:
  web:
    image: web:1
    environment: {VERSION: "1"}
    volumes: ["data:/data"]
    x-ployz: {placement: {machines: [m1]}, ready: {http: {path: /healthz, port: 8080}, timeout: 180s}}
volumes: {data: {}}
`

// byHand are the two commands that a branch's storage step comes down to. It prints their milliseconds.
const byHand = `a=$(date +%%s%%N); zfs snapshot %[1]s@hand; zfs clone %[1]s@hand tank/hand; b=$(date +%%s%%N)
zfs destroy tank/hand; zfs destroy %[1]s@hand; echo $(((b-a)/1000000))`

// testFigures branches volumes of several sizes. The aim, 150 ms, is for hardware; what can be told here is that the time does not
// grow with the data, and how many times that of the two commands by hand it is.
func testFigures(t *testing.T, c cluster) {
	block := "/var/tmp/block" // 16 MiB that do not compress, again and again: nothing here looks for the same twice
	c.m1.Run("head -c 16777216 /dev/urandom >" + block)
	var branches, hands []time.Duration
	for i, size := range sizes() {
		ns := fmt.Sprintf("heavy%d", i)
		c.m1.Run("cat >/root/heavy.yaml <<'END'\n" + fmt.Sprintf(heavy, i) + "END")
		c.do("deploy -f /root/heavy.yaml")
		began := time.Now()
		c.m1.Run(fmt.Sprintf("f=%s/fill; n=%d; while test $n -gt 0; do head -c $n %s; n=$((n-16777216)); done >$f; sync $f", c.live(ns, "data").Path, size, block))
		wrote := time.Since(began)
		var ours, hand []time.Duration
		for n := range 3 {
			to := fmt.Sprintf("copy%d-%d", i, n)
			ours = append(ours, operate[api.BranchResult](c, "branch "+ns+" "+to).Storage.D(0))
			ms, err := strconv.Atoi(c.m1.Run(fmt.Sprintf(byHand, "tank/ployz/volumes/"+ns+".data")))
			if err != nil {
				t.Fatal(err)
			}
			hand = append(hand, time.Duration(ms)*time.Millisecond)
			c.do("branch rm " + to)
		}
		branches, hands = append(branches, median(ours)), append(hands, median(hand))
		t.Logf("%d MB (written in %v): the storage step of a branch %v, by hand %v: %.1f times", size>>20, wrote.Round(time.Second), median(ours), median(hand), float64(median(ours))/float64(median(hand)))
	}
	if first, last := branches[0], branches[len(branches)-1]; last > 2*first {
		t.Errorf("of the least data a branch takes %v, of the most %v", first, last)
	}
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
