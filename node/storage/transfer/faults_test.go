package transfer_test

import (
	mrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/storagetest"
	"github.com/ployz/ployz/node/storage/transfer"
)

// faulty is one side's connection. Before each write it asks what becomes of the bytes.
type faulty struct {
	net.Conn

	mu     sync.Mutex
	writes int
	spoil  func(n int, p []byte) (send []byte, cut bool)
}

// Write implements net.Conn.
func (f *faulty) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	send, cut := f.spoil(f.writes, p)
	f.writes++
	n, err := f.Conn.Write(send)
	if cut {
		f.Conn.Close()
		return min(n, len(p)), net.ErrClosed
	}
	return n, err
}

// cutAt ends a connection in its nth write: before, in the middle or after, in turn.
func cutAt(n int) func(int, []byte) ([]byte, bool) {
	return func(at int, p []byte) ([]byte, bool) {
		if at < n {
			return p, false
		}
		return p[:len(p)*(n%3)/2], true
	}
}

// TestTransfer/CutAnywhere: at every frame of either side. What is left is the source as it was, and of the copy nothing,
// or snapshots that are whole; and the next try ends well.
func testCutAnywhere(t *testing.T, p pools) {
	v := p.volume(t)
	for _, side := range []string{"sender", "receiver"} {
		cuts := 0
		for n := 0; ; n++ {
			l := dial(t)
			f := &faulty{spoil: cutAt(n)}
			if side == "sender" {
				f.Conn, l.sender = l.sender, f
			} else {
				f.Conn, l.receiver = l.receiver, f
			}
			out, in := p.ends(v, "s2", true)
			e := l.carry(t.Context(), out, in)
			if e.sendErr == nil && e.getErr == nil {
				break
			}
			cuts++
			for who, err := range map[string]error{"sender": e.sendErr, "receiver": e.getErr} {
				// The last word may have been heard although whoever said it does not know.
				if api.CodeOf(err) != api.CodeVolumeTransferCut && !(err == nil && who != side) {
					t.Fatalf("the %s was cut in frame %d, and the %s says: %v", side, n, who, err)
				}
			}
			p.wholeOrNothing(t, v)
			if n%4 == 0 {
				p.must(t, v, "s2", true)
				p.sameFiles(t, v, "s1", "s2")
			}
			p.clear(t, v.ID)
		}
		p.clear(t, v.ID)
		t.Logf("the %s was cut %d times", side, cuts)
		if least := map[string]int{"sender": 12, "receiver": 5}[side]; cuts < least {
			t.Errorf("that is less than %d", least)
		}
	}
}

// wholeOrNothing: the source is live, and each snapshot of the copy is one of its.
func (p pools) wholeOrNothing(t testing.TB, v storage.Volume) {
	t.Helper()
	if near, err := p.near.Inspect(t.Context(), v.ID); err != nil || near.State != storage.StateLive || near.Path != v.Path {
		t.Fatalf("the source is %+v, %v", near, err)
	}
	own, copied := p.guids(t, p.near, v.ID), p.guids(t, p.far, v.ID)
	for i, guid := range copied {
		if own[i] != guid {
			t.Fatalf("the copy has %v, and the source %v", copied, own)
		}
	}
	far, err := p.far.Inspect(t.Context(), v.ID)
	if err == nil && (far.State == storage.StateLive || far.State == storage.StateKept && len(copied) == 0) {
		t.Fatalf("the copy is %+v with %v", far, copied)
	}
}

// testCutAndGoneOn: over a link that breaks all the time, what is whole is not sent again.
func testCutAndGoneOn(t *testing.T, p pools) {
	v := p.volume(t)
	for n, tries := 3, 0; ; n, tries = n+2, tries+1 {
		had, sent, l := len(p.guids(t, p.far, v.ID)), 0, dial(t)
		cut := cutAt(n)
		l.sender = &faulty{Conn: l.sender, spoil: func(n int, b []byte) ([]byte, bool) {
			b, end := cut(n, b)
			sent += len(b)
			return b, end
		}}
		out, in := p.ends(v, "s2", true)
		e := l.carry(t.Context(), out, in)
		if had == 1 && (sent > 3*mib/2 || len(e.sent.Streams) > 1) {
			t.Errorf("s1 was there, and %d bytes were sent: %+v", sent, e.sent)
		}
		if e.getErr == nil && e.sendErr == nil {
			if had == 0 || tries < 2 {
				t.Errorf("it ended with try %d, and %d snapshots were there before it", tries, had)
			}
			break
		}
		if tries > 30 {
			t.Fatal("it never ended")
		}
	}
	p.sameFiles(t, v, "s1", "s2")
}

// testFlippedBits: one bit, anywhere in what the sender says.
func testFlippedBits(t *testing.T, p pools) {
	v := p.volume(t)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := mrand.New(mrand.NewPCG(uint64(seed), 0))
	for range 12 {
		frame, done := 1+random.IntN(10), false // after the greeting
		l := dial(t)
		l.sender = &faulty{Conn: l.sender, spoil: func(n int, p []byte) ([]byte, bool) {
			if n < frame || done {
				return p, false
			}
			done = true
			spoilt := append([]byte{}, p...)
			spoilt[random.IntN(len(p))] ^= 1 << random.IntN(8)
			return spoilt, false
		}}
		out, in := p.ends(v, "s2", true)
		e := l.carry(t.Context(), out, in)
		wantCode(t, e.getErr, api.CodeVolumeStreamDamaged)
		wantCode(t, e.sendErr, api.CodeVolumeStreamDamaged)
		if !strings.Contains(e.getErr.Error(), "frame") {
			t.Errorf("%v does not say where", e.getErr)
		}
		p.wholeOrNothing(t, v)
		p.clear(t, v.ID)
	}
	p.must(t, v, "s2", true)
	p.sameFiles(t, v, "s1", "s2")
}

// testNoRoom: what does not fit is refused before a byte of it moves, with the sizes.
func testNoRoom(t *testing.T, p pools) {
	v := p.volumeOf(t, 8*mib)
	p.ballast(t, 6*mib)
	out, in := p.ends(v, "s2", true)
	e := dial(t).carry(t.Context(), out, in)
	wantCode(t, e.getErr, api.CodeVolumeNoSpace)
	wantCode(t, e.sendErr, api.CodeVolumeNoSpace)
	u, err := p.far.Usage(t.Context())
	storagetest.Must(t, err)
	if !strings.Contains(e.sendErr.Error(), storage.SizeText(u.SizeBytes)) || e.got.Bytes != 0 || len(e.got.Streams) != 0 {
		t.Errorf("%v; %+v", e.sendErr, e.got)
	}
	_, err = p.far.Inspect(t.Context(), v.ID)
	wantCode(t, err, api.CodeVolumeNotFound)
}

// ballast fills the far pool with somebody's file, up to what is to be free.
func (p pools) ballast(t testing.TB, freeBytes int64) {
	t.Helper()
	u, err := p.far.Usage(t.Context())
	storagetest.Must(t, err)
	path := filepath.Join(p.farRoot, "ballast")
	f, err := os.Create(path)
	storagetest.Must(t, err)
	defer f.Close()
	t.Cleanup(func() { storagetest.Must(t, os.Remove(path)); unix.Sync() })
	storagetest.Must(t, unix.Fallocate(int(f.Fd()), 0, 0, u.FreeBytes-freeBytes))
	unix.Sync()
}

// testRunsFull: the space was there at the beginning.
func testRunsFull(t *testing.T, p pools) {
	v := p.volumeOf(t, 12*mib)
	out, in := p.ends(v, "s2", true)
	l := dial(t)
	l.sender = &faulty{Conn: l.sender, spoil: func(n int, b []byte) ([]byte, bool) {
		if n == 4 {
			p.ballast(t, 4*mib)
		}
		return b, false
	}}
	e := l.carry(t.Context(), out, in)
	wantCode(t, e.getErr, api.CodeVolumeNoSpace)
	wantCode(t, e.sendErr, api.CodeVolumeNoSpace)
	if text := e.sendErr.Error(); !strings.Contains(text, "MiB of about 24 MiB had arrived") || !strings.Contains(text, "free of") {
		t.Errorf("%s has no sizes", text)
	}
	p.wholeOrNothing(t, v)
}

// testTwoAtOnce: a second transfer of the same volume is refused, and does the first no harm.
func testTwoAtOnce(t *testing.T, p pools) {
	v := p.volume(t)
	out, in := p.ends(v, "s2", true)
	second := make(chan ended, 1)
	l := dial(t)
	l.sender = &faulty{Conn: l.sender, spoil: func(n int, b []byte) ([]byte, bool) {
		if n == 4 { // the first is in the middle of s1
			out, in := p.ends(v, "s2", true)
			second <- dial(t).carry(t.Context(), out, in)
		}
		return b, false
	}}
	first := l.carry(t.Context(), out, in)
	if first.sendErr != nil || first.getErr != nil {
		t.Fatal(first.sendErr, first.getErr)
	}
	e := <-second
	wantCode(t, e.getErr, api.CodeVolumeInUse)
	wantCode(t, e.sendErr, api.CodeVolumeInUse)
	p.sameFiles(t, v, "s1", "s2")
}

// testRefused: what cannot be is refused at both sides, and nothing of it is there afterwards.
func testRefused(t *testing.T, p pools) {
	v, ctx := p.volume(t), t.Context()
	refused := func(change func(*transfer.Outgoing, *transfer.Incoming), code api.Code) {
		t.Helper()
		out, in := p.ends(v, "s2", true)
		change(&out, &in)
		before, err := p.far.List(ctx)
		storagetest.Must(t, err)
		e := dial(t).carry(ctx, out, in)
		if api.CodeOf(e.getErr) != code || api.CodeOf(e.sendErr) != code {
			t.Errorf("%v; %v; want %s", e.getErr, e.sendErr, code)
		}
		after, err := p.far.List(ctx)
		storagetest.Must(t, err)
		if len(before) != len(after) || e.got.Bytes != 0 {
			t.Errorf("%s: %+v was there, and now %+v", code, before, after)
		}
	}
	refused(func(o *transfer.Outgoing, i *transfer.Incoming) { o.Snapshot, i.Snapshot = "s9", "s9" }, api.CodeVolumeSnapshotNotFound)
	refused(func(o *transfer.Outgoing, _ *transfer.Incoming) { o.Volume = "nobody" }, api.CodeVolumeNotFound)
	refused(func(_ *transfer.Outgoing, i *transfer.Incoming) { i.Snapshot = "s1" }, api.CodeVolumeNotOffered)
	refused(func(_ *transfer.Outgoing, i *transfer.Incoming) { i.As.Name = "/" }, api.CodeVolumeInvalid)
	refused(func(_ *transfer.Outgoing, i *transfer.Incoming) { i.As.SizeBytes = 1 << 40 }, api.CodeVolumeNoSpace)

	holder := v.Spec // has the name on the other machine
	holder.ID = storagetest.Spec("").ID
	_, err := p.far.Ensure(ctx, holder)
	storagetest.Must(t, err)
	refused(func(*transfer.Outgoing, *transfer.Incoming) {}, api.CodeVolumeNameTaken)
	refused(func(_ *transfer.Outgoing, i *transfer.Incoming) { i.As.ID = holder.ID }, api.CodeVolumeNotKept)
	storagetest.Must(t, p.far.Retire(ctx, holder.ID))
	refused(func(_ *transfer.Outgoing, i *transfer.Incoming) { i.As.ID = holder.ID }, api.CodeVolumeNameTaken)
	refused(func(_ *transfer.Outgoing, i *transfer.Incoming) { i.As.ID, i.As.Name = holder.ID, "other" }, api.CodeVolumeNameTaken)
	storagetest.Destroy(t, p.far, holder.ID)
}

// testParted: a copy that was written by itself is left alone.
func testParted(t *testing.T, p pools) {
	v, ctx := p.volume(t), t.Context()
	p.must(t, v, "s1", false)
	storagetest.Must(t, p.far.Restore(ctx, v.ID))
	_, err := p.far.Snapshot(ctx, "theirs", v.ID)
	storagetest.Must(t, err)
	storagetest.Must(t, p.far.Retire(ctx, v.ID))
	out, in := p.ends(v, "s2", true)
	e := dial(t).carry(ctx, out, in)
	wantCode(t, e.getErr, api.CodeVolumeBaseMissing)
	wantCode(t, e.sendErr, api.CodeVolumeBaseMissing)
	if !strings.Contains(e.getErr.Error(), "after s1") || len(p.guids(t, p.far, v.ID)) != 2 {
		t.Errorf("%v", e.getErr)
	}
}

// otherKind is a pool that says it is of another backend.
type otherKind struct{ storage.Pool }

// Capabilities implements storage.Pool.
func (o otherKind) Capabilities() storage.Capabilities { return storage.Capabilities{Backend: "tape"} }

func testForeign(t *testing.T, p pools) {
	v := p.volume(t)
	out, in := p.ends(v, "s2", true)
	in.Pool = otherKind{p.far}
	e := dial(t).carry(t.Context(), out, in)
	wantCode(t, e.getErr, api.CodeVolumeStreamForeign)
	wantCode(t, e.sendErr, api.CodeVolumeStreamForeign)
	if text := api.AsError(e.getErr); !strings.Contains(text.Message, "tape") || !strings.Contains(text.Hint, p.near.Capabilities().Backend) {
		t.Errorf("%+v does not say who can", text)
	}
}
