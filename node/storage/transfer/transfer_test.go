package transfer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs/btrfstest"
	"github.com/ployz/ployz/node/storage/storagetest"
	"github.com/ployz/ployz/node/storage/transfer"
)

const mib = 1 << 20

// pools are two machines' pools.
type pools struct {
	near, far         storage.Pool
	nearRoot, farRoot string
}

func twoPools(t testing.TB) pools {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	near, far := btrfstest.Mount(t, 400*mib), btrfstest.Mount(t, 400*mib)
	return pools{btrfstest.Create(t, near), btrfstest.Create(t, far), near, far}
}

// volume makes a volume on the near pool with two snapshots, s1 and s2, of a mebibyte each; what came of it is gone after
// the test.
func (p pools) volume(t testing.TB) storage.Volume {
	t.Helper()
	return p.volumeOf(t, mib)
}

func (p pools) volumeOf(t testing.TB, bytes int) storage.Volume {
	t.Helper()
	v, err := p.near.Ensure(t.Context(), storagetest.Spec("data"))
	storagetest.Must(t, err)
	t.Cleanup(func() { storagetest.Destroy(t, p.near, v.ID); p.clear(t, v.ID) })
	for _, s := range []string{"s1", "s2"} {
		write(t, v, s, noise(bytes))
		_, err := p.near.Snapshot(t.Context(), s, v.ID)
		storagetest.Must(t, err)
	}
	return v
}

// clear destroys what arrived at the far pool, also half.
func (p pools) clear(t testing.TB, id string) {
	t.Helper()
	storagetest.Must(t, p.far.Abandon(context.Background(), id))
	storagetest.Destroy(t, p.far, id)
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func write(t testing.TB, v storage.Volume, name string, content []byte) {
	t.Helper()
	storagetest.Must(t, os.WriteFile(filepath.Join(v.Path, name), content, 0o600))
}

func wantCode(t testing.TB, err error, code api.Code) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Fatalf("%v, want %s", err, code)
	}
	if e := api.AsError(err); e.Hint == "" {
		t.Errorf("%v has no hint", err)
	}
}

// sameFiles compares a volume with its copy, once that is live.
func (p pools) sameFiles(t testing.TB, v storage.Volume, names ...string) {
	t.Helper()
	storagetest.Must(t, p.far.Restore(t.Context(), v.ID))
	far, err := p.far.Inspect(t.Context(), v.ID)
	storagetest.Must(t, err)
	for _, name := range names {
		a, err1 := os.ReadFile(filepath.Join(v.Path, name))
		b, err2 := os.ReadFile(filepath.Join(far.Path, name))
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Fatalf("%s is another file there: %v, %v", name, err1, err2)
		}
	}
	storagetest.Must(t, p.far.Retire(t.Context(), v.ID))
}

// link is a TCP connection over loopback, with a way to spoil each side's words.
type link struct{ sender, receiver net.Conn }

func dial(t testing.TB) link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	storagetest.Must(t, err)
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	storagetest.Must(t, err)
	return link{sender: <-accepted, receiver: conn}
}

// ended is what both sides say of a transfer.
type ended struct {
	sent, got       storage.Carried
	sendErr, getErr error
}

func (l link) carry(ctx context.Context, out transfer.Outgoing, in transfer.Incoming) (e ended) {
	var both sync.WaitGroup
	both.Go(func() { e.sent, e.sendErr = transfer.Send(ctx, l.sender, out) })
	both.Go(func() { e.got, e.getErr = transfer.Receive(ctx, l.receiver, in) })
	both.Wait()
	return e
}

func (p pools) ends(v storage.Volume, snapshot string, every bool) (transfer.Outgoing, transfer.Incoming) {
	return transfer.Outgoing{Pool: p.near, Volume: v.ID, Snapshot: snapshot, Every: every},
		transfer.Incoming{Pool: p.far, As: v.Spec, Snapshot: snapshot}
}

// must carries a snapshot over a good link.
func (p pools) must(t testing.TB, v storage.Volume, snapshot string, every bool) storage.Carried {
	t.Helper()
	out, in := p.ends(v, snapshot, every)
	e := dial(t).carry(t.Context(), out, in)
	if e.sendErr != nil || e.getErr != nil {
		t.Fatalf("%v; %v", e.sendErr, e.getErr)
	}
	if e.sent.GUID != e.got.GUID || e.sent.Bytes != e.got.Bytes || e.got.Snapshot != snapshot {
		t.Fatalf("the sides differ: %+v; %+v", e.sent, e.got)
	}
	return e.got
}

func (p pools) guids(t testing.TB, pool storage.Pool, id string) (guids []string) {
	t.Helper()
	all, err := pool.ListSnapshots(t.Context(), id)
	if api.CodeOf(err) == api.CodeVolumeNotFound {
		return nil
	}
	storagetest.Must(t, err)
	for _, s := range all {
		guids = append(guids, s.GUID)
	}
	return guids
}

func TestTransfer(t *testing.T) {
	p := twoPools(t)
	for name, test := range map[string]func(*testing.T, pools){
		"Resumed":         testResumed,
		"EveryRound":      testEveryRound,
		"History":         testHistory,
		"ThereAndBack":    testThereAndBack,
		"Progress":        testProgress,
		"Rate":            testRate,
		"Refused":         testRefused,
		"Parted":          testParted,
		"Foreign":         testForeign,
		"NoRoom":          testNoRoom,
		"RunsFull":        testRunsFull,
		"TwoAtOnce":       testTwoAtOnce,
		"CutAnywhere":     testCutAnywhere,
		"CutAndGoneOn":    testCutAndGoneOn,
		"FlippedBits":     testFlippedBits,
		"Cancelled":       testCancelled,
		"Killed":          testKilled,
		"Desk":            testDesk,
		"DeskIsTakenAway": testDeskIsTakenAway,
	} {
		t.Run(name, func(t *testing.T) { test(t, p) })
	}
}

// testEveryRound is a migration: in full, and then what was written meanwhile, twice.
func testEveryRound(t *testing.T, p pools) {
	v := p.volume(t)
	full := p.must(t, v, "s1", false)
	if len(full.Streams) != 1 || full.Streams[0].BaseGUID != "" || full.Bytes < mib || full.Took <= 0 || full.Volume != v.ID {
		t.Errorf("in full: %+v", full)
	}
	delta := p.must(t, v, "s2", false)
	if len(delta.Streams) != 1 || delta.Streams[0].BaseGUID != full.GUID || delta.Streams[0].GUID != delta.GUID || delta.Bytes > 3*mib/2 {
		t.Errorf("what followed: %+v", delta)
	}
	if again := p.must(t, v, "s2", false); len(again.Streams) != 0 || again.Bytes != 0 || again.GUID != delta.GUID {
		t.Errorf("it was there: %+v", again)
	}
	write(t, v, "s3", []byte("little"))
	_, err := p.near.Snapshot(t.Context(), "s3", v.ID)
	storagetest.Must(t, err)
	if last := p.must(t, v, "s3", false); last.Bytes > mib/4 {
		t.Errorf("a few bytes are a stream of %d", last.Bytes)
	}
	p.sameFiles(t, v, "s1", "s2", "s3")
}

// testHistory: every snapshot arrives, or the last alone.
func testHistory(t *testing.T, p pools) {
	v := p.volume(t)
	all := p.must(t, v, "s2", true)
	if len(all.Streams) != 2 || all.Streams[1].BaseGUID != all.Streams[0].GUID || all.Bytes != all.Streams[0].Bytes+all.Streams[1].Bytes {
		t.Errorf("%+v", all)
	}
	if near, far := p.guids(t, p.near, v.ID), p.guids(t, p.far, v.ID); !slices.Equal(near, far) {
		t.Errorf("%v there, %v here", far, near)
	}
	p.sameFiles(t, v, "s1", "s2")
	p.clear(t, v.ID)
	if alone := p.must(t, v, "s2", false); len(alone.Streams) != 1 || len(p.guids(t, p.far, v.ID)) != 1 {
		t.Errorf("alone: %+v", alone)
	}
	p.sameFiles(t, v, "s1", "s2")
}

// testThereAndBack: what was written on the other machine comes back as what followed.
func testThereAndBack(t *testing.T, p pools) {
	v, ctx := p.volume(t), t.Context()
	p.must(t, v, "s2", true)
	storagetest.Must(t, p.near.Retire(ctx, v.ID))
	storagetest.Must(t, p.far.Restore(ctx, v.ID))
	far, err := p.far.Inspect(ctx, v.ID)
	storagetest.Must(t, err)
	write(t, far, "s3", []byte("from afar"))
	_, err = p.far.Snapshot(ctx, "s3", v.ID)
	storagetest.Must(t, err)
	back := p.turned()
	if got := back.must(t, far, "s3", true); len(got.Streams) != 1 || got.Bytes > mib/4 {
		t.Errorf("the way back: %+v", got)
	}
	storagetest.Must(t, p.far.Retire(ctx, v.ID))
	storagetest.Must(t, p.near.Restore(ctx, v.ID))
	if text, err := os.ReadFile(filepath.Join(v.Path, "s3")); err != nil || string(text) != "from afar" {
		t.Errorf("%q, %v", text, err)
	}
}

func (p pools) turned() pools { return pools{near: p.far, far: p.near} }

func testProgress(t *testing.T, p pools) {
	v := p.volume(t)
	out, in := p.ends(v, "s2", true)
	var here, there []storage.Progress
	out.Progress = func(s storage.Progress) { here = append(here, s) }
	in.Progress = func(s storage.Progress) { there = append(there, s) }
	out.BytesPerSecond = 3 * mib // so that there is something to tell
	e := dial(t).carry(t.Context(), out, in)
	if e.sendErr != nil || e.getErr != nil {
		t.Fatal(e.sendErr, e.getErr)
	}
	for side, told := range map[string][]storage.Progress{"the sender": here, "the receiver": there} {
		if len(told) < 3 {
			t.Fatalf("%s told %d times", side, len(told))
		}
		for i, s := range told[:len(told)-1] {
			if s.Bytes > told[i+1].Bytes || s.Bytes > s.TotalBytes || s.BytesPerSecond <= 0 {
				t.Errorf("%s: %+v", side, s)
			}
		}
		first, last := told[0], told[len(told)-1]
		if last.Bytes != e.got.Bytes || last.TotalBytes != last.Bytes || last.Left != 0 {
			t.Errorf("%s ends with %+v, and %d bytes came", side, last, e.got.Bytes)
		}
		if is := float64(last.Bytes); float64(first.TotalBytes) < 0.95*is || float64(first.TotalBytes) > 1.05*is || first.Left <= 0 {
			t.Errorf("%s estimates %+v, and it is %.0f", side, first, is)
		}
	}
}

// testRate: the limit is kept, and a transfer that is limited comes near it.
func testRate(t *testing.T, p pools) {
	v := p.volume(t)
	out, in := p.ends(v, "s2", true)
	out.BytesPerSecond = 2 * mib
	e := dial(t).carry(t.Context(), out, in)
	if e.sendErr != nil || e.getErr != nil {
		t.Fatal(e.sendErr, e.getErr)
	}
	// A tenth of a second's worth may go at once, at the beginning.
	free := float64(out.BytesPerSecond) / 10
	if ratio := (float64(e.sent.Bytes) - free) / e.sent.Took.Seconds() / float64(out.BytesPerSecond); ratio > 1.02 || ratio < 0.2 {
		t.Errorf("%d bytes in %s: %.2f of the limit", e.sent.Bytes, e.sent.Took, ratio)
	}
}

// testCancelled: either side may be told to stop, and both do, at once.
func testCancelled(t *testing.T, p pools) {
	v := p.volume(t)
	for _, side := range []string{"sender", "receiver"} {
		out, in := p.ends(v, "s2", true)
		out.BytesPerSecond = mib / 2
		ctx, stop := context.WithCancelCause(t.Context())
		why := api.Errorf(api.CodeLeaseLost, "another took over")
		tell := func(storage.Progress) { stop(why) }
		var e ended
		var both sync.WaitGroup
		l, begun := dial(t), time.Now()
		senderCtx, receiverCtx := t.Context(), t.Context()
		if side == "sender" {
			out.Progress, senderCtx = tell, ctx
		} else {
			in.Progress, receiverCtx = tell, ctx
		}
		both.Go(func() { e.sent, e.sendErr = transfer.Send(senderCtx, l.sender, out) })
		both.Go(func() { e.got, e.getErr = transfer.Receive(receiverCtx, l.receiver, in) })
		both.Wait()
		own, other := e.sendErr, e.getErr
		if side == "receiver" {
			own, other = other, own
		}
		if api.CodeOf(own) != api.CodeLeaseLost || api.CodeOf(other) != api.CodeVolumeTransferCut {
			t.Errorf("the %s was told to stop: %v; the other: %v", side, own, other)
		}
		if took := time.Since(begun); took > 3*time.Second { // the whole takes four
			t.Errorf("the %s was told to stop, and they took %s", side, took)
		}
		p.clear(t, v.ID)
	}
}

// unmeasured is a pool that says of no stream how long it is.
type unmeasured struct{ storage.Pool }

func (unmeasured) Estimate(context.Context, storage.From) (int64, error) { return 0, errNoEstimate }

var errNoEstimate = errors.New("nobody should have asked")

// TestUnmeasured: where it is not to be measured first, nobody asks how much it is, and all of it comes.
func TestUnmeasured(t *testing.T) {
	p := twoPools(t)
	v := p.volume(t)
	for _, without := range []bool{false, true} {
		l, sent := dial(t), make(chan error, 1)
		go func() {
			_, err := transfer.Send(t.Context(), l.sender, transfer.Outgoing{Pool: unmeasured{p.near}, Volume: v.ID, Snapshot: "s2", Every: true, Unmeasured: without})
			sent <- err
		}()
		got, err := transfer.Receive(t.Context(), l.receiver, transfer.Incoming{Pool: p.far, As: v.Spec, Snapshot: "s2"})
		if failed := <-sent; without != (err == nil) || without != (failed == nil) {
			t.Fatalf("%v: received %v, sent %v", without, err, failed)
		}
		if without && (got.Bytes < 2*mib || len(got.Streams) != 2) {
			t.Errorf("%+v", got)
		}
	}
	p.sameFiles(t, v, "s1", "s2")
}
