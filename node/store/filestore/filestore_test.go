package filestore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/storetest"
)

func path(t *testing.T) string { return filepath.Join(t.TempDir(), "journal") }

// still is a clock that stands, for tests that are not about time: the computer's own may be set while they run, and facts with
// a TTL would be gone.
func still() time.Time { return began }

var began = time.Now()

func mustOpen(t *testing.T, path string, now func() time.Time) *Store {
	t.Helper()
	s, err := Open(path, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, s) })
	return s
}

func mustClose(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func wantCode(t *testing.T, err error, want api.Code) {
	t.Helper()
	if got := api.CodeOf(err); got != want {
		t.Fatalf("error code %q (%v), want %q", got, err, want)
	}
}

func TestConformance(t *testing.T) {
	storetest.RunParts(t, func(t *testing.T) storetest.World {
		var clk storetest.Clock
		s := mustOpen(t, path(t), clk.Now)
		return storetest.World{Facts: s.Facts(), Log: s.Log(), Pass: clk.Pass}
	}, storetest.Facts, storetest.Log, storetest.Refusals)
}

// script is the writes that the tests of this package make: step i is a batch or a record.
const scriptSteps = 6

func step(s *Store, i int) error {
	ctx, id := context.Background(), fmt.Sprint("step-", i)
	if i%2 == 0 {
		_, err := s.Log().Append(ctx, "op", id, fmt.Append(nil, i))
		return err
	}
	value := fmt.Append(nil, i)
	_, err := s.Facts().Commit(ctx, store.Batch{ID: id, Puts: []store.Put{
		{Key: "a", Value: value}, {Key: "b", Value: value, TTL: time.Hour}, {Key: "gone", Remove: true},
	}})
	return err
}

func run(t *testing.T, s *Store) {
	t.Helper()
	for i := range scriptSteps {
		if err := step(s, i+1); err != nil {
			t.Fatalf("step %d: %v", i+1, err)
		}
	}
}

// picture is all that a store says, without times.
func picture(t *testing.T, s *Store) string {
	t.Helper()
	ctx := context.Background()
	list, err := s.Facts().List(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	out := ""
	for _, f := range list {
		out += fmt.Sprintf("%s@%d=%s ", f.Key, f.Revision, f.Value)
	}
	if gone, err := s.Facts().Get(ctx, "gone"); store.IsNotFound(err) {
		out += fmt.Sprintf("gone@%d ", gone.Revision)
	}
	records, err := s.Log().History(ctx, "op")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		out += fmt.Sprintf("op@%d=%s ", r.Revision, r.Value)
	}
	return out
}

// pictures are the pictures after 0, 1, ... steps.
func pictures(t *testing.T) []string {
	s := mustOpen(t, path(t), still)
	out := []string{picture(t, s)}
	for i := range scriptSteps {
		if err := step(s, i+1); err != nil {
			t.Fatal(err)
		}
		out = append(out, picture(t, s))
	}
	return out
}

func TestOpenAgain(t *testing.T) {
	file := path(t)
	var clk storetest.Clock
	first := mustOpen(t, file, clk.Now)
	run(t, first)
	want := picture(t, first)
	mustClose(t, first)

	again := mustOpen(t, file, clk.Now)
	run(t, again) // the same IDs: a retry of everything
	if got := picture(t, again); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	mustClose(t, again)

	clk.Pass(time.Hour)
	later := mustOpen(t, file, clk.Now)
	if f, err := later.Facts().Get(context.Background(), "b"); !store.IsNotFound(err) || f.Revision != 0 {
		t.Fatalf("a fact of an hour is still %+v after one (%v)", f, err)
	}
	at, err := later.Facts().Commit(context.Background(), store.Batch{ID: "step-1", Puts: []store.Put{{Key: "b", Expect: store.Expect(0)}}})
	if err != nil || at != 10 {
		t.Fatalf("revision %d, %v; want 10, after the nine that were given out", at, err)
	}
}

func TestOneOpener(t *testing.T) {
	file := path(t)
	first := mustOpen(t, file, still)
	_, err := Open(file, still)
	wantCode(t, err, api.CodeStoreBusy)
	mustClose(t, first)
	mustOpen(t, file, still)
	if mode, err := os.Stat(file); err != nil || mode.Mode() != 0o600 {
		t.Fatalf("%v, %v", mode.Mode(), err)
	}
}

func TestClosed(t *testing.T) {
	s := mustOpen(t, path(t), still)
	feed, err := s.Log().Follow(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := feed.Next(context.Background())
		ended <- err
	}()
	mustClose(t, s)
	wantCode(t, <-ended, api.CodeStoreUnavailable)
	wantCode(t, step(s, 1), api.CodeStoreUnavailable)
	wantCode(t, step(s, 2), api.CodeStoreUnavailable)
	_, err = s.Facts().Get(context.Background(), "a")
	wantCode(t, err, api.CodeStoreUnavailable)
	_, err = s.Log().History(context.Background(), "op")
	wantCode(t, err, api.CodeStoreUnavailable)
}

func TestNoFolder(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "none", "journal"), nil)
	wantCode(t, err, api.CodeStoreUnavailable)
}
