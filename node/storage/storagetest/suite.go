package storagetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// Fixture is two pools of one backend on different file systems, with at least 100 MiB free each. Every test
// uses IDs and names of its own, so one fixture may serve all of them.
type Fixture struct {
	Pool, Far storage.Pool
	// Reopen returns what a restarted daemon would use for Pool.
	Reopen func(t testing.TB) storage.Pool
	// Foreign puts something without our mark where a live volume of Pool would be, and returns a check that it is
	// untouched.
	Foreign func(t testing.TB, s storage.Spec) (intact func(t testing.TB))
}

const mib = 1 << 20

// Run runs the whole suite.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	f := open(t)
	for name, test := range tests() {
		t.Run(name, func(t *testing.T) { test(t, f) })
	}
}

// RunNames runs what the suite has about volumes, their names, places and snapshots, without what only a file system
// can do: limits that bite, mounts, and what is not ours. A pool in memory passes it. Fixture.Foreign is not used.
func RunNames(t *testing.T, open func(t *testing.T) Fixture) {
	f := open(t)
	all := tests()
	for _, name := range []string{
		"Life", "EnsureTwice", "OwnerAndMode", "BadSpec", "NameTaken", "Shrink", "NoSpace", "Absent", "Snapshot",
		"SnapshotOfMany", "RenameSnapshot", "Hold", "CloneOfClone", "Promote", "Swap", "SwapRefused", "Retire", "Reopen",
		"Send", "SendBack", "SendTwice", "Estimate", "Written", "BaseMissing", "WrittenSince", "UntouchedSince", "StreamBreaksOff", "StreamForeign",
		"StreamDamaged", "SenderIsCutOff", "ReceiverIsKilled",
	} {
		t.Run(name, func(t *testing.T) { all[name](t, f) })
	}
}

func tests() map[string]func(*testing.T, Fixture) {
	return map[string]func(*testing.T, Fixture){
		"Life":             testLife,
		"EnsureTwice":      testEnsureTwice,
		"OwnerAndMode":     testOwnerAndMode,
		"BadSpec":          testBadSpec,
		"NameTaken":        testNameTaken,
		"NotOurs":          testNotOurs,
		"SizeBites":        testSizeBites,
		"Shrink":           testShrink,
		"NoSpace":          testNoSpace,
		"Absent":           testAbsent,
		"Snapshot":         testSnapshot,
		"SnapshotOfMany":   testSnapshotOfMany,
		"RenameSnapshot":   testRenameSnapshot,
		"Hold":             testHold,
		"Clone":            testClone,
		"CloneOfClone":     testCloneOfClone,
		"Promote":          testPromote,
		"Swap":             testSwap,
		"SwapRefused":      testSwapRefused,
		"Retire":           testRetire,
		"DestroyInUse":     testDestroyInUse,
		"Reopen":           testReopen,
		"Usage":            testUsage,
		"Send":             testSend,
		"SendBack":         testSendBack,
		"SendSized":        testSendSized,
		"SendTwice":        testSendTwice,
		"Estimate":         testEstimate,
		"Written":          testWritten,
		"BaseMissing":      testBaseMissing,
		"WrittenSince":     testWrittenSince,
		"UntouchedSince":   testUntouchedSince,
		"StreamBreaksOff":  testStreamBreaksOff,
		"StreamForeign":    testStreamForeign,
		"StreamDamaged":    testStreamDamaged,
		"StreamIntoFull":   testStreamIntoFull,
		"SenderIsCutOff":   testSenderCutOff,
		"ReceiverIsKilled": testReceiverKilled,
	}
}

var count atomic.Int64

// Spec returns a spec that no other test has.
func Spec(name string) storage.Spec {
	id := "t" + strconv.FormatInt(time.Now().UnixNano(), 36) + strconv.FormatInt(count.Add(1), 36)
	return storage.Spec{ID: id, Namespace: "n" + id, Name: name, SizeBytes: 32 * mib}
}

// ensure makes a volume that goes away after the test, whatever became of it.
func ensure(t *testing.T, p storage.Pool, s storage.Spec) storage.Volume {
	t.Helper()
	v, err := p.Ensure(t.Context(), s)
	Must(t, err)
	t.Cleanup(func() { Destroy(t, p, s.ID) })
	return v
}

// Destroy destroys a volume in any state, with its snapshots and holds.
func Destroy(t testing.TB, p storage.Pool, id string) {
	ctx := context.Background()
	err := p.Retire(ctx, id)
	switch api.CodeOf(err) {
	case api.CodeVolumeNotFound:
		return
	case api.CodeVolumeNotLive:
		err = nil // it is incoming
	}
	if err == nil {
		err = p.Destroy(ctx, id)
	}
	if api.CodeOf(err) == api.CodeVolumeSnapshotNeeded {
		err = errors.Join(release(p, id), p.Destroy(ctx, id))
	}
	if err != nil {
		t.Errorf("clearing %s: %v", id, err)
	}
}

// release takes all holds of a volume's snapshots away.
func release(p storage.Pool, id string) error {
	ctx := context.Background()
	snapshots, err := p.ListSnapshots(ctx, id)
	for _, s := range snapshots {
		for _, tag := range s.Holds {
			err = errors.Join(err, p.Release(ctx, id, s.Name, tag))
		}
	}
	return err
}

// Must ends a test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, code api.Code) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Fatalf("%v, want %s", err, code)
	}
	if e := api.AsError(err); e.Hint == "" && code != api.CodeVolumeInvalid {
		t.Errorf("%v has no hint", err)
	}
}

func inspect(t testing.TB, p storage.Pool, id string) storage.Volume {
	t.Helper()
	v, err := p.Inspect(t.Context(), id)
	Must(t, err)
	return v
}

func snapshot(t testing.TB, p storage.Pool, name string, ids ...string) []storage.Snapshot {
	t.Helper()
	s, err := p.Snapshot(t.Context(), name, ids...)
	Must(t, err)
	return s
}

func write(t testing.TB, v storage.Volume, name, text string) {
	t.Helper()
	if v.Path == "" {
		t.Fatalf("%s (%s) has no path", v.FullName(), v.State)
	}
	Must(t, os.WriteFile(filepath.Join(v.Path, name), []byte(text), 0o644))
}

func wantFile(t testing.TB, v storage.Volume, name, text string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(v.Path, name))
	Must(t, err)
	if string(got) != text {
		t.Fatalf("%s of %s holds %.40q, want %.40q", name, v.FullName(), got, text)
	}
}

func wantNoFile(t testing.TB, v storage.Volume, name string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(v.Path, name)); err == nil {
		t.Fatalf("%s has %s", v.FullName(), name)
	}
}

// random is what no file system makes smaller.
func random(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return string(b)
}

func state(t testing.TB, p storage.Pool, id string, want storage.State) {
	t.Helper()
	if v := inspect(t, p, id); v.State != want || (v.Path != "") != (want == storage.StateLive) {
		t.Fatalf("%s is %s at %q, want %s", v.FullName(), v.State, v.Path, want)
	}
}

func testLife(t *testing.T, f Fixture) {
	s := Spec("data")
	v := ensure(t, f.Pool, s)
	if v.State != storage.StateLive || v.ID != s.ID || v.FullName() != s.FullName() || v.SizeBytes != s.SizeBytes || v.Created.IsZero() || v.Origin != nil {
		t.Fatalf("made: %+v", v)
	}
	write(t, v, "hello", "there")
	listed, err := f.Pool.List(t.Context())
	Must(t, err)
	if !slices.ContainsFunc(listed, func(l storage.Volume) bool { return l.ID == s.ID && l.Path == v.Path }) {
		t.Fatalf("%s is not in %+v", s.ID, listed)
	}
	wantCode(t, f.Pool.Destroy(t.Context(), s.ID), api.CodeVolumeNotKept)
	Must(t, f.Pool.Retire(t.Context(), s.ID))
	Must(t, f.Pool.Destroy(t.Context(), s.ID))
	Must(t, f.Pool.Destroy(t.Context(), s.ID))
	if _, err := os.Stat(filepath.Join(v.Path, "hello")); err == nil {
		t.Error("the file outlived its volume")
	}
}

func testEnsureTwice(t *testing.T, f Fixture) {
	s := Spec("data")
	v := ensure(t, f.Pool, s)
	write(t, v, "hello", "there")
	s.SizeBytes = 64 * mib
	again := ensure(t, f.Pool, s)
	if again.SizeBytes != 64*mib || again.Path != v.Path || !again.Created.Equal(v.Created) {
		t.Fatalf("grown: %+v, was %+v", again, v)
	}
	wantFile(t, again, "hello", "there")
}

func testOwnerAndMode(t *testing.T, f Fixture) {
	s := Spec("data")
	s.Owner, s.Mode = &storage.Owner{UID: 70, GID: 71}, 0o750|fs.ModeSetgid
	check := func(v storage.Volume, uid uint32, mode fs.FileMode) {
		t.Helper()
		st, err := os.Stat(v.Path)
		Must(t, err)
		if st.Sys().(*syscall.Stat_t).Uid != uid || st.Mode()&^fs.ModeDir != mode {
			t.Fatalf("%d, %v; want %d, %v", st.Sys().(*syscall.Stat_t).Uid, st.Mode(), uid, mode)
		}
	}
	check(ensure(t, f.Pool, s), 70, 0o750|fs.ModeSetgid)
	s.Owner.UID, s.Mode = 72, 0o700
	check(ensure(t, f.Pool, s), 72, 0o700)
	s.Owner, s.Mode = nil, 0
	check(ensure(t, f.Pool, s), 72, 0o700)
}

func testBadSpec(t *testing.T, f Fixture) {
	for name, spoil := range map[string]func(*storage.Spec){
		"no id":        func(s *storage.Spec) { s.ID = "" },
		"id":           func(s *storage.Spec) { s.ID = "../x" },
		"namespace":    func(s *storage.Spec) { s.Namespace = "a.b" },
		"name":         func(s *storage.Spec) { s.Name = "a/b" },
		"dots":         func(s *storage.Spec) { s.Name = ".." },
		"negative":     func(s *storage.Spec) { s.SizeBytes = -1 },
		"tiny":         func(s *storage.Spec) { s.SizeBytes = 4096 },
		"no such user": func(s *storage.Spec) { s.Owner = &storage.Owner{UID: -1} },
		"set-uid":      func(s *storage.Spec) { s.Mode = fs.ModeSetuid | 0o755 },
	} {
		s := Spec("data")
		spoil(&s)
		if _, err := f.Pool.Ensure(t.Context(), s); api.CodeOf(err) != api.CodeVolumeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	v := ensure(t, f.Pool, Spec("data"))
	for _, name := range []string{"", "a/b", "a@b", "-x", "..", "a b"} {
		if _, err := f.Pool.Snapshot(t.Context(), name, v.ID); api.CodeOf(err) != api.CodeVolumeInvalid {
			t.Errorf("a snapshot called %q: %v", name, err)
		}
	}
}

func testNameTaken(t *testing.T, f Fixture) {
	first, second := Spec("data"), Spec("data")
	second.Namespace = first.Namespace
	v := ensure(t, f.Pool, first)
	write(t, v, "hello", "first")
	_, err := f.Pool.Ensure(t.Context(), second)
	wantCode(t, err, api.CodeVolumeNameTaken)
	if e := api.AsError(err); !strings.Contains(e.Message, first.ID) {
		t.Errorf("%v does not name the volume that has the name", err)
	}
	// Another name for the same volume is no way around.
	first.Name = "other"
	_, err = f.Pool.Ensure(t.Context(), first)
	wantCode(t, err, api.CodeVolumeNameTaken)
	wantFile(t, v, "hello", "first")
}

func testNotOurs(t *testing.T, f Fixture) {
	s := Spec("data")
	intact := f.Foreign(t, s)
	_, err := f.Pool.Ensure(t.Context(), s)
	wantCode(t, err, api.CodeVolumeNotOurs)
	_, err = f.Pool.Inspect(t.Context(), s.ID)
	wantCode(t, err, api.CodeVolumeNotFound)
	Must(t, f.Pool.Destroy(t.Context(), s.ID))
	kept := s
	kept.ID += "k"
	source := ensure(t, f.Pool, Spec("data"))
	snapshot(t, f.Pool, "s", source.ID)
	_, err = f.Pool.Clone(t.Context(), source.ID, "s", kept, true)
	Must(t, err)
	t.Cleanup(func() { Destroy(t, f.Pool, kept.ID) })
	wantCode(t, f.Pool.Restore(t.Context(), kept.ID), api.CodeVolumeNotOurs)
	intact(t)
	Destroy(t, f.Pool, kept.ID)
}

// fill writes until the volume takes no more, and returns how much it took.
func fill(t testing.TB, v storage.Volume, most int) int {
	t.Helper()
	file, err := os.Create(filepath.Join(v.Path, "fill"))
	Must(t, err)
	defer file.Close()
	block := []byte(random(mib))
	for n := range most {
		if _, err := file.Write(block); err != nil {
			return n
		}
		if err := file.Sync(); err != nil {
			return n
		}
	}
	return most
}

func testSizeBites(t *testing.T, f Fixture) {
	s := Spec("data")
	s.SizeBytes = 8 * mib
	v := ensure(t, f.Pool, s)
	if n := fill(t, v, 24); n < 5 || n > 8 {
		t.Fatalf("a volume of 8 MiB took %d MiB", n)
	}
	Must(t, os.Remove(filepath.Join(v.Path, "fill"))) // a full volume can be emptied
	s.SizeBytes = 64 * mib
	if n := fill(t, ensure(t, f.Pool, s), 24); n != 24 {
		t.Fatalf("grown to 64 MiB it took %d MiB", n)
	}
}

func testShrink(t *testing.T, f Fixture) {
	s := Spec("data")
	v := ensure(t, f.Pool, s)
	fill(t, v, 12)
	s.SizeBytes = 8 * mib
	_, err := f.Pool.Ensure(t.Context(), s)
	wantCode(t, err, api.CodeVolumeShrink)
	if v := inspect(t, f.Pool, s.ID); v.SizeBytes != 32*mib {
		t.Fatalf("refused, and the size is %d", v.SizeBytes)
	}
	s.SizeBytes = 24 * mib
	if v := ensure(t, f.Pool, s); v.SizeBytes != 24*mib {
		t.Fatalf("%d", v.SizeBytes)
	}
	snapshot(t, f.Pool, "s", s.ID)
	small := Spec("small")
	small.SizeBytes = 8 * mib
	_, err = f.Pool.Clone(t.Context(), s.ID, "s", small, false)
	wantCode(t, err, api.CodeVolumeShrink)
}

func testNoSpace(t *testing.T, f Fixture) {
	u, err := f.Pool.Usage(t.Context())
	Must(t, err)
	s := Spec("data")
	s.SizeBytes = u.SizeBytes * 2
	_, err = f.Pool.Ensure(t.Context(), s)
	wantCode(t, err, api.CodeVolumeNoSpace)
	_, err = f.Pool.Inspect(t.Context(), s.ID)
	wantCode(t, err, api.CodeVolumeNotFound)
	s.SizeBytes = 32 * mib
	ensure(t, f.Pool, s)
	s.SizeBytes = u.SizeBytes * 2
	_, err = f.Pool.Ensure(t.Context(), s)
	wantCode(t, err, api.CodeVolumeNoSpace)
	if v := inspect(t, f.Pool, s.ID); v.SizeBytes != 32*mib {
		t.Fatalf("refused, and the size is %d", v.SizeBytes)
	}
}

func testAbsent(t *testing.T, f Fixture) {
	ctx, p, v := t.Context(), f.Pool, ensure(t, f.Pool, Spec("data"))
	_, inspectErr := p.Inspect(ctx, "nobody")
	_, listErr := p.ListSnapshots(ctx, "nobody")
	_, snapshotErr := p.Snapshot(ctx, "s", v.ID, "nobody")
	_, cloneErr := p.Clone(ctx, "nobody", "s", Spec("data"), false)
	_, estimateErr := p.Estimate(ctx, storage.From{Volume: "nobody", Snapshot: "s"})
	for call, err := range map[string]error{
		"inspect": inspectErr, "list": listErr, "snapshot": snapshotErr, "clone": cloneErr, "estimate": estimateErr,
		"retire": p.Retire(ctx, "nobody"), "restore": p.Restore(ctx, "nobody"), "swap": p.Swap(ctx, v.ID, "nobody"),
		"hold": p.Hold(ctx, "nobody", "s", "t"), "promote": p.Promote(ctx, "nobody"), "forget": p.Forget(ctx, "nobody", "s"),
		"send": p.Send(ctx, storage.From{Volume: "nobody", Snapshot: "s"}, &bytes.Buffer{}),
	} {
		if api.CodeOf(err) != api.CodeVolumeNotFound {
			t.Errorf("%s: %v", call, err)
		}
	}
	if s, err := p.ListSnapshots(ctx, v.ID); err != nil || len(s) != 0 {
		t.Errorf("a snapshot of one that is there and one that is not: %v, %v", s, err)
	}
	_, err := p.Clone(ctx, v.ID, "none", Spec("data"), false)
	wantCode(t, err, api.CodeVolumeSnapshotNotFound)
	wantCode(t, p.Hold(ctx, v.ID, "none", "t"), api.CodeVolumeSnapshotNotFound)
	Must(t, p.Forget(ctx, v.ID, "none"))
}

func testUsage(t *testing.T, f Fixture) {
	before, err := f.Pool.Usage(t.Context())
	Must(t, err)
	v := ensure(t, f.Pool, Spec("data"))
	fill(t, v, 16)
	after, err := f.Pool.Usage(t.Context())
	Must(t, err)
	if after.PromisedBytes-before.PromisedBytes != 32*mib || after.Backend == "" || after.Pool == "" || after.FreeBytes > after.SizeBytes {
		t.Fatalf("%+v, then %+v", before, after)
	}
	deadline := time.Now().Add(time.Minute) // both count when a transaction ends
	for v := inspect(t, f.Pool, v.ID); v.UsedBytes < 16*mib || v.UsedBytes > 18*mib || v.OwnBytes < 16*mib; v = inspect(t, f.Pool, v.ID) {
		if time.Now().After(deadline) {
			t.Fatalf("16 MiB written: %+v", v)
		}
		unix.Sync()
		time.Sleep(100 * time.Millisecond)
	}
}

func testReopen(t *testing.T, f Fixture) {
	v := ensure(t, f.Pool, Spec("data"))
	snapshot(t, f.Pool, "s", v.ID)
	Must(t, f.Pool.Hold(t.Context(), v.ID, "s", "op1"))
	again := f.Reopen(t)
	got := inspect(t, again, v.ID)
	if got.Path != v.Path || got.Spec.FullName() != v.FullName() || got.State != v.State || !got.Created.Equal(v.Created) {
		t.Fatalf("%+v, was %+v", got, v)
	}
	s, err := again.ListSnapshots(t.Context(), v.ID)
	if err != nil || len(s) != 1 || !slices.Equal(s[0].Holds, []string{"op1"}) {
		t.Fatalf("%+v, %v", s, err)
	}
}
