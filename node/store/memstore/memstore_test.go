package memstore_test

import (
	"context"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
	"github.com/ployz/ployz/node/store/storetest"
)

func open(t *testing.T) storetest.World { return world(memstore.Config{}) }

func world(c memstore.Config) storetest.World {
	var clk storetest.Clock
	c.Clock = clk.Now
	s := memstore.New(c)
	return storetest.World{
		Facts: s.Facts(), View: s.View(), Log: s.Log(),
		Pass: clk.Pass,
		Small: func(*testing.T) storetest.World {
			return world(memstore.Config{MaxBytes: 64 << 10})
		},
		Broken: broken,
	}
}

func broken(_ *testing.T, code api.Code) storetest.World {
	s := memstore.New(memstore.Config{})
	fail := memstore.NeverSent
	if code == api.CodeStoreUncertain {
		fail = memstore.ReplyLost
	}
	s.SetHooks(memstore.Hooks{
		BeforeCommit: func(store.Batch) error { return fail() },
		BeforeAppend: func(string, string, []byte) error { return fail() },
		BeforeRead:   func(string) error { return fail() },
	})
	return storetest.World{Facts: s.Facts(), View: s.View(), Log: s.Log()}
}

func TestConformance(t *testing.T) { storetest.Run(t, open) }

func TestLandedWithTheReplyLost(t *testing.T) {
	s := memstore.New(memstore.Config{})
	s.SetHooks(memstore.Hooks{
		AfterCommit: func(store.Batch, store.Revision) error { return memstore.ReplyLost() },
		AfterAppend: func(string, string, store.Revision) error { return memstore.ReplyLost() },
	})
	ctx := context.Background()
	batch := store.Batch{ID: "op-1", Puts: []store.Put{{Key: "a", Value: []byte("1"), Expect: store.Expect(0)}}}
	if _, err := s.Facts().Commit(ctx, batch); !store.IsUncertain(err) {
		t.Fatalf("commit: %v", err)
	}
	if r, err := s.Facts().Commit(ctx, batch); err != nil || r != 1 {
		t.Fatalf("the retry: %d, %v", r, err)
	}
	if _, err := s.Log().Append(ctx, "op", "1", nil); !store.IsUncertain(err) {
		t.Fatalf("append: %v", err)
	}
	if all, _ := s.Log().History(ctx, "op"); len(all) != 1 {
		t.Fatalf("the record did not land: %v", all)
	}
}

func TestHookMayCommitFirst(t *testing.T) {
	s := memstore.New(memstore.Config{})
	ctx := context.Background()
	s.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		s.SetHooks(memstore.Hooks{})
		_, err := s.Facts().Commit(ctx, store.Batch{ID: "rival", Puts: []store.Put{{Key: "head"}}})
		return err
	}})
	_, err := s.Facts().Commit(ctx, store.Batch{ID: "mine", Puts: []store.Put{{Key: "head", Expect: store.Expect(0)}}})
	if !store.IsConflict(err) {
		t.Fatalf("the rival's commit did not count: %v", err)
	}
}

func TestStaleView(t *testing.T) {
	s := memstore.New(memstore.Config{Generation: 3})
	s.SetStale("cut off")
	f, err := s.View().Freshness(context.Background())
	if err != nil || f.Fresh || f.Why != "cut off" || f.Generation != 3 {
		t.Fatalf("%+v, %v", f, err)
	}
}
