package transfer_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/storagetest"
	"github.com/ployz/ployz/node/storage/zfs"
)

// zpool makes a pool of ZFS in a file.
func zpool(t testing.TB) storage.Pool {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.ZFS)
	disk, name := filepath.Join(t.TempDir(), "disk"), "ployztest"+strconv.FormatInt(time.Now().UnixNano(), 36)
	storagetest.Must(t, os.WriteFile(disk, nil, 0o600))
	storagetest.Must(t, os.Truncate(disk, 256*mib))
	run := func(args ...string) error {
		out, err := exec.Command("zpool", args...).CombinedOutput()
		if err != nil {
			t.Logf("zpool %v: %s", args, out)
		}
		return err
	}
	storagetest.Must(t, run("create", "-O", "mountpoint=none", name, disk))
	t.Cleanup(func() {
		for range 2 { // what a failed test left mounted is busy for a moment
			if run("destroy", "-f", name) == nil {
				return
			}
		}
		t.Errorf("%s is left", name)
	})
	p, err := zfs.Create(t.Context(), name, t.TempDir())
	storagetest.Must(t, err)
	return p
}

// TestZFS runs what does not depend on Btrfs, and that a broken stream goes on where it broke.
func TestZFS(t *testing.T) {
	p := pools{near: zpool(t), far: zpool(t)}
	for name, test := range map[string]func(*testing.T, pools){
		"EveryRound":         testEveryRound,
		"History":            testHistory,
		"ThereAndBack":       testThereAndBack,
		"Refused":            testRefused,
		"Parted":             testParted,
		"TwoAtOnce":          testTwoAtOnce,
		"CutAndGoneOn":       testCutAndGoneOn,
		"FlippedBits":        testFlippedBits,
		"Desk":               testDesk,
		"ResumesInTheMiddle": testResumesInTheMiddle,
	} {
		t.Run(name, func(t *testing.T) { test(t, p) })
	}
}

// BenchmarkTransferZFS is BenchmarkTransfer on real ZFS.
func BenchmarkTransferZFS(b *testing.B) { benchmarkTransfer(b, pools{near: zpool(b), far: zpool(b)}) }

// testResumesInTheMiddle: of a stream that broke only the rest is sent; and what broke is dropped where another snapshot is
// wanted first.
func testResumesInTheMiddle(t *testing.T, p pools) {
	v := p.volumeOf(t, 4*mib)
	broken := func(snapshot string) {
		t.Helper()
		l := dial(t)
		l.sender = &faulty{Conn: l.sender, spoil: cutAt(12)}
		out, in := p.ends(v, snapshot, false)
		if e := l.carry(t.Context(), out, in); e.getErr == nil {
			t.Fatal("it did not break")
		}
	}
	broken("s1")
	if got := p.must(t, v, "s2", true); len(got.Streams) != 2 || !got.Streams[0].Resumed || got.Streams[0].Bytes > 3*mib {
		t.Errorf("it began again: %+v", got)
	}
	p.sameFiles(t, v, "s1", "s2")
	p.clear(t, v.ID)
	broken("s2")
	if got := p.must(t, v, "s2", true); len(got.Streams) != 2 || got.Streams[0].Resumed || got.Streams[0].Bytes < 4*mib {
		t.Errorf("it went on with another's: %+v", got)
	}
	p.sameFiles(t, v, "s1", "s2")
}
