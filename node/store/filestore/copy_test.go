package filestore

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
	"github.com/ployz/ployz/node/store/storetest"
)

// source has two operations, interleaved, one with two records of the same value.
func source(t *testing.T) *Store {
	s := mustOpen(t, path(t), still)
	for i, r := range [][2]string{{"one", "opened"}, {"two", "opened"}, {"one", "tried"}, {"one", "tried"}, {"two", "done"}} {
		if _, err := s.Log().Append(context.Background(), r[0], fmt.Sprint("id-", i), []byte(r[1])); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// inside lists a ledger in order: operation=value.
func inside(t *testing.T, log store.Log, n int) []string {
	t.Helper()
	feed, err := log.Follow(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	var out []string
	for range n {
		r, err := feed.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r.Operation+"="+string(r.Value))
	}
	if last, err := log.Last(context.Background(), 1); err != nil || last[0].Revision != store.Revision(n) {
		t.Fatalf("the ledger goes on behind %d records: %+v, %v", n, last, err)
	}
	return out
}

var copied = []string{"one=opened", "two=opened", "one=tried", "one=tried", "two=done"}

func TestCopyLog(t *testing.T) {
	from, ctx := source(t).Log(), context.Background()
	var clk storetest.Clock
	target := memstore.New(memstore.Config{Clock: clk.Now})
	var ids []string
	target.SetHooks(memstore.Hooks{BeforeAppend: func(op, id string, _ []byte) error {
		ids = append(ids, op+"/"+id)
		return nil
	}})
	for range 3 {
		if err := CopyLog(ctx, from, target.Log()); err != nil {
			t.Fatal(err)
		}
		clk.Pass(2 * store.DedupeWindow) // the target forgets the ids
	}
	if got := inside(t, target.Log(), len(copied)); !slices.Equal(got, copied) {
		t.Fatalf("got %v", got)
	}
	if want := []string{"one/id-0", "two/id-1", "one/id-2", "one/id-3", "two/id-4"}; !slices.Equal(ids, want) {
		t.Fatalf("appended as %v", ids)
	}
}

// TestCopyLogBroken breaks the copy once at every append, in each way, then repeats it.
func TestCopyLogBroken(t *testing.T) {
	from, ctx := source(t).Log(), context.Background()
	for at := range copied {
		for _, fail := range []func() error{memstore.NeverSent, memstore.ReplyLost} {
			target, n := memstore.New(memstore.Config{}), -1
			broken := func(string, string, []byte) error {
				if n++; n == at {
					return fail()
				}
				return nil
			}
			target.SetHooks(memstore.Hooks{BeforeAppend: broken})
			wantCode(t, CopyLog(ctx, from, target.Log()), api.CodeOf(fail()))
			if err := CopyLog(ctx, from, target.Log()); err != nil {
				t.Fatal(err)
			}
			if got := inside(t, target.Log(), len(copied)); !slices.Equal(got, copied) {
				t.Fatalf("broken at %d: got %v", at, got)
			}
		}
	}
}

// TestCopyLogLanded loses the answer of an append that landed.
func TestCopyLogLanded(t *testing.T) {
	from, ctx := source(t).Log(), context.Background()
	target := memstore.New(memstore.Config{})
	target.SetHooks(memstore.Hooks{AfterAppend: func(_, _ string, at store.Revision) error {
		if at == 3 {
			return memstore.ReplyLost()
		}
		return nil
	}})
	wantCode(t, CopyLog(ctx, from, target.Log()), api.CodeStoreUncertain)
	if err := CopyLog(ctx, from, target.Log()); err != nil {
		t.Fatal(err)
	}
	if got := inside(t, target.Log(), len(copied)); !slices.Equal(got, copied) {
		t.Fatalf("got %v", got)
	}
}

func TestCopyLogOfAnother(t *testing.T) {
	other := memstore.New(memstore.Config{})
	wantCode(t, CopyLog(context.Background(), other.Log(), other.Log()), api.CodeInternal)
}
