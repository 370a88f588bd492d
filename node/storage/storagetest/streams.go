package storagetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// sent is a stream as bytes.
func sent(t testing.TB, p storage.Pool, from storage.From) []byte {
	t.Helper()
	var b bytes.Buffer
	Must(t, p.Send(t.Context(), from, &b))
	return b.Bytes()
}

// receive takes a stream into a pool; what it makes goes away after the test.
func receive(t *testing.T, p storage.Pool, as storage.Spec, stream []byte) storage.Snapshot {
	t.Helper()
	t.Cleanup(func() { Destroy(t, p, as.ID) })
	s, err := p.Receive(t.Context(), as, bytes.NewReader(stream))
	Must(t, err)
	return s
}

// testSend is a migration: in full, then what changed, then a snapshot of it there, and the volume is live on the other side.
func testSend(t *testing.T, f Fixture) {
	v := ensure(t, f.Pool, Spec("data"))
	body := random(3 * mib)
	write(t, v, "body", body)
	first := snapshot(t, f.Pool, "s1", v.ID)[0]
	write(t, v, "hello", "there")
	second := snapshot(t, f.Pool, "s2", v.ID)[0]

	if got := receive(t, f.Far, v.Spec, sent(t, f.Pool, storage.From{Volume: v.ID, Snapshot: "s1"})); got.GUID != first.GUID || got.Volume != v.ID || got.Name != "s1" {
		t.Fatalf("%+v, want %+v", got, first)
	}
	state(t, f.Far, v.ID, storage.StateKept)
	increment := sent(t, f.Pool, storage.From{Volume: v.ID, Snapshot: "s2", Base: "s1"})
	if len(increment) > mib {
		t.Errorf("an increment of a few bytes is a stream of %d", len(increment))
	}
	if got := receive(t, f.Far, v.Spec, increment); got.GUID != second.GUID {
		t.Fatalf("%+v, want %+v", got, second)
	}
	third := snapshot(t, f.Far, "c1", v.ID)[0]
	state(t, f.Far, v.ID, storage.StateKept)
	Must(t, f.Far.Restore(t.Context(), v.ID))
	far := inspect(t, f.Far, v.ID)
	if far.State != storage.StateLive || far.FullName() != v.FullName() || far.SizeBytes != v.SizeBytes {
		t.Fatalf("%+v", far)
	}
	wantFile(t, far, "body", body)
	wantFile(t, far, "hello", "there")
	if s, err := f.Far.ListSnapshots(t.Context(), v.ID); err != nil || len(s) != 3 || s[0].GUID != first.GUID || s[1].GUID != second.GUID || s[2].GUID != third.GUID {
		t.Fatalf("%+v, %v", s, err)
	}
	write(t, far, "hello", "I live here now")
	then, err := f.Far.Clone(t.Context(), v.ID, "c1", Spec("then"), false)
	Must(t, err)
	wantFile(t, then, "hello", "there")
	Destroy(t, f.Far, then.ID)
}

// testSendSized: a volume's limit goes with it.
func testSendSized(t *testing.T, f Fixture) {
	v := ensure(t, f.Pool, Spec("data"))
	write(t, v, "body", random(3*mib))
	snapshot(t, f.Pool, "s1", v.ID)
	receive(t, f.Far, v.Spec, sent(t, f.Pool, storage.From{Volume: v.ID, Snapshot: "s1"}))
	Must(t, f.Far.Restore(t.Context(), v.ID))
	if n := fill(t, inspect(t, f.Far, v.ID), 48); n > 30 {
		t.Errorf("a received volume of 32 MiB took %d MiB more", n)
	}
}

// testSendBack moves a volume there and back again, the second time with what changed alone.
func testSendBack(t *testing.T, f Fixture) {
	ctx, v := t.Context(), ensure(t, f.Pool, Spec("data"))
	write(t, v, "body", random(3*mib))
	snapshot(t, f.Pool, "s1", v.ID)
	receive(t, f.Far, v.Spec, sent(t, f.Pool, storage.From{Volume: v.ID, Snapshot: "s1"}))
	Must(t, f.Pool.Retire(ctx, v.ID))
	Must(t, f.Far.Restore(ctx, v.ID))
	write(t, inspect(t, f.Far, v.ID), "hello", "from afar")
	snapshot(t, f.Far, "s2", v.ID)
	back := sent(t, f.Far, storage.From{Volume: v.ID, Snapshot: "s2", Base: "s1"})
	if len(back) > mib {
		t.Errorf("the way back is a stream of %d bytes", len(back))
	}
	receive(t, f.Pool, v.Spec, back)
	Must(t, f.Far.Retire(ctx, v.ID))
	Must(t, f.Pool.Restore(ctx, v.ID))
	wantFile(t, inspect(t, f.Pool, v.ID), "hello", "from afar")
}

func testSendTwice(t *testing.T, f Fixture) {
	v := ensure(t, f.Pool, Spec("data"))
	write(t, v, "hello", "there")
	snapshot(t, f.Pool, "s1", v.ID)
	stream := sent(t, f.Pool, storage.From{Volume: v.ID, Snapshot: "s1"})
	first := receive(t, f.Far, v.Spec, stream)
	r := bytes.NewReader(stream)
	again, err := f.Far.Receive(t.Context(), v.Spec, r)
	if err != nil || again.GUID != first.GUID || r.Len() != 0 {
		t.Fatalf("%+v, %v; %d bytes left", again, err, r.Len())
	}
	// Another volume's stream is not taken for this one.
	other := ensure(t, f.Pool, Spec("other"))
	snapshot(t, f.Pool, "o1", other.ID)
	_, err = f.Far.Receive(t.Context(), v.Spec, bytes.NewReader(sent(t, f.Pool, storage.From{Volume: other.ID, Snapshot: "o1"})))
	wantCode(t, err, api.CodeVolumeNameTaken)
}

func testEstimate(t *testing.T, f Fixture) {
	v := ensure(t, f.Pool, Spec("data"))
	write(t, v, "body", random(6*mib))
	snapshot(t, f.Pool, "s1", v.ID)
	write(t, v, "more", random(2*mib))
	snapshot(t, f.Pool, "s2", v.ID)
	for _, from := range []storage.From{{Volume: v.ID, Snapshot: "s1"}, {Volume: v.ID, Snapshot: "s2", Base: "s1"}} {
		estimate, err := f.Pool.Estimate(t.Context(), from)
		Must(t, err)
		if is := float64(len(sent(t, f.Pool, from))); float64(estimate) < 0.95*is || float64(estimate) > 1.05*is {
			t.Errorf("%+v: a stream of %.0f bytes was estimated at %d", from, is, estimate)
		}
	}
	_, err := f.Pool.Estimate(t.Context(), storage.From{Volume: v.ID, Snapshot: "none"})
	wantCode(t, err, api.CodeVolumeSnapshotNotFound)
}

// testWritten asks twice, while nobody writes: the answer leaves nothing behind.
func testWritten(t *testing.T, f Fixture) {
	v := ensure(t, f.Pool, Spec("data"))
	write(t, v, "body", random(6*mib))
	snapshot(t, f.Pool, "s1", v.ID)
	before, err := f.Pool.Written(t.Context(), v.ID, "s1")
	Must(t, err)
	if before > mib/4 {
		t.Errorf("%d bytes were written to what nobody wrote to", before)
	}
	write(t, v, "more", random(2*mib))
	inBody, err := os.OpenFile(filepath.Join(v.Path, "body"), os.O_WRONLY, 0)
	Must(t, err)
	defer inBody.Close()
	for at := range int64(8) { // whole blocks, also where they are of 128 KiB
		_, err = inBody.WriteAt([]byte(random(128<<10)), at*(768<<10))
		Must(t, err)
	}
	var written [2]int64
	for i := range written {
		written[i], err = f.Pool.Written(t.Context(), v.ID, "s1")
		Must(t, err)
	}
	snapshot(t, f.Pool, "s2", v.ID)
	is := float64(len(sent(t, f.Pool, storage.From{Volume: v.ID, Snapshot: "s2", Base: "s1"})))
	for _, written := range written {
		if float64(written) < 0.9*is || float64(written) > 1.1*is {
			t.Errorf("%d bytes were written, and the stream has %.0f", written, is)
		}
	}
	_, err = f.Pool.Written(t.Context(), v.ID, "none")
	wantCode(t, err, api.CodeVolumeBaseMissing)
	_, err = f.Pool.Written(t.Context(), "nobody", "s1")
	wantCode(t, err, api.CodeVolumeNotFound)
}

func testBaseMissing(t *testing.T, f Fixture) {
	ctx, v := t.Context(), ensure(t, f.Pool, Spec("data"))
	for _, s := range []string{"s1", "s2", "s3"} {
		write(t, v, "hello", s)
		snapshot(t, f.Pool, s, v.ID)
	}
	wantCode(t, f.Pool.Send(ctx, storage.From{Volume: v.ID, Snapshot: "s2", Base: "s0"}, io.Discard), api.CodeVolumeBaseMissing)
	increment := sent(t, f.Pool, storage.From{Volume: v.ID, Snapshot: "s3", Base: "s2"})
	_, err := f.Far.Receive(ctx, v.Spec, bytes.NewReader(increment))
	wantCode(t, err, api.CodeVolumeBaseMissing)
	_, err = f.Far.Inspect(ctx, v.ID)
	wantCode(t, err, api.CodeVolumeNotFound)
	receive(t, f.Far, v.Spec, sent(t, f.Pool, storage.From{Volume: v.ID, Snapshot: "s1"}))
	_, err = f.Far.Receive(ctx, v.Spec, bytes.NewReader(increment))
	wantCode(t, err, api.CodeVolumeBaseMissing)
}

// testWrittenSince: what was written at the far side is not lost to a later increment.
func testWrittenSince(t *testing.T, f Fixture) {
	ctx, v := t.Context(), ensure(t, f.Pool, Spec("data"))
	snapshot(t, f.Pool, "s1", v.ID)
	receive(t, f.Far, v.Spec, sent(t, f.Pool, storage.From{Volume: v.ID, Snapshot: "s1"}))
	write(t, v, "hello", "near")
	snapshot(t, f.Pool, "s2", v.ID)
	increment := sent(t, f.Pool, storage.From{Volume: v.ID, Snapshot: "s2", Base: "s1"})
	Must(t, f.Far.Restore(ctx, v.ID))
	write(t, inspect(t, f.Far, v.ID), "hello", "far")
	_, err := f.Far.Receive(ctx, v.Spec, bytes.NewReader(increment))
	wantCode(t, err, api.CodeVolumeNotKept)
	Must(t, f.Far.Retire(ctx, v.ID))
	_, err = f.Far.Receive(ctx, v.Spec, bytes.NewReader(increment))
	wantCode(t, err, api.CodeVolumeBaseMissing)
	Must(t, f.Far.Restore(ctx, v.ID))
	wantFile(t, inspect(t, f.Far, v.ID), "hello", "far")
}

// testUntouchedSince: a copy that had its name for a while, and that nobody wrote to, takes increments as before.
func testUntouchedSince(t *testing.T, f Fixture) {
	ctx, v := t.Context(), ensure(t, f.Pool, Spec("data"))
	write(t, v, "hello", "then")
	snapshot(t, f.Pool, "s1", v.ID)
	receive(t, f.Far, v.Spec, sent(t, f.Pool, storage.From{Volume: v.ID, Snapshot: "s1"}))
	Must(t, f.Far.RenameSnapshot(ctx, v.ID, "s1", "c1"))
	Must(t, f.Far.Restore(ctx, v.ID))
	wantFile(t, inspect(t, f.Far, v.ID), "hello", "then")
	Must(t, f.Far.Retire(ctx, v.ID))
	write(t, v, "hello", "now")
	snapshot(t, f.Pool, "s2", v.ID)
	receive(t, f.Far, v.Spec, sent(t, f.Pool, storage.From{Volume: v.ID, Snapshot: "s2", Base: "s1"}))
	Must(t, f.Far.Restore(ctx, v.ID))
	wantFile(t, inspect(t, f.Far, v.ID), "hello", "now")
}

// testStreamBreaksOff: the first stream and a later one, each cut at several places, then sent again.
func testStreamBreaksOff(t *testing.T, f Fixture) {
	ctx, v := t.Context(), ensure(t, f.Pool, Spec("data"))
	t.Cleanup(func() { Destroy(t, f.Far, v.ID) })
	body := random(4 * mib)
	write(t, v, "body", body)
	snapshot(t, f.Pool, "s1", v.ID)
	more := random(4 * mib)
	write(t, v, "more", more)
	snapshot(t, f.Pool, "s2", v.ID)
	for _, from := range []storage.From{{Volume: v.ID, Snapshot: "s1"}, {Volume: v.ID, Snapshot: "s2", Base: "s1"}} {
		whole := sent(t, f.Pool, from)
		for _, part := range []int{0, 10, len(whole) / 3, 2 * len(whole) / 3} {
			if _, err := f.Far.Receive(ctx, v.Spec, bytes.NewReader(whole[:part])); api.CodeOf(err) != api.CodeVolumeStreamDamaged {
				t.Fatalf("%d bytes of %d: %v", part, len(whole), err)
			}
			Must(t, f.Far.Abandon(ctx, v.ID))
			Must(t, f.Far.Abandon(ctx, v.ID))
		}
		if _, err := f.Far.Inspect(ctx, v.ID); from.Base == "" && api.CodeOf(err) != api.CodeVolumeNotFound {
			t.Fatalf("after broken first streams: %v", err)
		}
		if _, err := f.Far.Receive(ctx, v.Spec, bytes.NewReader(whole[:2*len(whole)/3])); err == nil {
			t.Fatal("a broken stream was taken for whole")
		}
		resumeAnother(t, f, v, from)
		resume(t, f, v, from, len(whole))
	}
	Must(t, f.Far.Restore(ctx, v.ID))
	far := inspect(t, f.Far, v.ID)
	wantFile(t, far, "body", body)
	wantFile(t, far, "more", more)
}

// resumeAnother: a broken stream is not taken for another snapshot's.
func resumeAnother(t *testing.T, f Fixture, v storage.Volume, from storage.From) {
	t.Helper()
	token, err := f.Far.Partial(t.Context(), v.ID)
	Must(t, err)
	if token == "" {
		return
	}
	other := map[string]string{"s1": "s2", "s2": "s1"}[from.Snapshot]
	_, err = f.Pool.Estimate(t.Context(), storage.From{Volume: v.ID, Snapshot: other, Resume: token})
	wantCode(t, err, api.CodeVolumeStreamDamaged)
}

// resume goes on with a broken stream, from where it broke if the pool can.
func resume(t *testing.T, f Fixture, v storage.Volume, from storage.From, whole int) {
	t.Helper()
	token, err := f.Far.Partial(t.Context(), v.ID)
	Must(t, err)
	if can := f.Pool.Capabilities().Resume; can != (token != "") {
		t.Fatalf("a pool that can resume: %v, and it says %q", can, token)
	}
	from.Resume = token
	rest := sent(t, f.Pool, from)
	if token != "" && len(rest) > whole/2 {
		t.Errorf("two thirds of %d bytes were there, and the rest is %d", whole, len(rest))
	}
	_, err = f.Far.Receive(t.Context(), v.Spec, bytes.NewReader(rest))
	Must(t, err)
	if token, err := f.Far.Partial(t.Context(), v.ID); err != nil || token != "" {
		t.Fatalf("whole, and still partial: %q, %v", token, err)
	}
}

func testStreamForeign(t *testing.T, f Fixture) {
	as := Spec("data")
	var b bytes.Buffer
	Must(t, storage.Header{Backend: "tape", Snapshot: "s", GUID: "1"}.Write(&b))
	_, err := f.Far.Receive(t.Context(), as, &b)
	wantCode(t, err, api.CodeVolumeStreamForeign)
	if !strings.Contains(err.Error(), "tape") {
		t.Errorf("%v does not name the other backend", err)
	}
	_, err = f.Far.Inspect(t.Context(), as.ID)
	wantCode(t, err, api.CodeVolumeNotFound)
}

func testStreamDamaged(t *testing.T, f Fixture) {
	ctx, v := t.Context(), ensure(t, f.Pool, Spec("data"))
	write(t, v, "body", random(2*mib))
	snapshot(t, f.Pool, "s1", v.ID)
	stream := sent(t, f.Pool, storage.From{Volume: v.ID, Snapshot: "s1"})
	stream[len(stream)/2] ^= 0x40
	_, err := f.Far.Receive(ctx, v.Spec, bytes.NewReader(stream))
	wantCode(t, err, api.CodeVolumeStreamDamaged)
	Must(t, f.Far.Abandon(ctx, v.ID))
	_, err = f.Far.Inspect(ctx, v.ID)
	wantCode(t, err, api.CodeVolumeNotFound)
	for _, bad := range []string{"", "hello", "ployz volume 1\n\xff\xff\xff\xff", "ployz volume 1\n\x00\x00\x00\x02{}"} {
		_, err := f.Far.Receive(ctx, v.Spec, strings.NewReader(bad))
		wantCode(t, err, api.CodeVolumeStreamDamaged)
	}
}

// testStreamIntoFull: a receiver that runs out of space says so, and its other volumes are as they were.
func testStreamIntoFull(t *testing.T, f Fixture) {
	ctx := t.Context()
	big := Spec("big")
	big.SizeBytes = 0
	v := ensure(t, f.Pool, big)
	fill(t, v, 48)
	snapshot(t, f.Pool, "s1", v.ID)
	bystander := ensure(t, f.Far, Spec("bystander"))
	write(t, bystander, "hello", "there")
	ballast := ensure(t, f.Far, func() storage.Spec { s := Spec("ballast"); s.SizeBytes = 0; return s }())
	u, err := f.Far.Usage(ctx)
	Must(t, err)
	fill(t, ballast, int(u.FreeBytes/mib)-24)
	t.Cleanup(func() { Destroy(t, f.Far, v.ID) })
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(f.Pool.Send(context.WithoutCancel(ctx), storage.From{Volume: v.ID, Snapshot: "s1"}, w))
	}()
	_, err = f.Far.Receive(ctx, v.Spec, r)
	r.Close()
	wantCode(t, err, api.CodeVolumeNoSpace)
	Must(t, f.Far.Abandon(ctx, v.ID))
	wantFile(t, inspect(t, f.Far, bystander.ID), "hello", "there")
}

// testSenderCutOff: a sender whose writer fails says so, and goes on to be of use.
func testSenderCutOff(t *testing.T, f Fixture) {
	v := ensure(t, f.Pool, Spec("data"))
	write(t, v, "body", random(4*mib))
	snapshot(t, f.Pool, "s1", v.ID)
	cut := errors.New("the cable was cut")
	r, w := io.Pipe()
	go func() {
		io.CopyN(io.Discard, r, mib) //nolint:errcheck // the test is about the other end
		r.CloseWithError(cut)
	}()
	if err := f.Pool.Send(t.Context(), storage.From{Volume: v.ID, Snapshot: "s1"}, w); err == nil {
		t.Fatal("a stream that nobody read was sent")
	}
	Must(t, f.Pool.Forget(t.Context(), v.ID, "s1"))
}

// testReceiverKilled: a receiver that is cancelled in the middle leaves nothing that a restarted one cannot clear.
func testReceiverKilled(t *testing.T, f Fixture) {
	v := ensure(t, f.Far, Spec("data"))
	write(t, v, "body", random(4*mib))
	snapshot(t, f.Far, "s1", v.ID)
	stream := sent(t, f.Far, storage.From{Volume: v.ID, Snapshot: "s1"})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { Destroy(t, f.Pool, v.ID) })
	r, w := io.Pipe()
	go func() {
		w.Write(stream[:2*mib]) //nolint:errcheck // the receiver goes away
		cancel()
	}()
	if _, err := f.Pool.Receive(ctx, v.Spec, r); err == nil {
		t.Fatal("half a stream was received")
	}
	w.Close()
	again := f.Reopen(t)
	Must(t, again.Abandon(t.Context(), v.ID))
	receive(t, again, v.Spec, stream)
	state(t, again, v.ID, storage.StateKept)
}
