package storetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

var guardTrials = []trial{
	{"a guard holds only at its revision", guardHolds},
	{"a refused batch writes nothing", refusedWritesNothing},
	{"a check guards by a key not written", checkGuards},
	{"a check where every put has its own guard", checkWithoutCarrier},
	{"an expired lease refuses the batch", expiredLeaseRefuses},
	{"the same batch again is acknowledged as the first", retryIsIdempotent},
	{"a retry after others wrote on", retryAfterOthers},
	{"a refused batch may be sent again", refusedThenAgain},
	{"contenders for one head: one wins each round", contenders},
	{"writers at once under one guard that holds", underOneGuard},
	{"batches and lease changes do not interleave", batchLeaseRace},
	{"malformed batches", malformedBatches},
}

func guardHolds(b *bench) {
	k := b.key("head")
	one := b.mustCommit(guarded(k, "1", 0))
	for _, wrong := range []store.Revision{0, one - 1, one + 1} {
		if _, err := b.commit(guarded(k, "no", wrong)); !store.IsConflict(err) {
			b.Fatalf("guard %d held at revision %d: %v", wrong, one, err)
		}
	}
	two := b.mustCommit(guarded(k, "2", one), put(b.key("x"), "y"))
	if _, err := b.commit(guarded(k, "no", one)); !store.IsConflict(err) || two <= one {
		b.Fatalf("a stale guard held: %v", err)
	}
	b.wantValue(k, "2")
}

func refusedWritesNothing(b *bench) {
	b.mustCommit(put(b.key("old"), "1"))
	puts := []store.Put{put(b.key("a"), "1"), put(b.key("old"), "2"), {Key: b.key("b"), Remove: true}, guarded(b.key("c"), "1", 7777777)}
	for range 3 { // the guard first, in the middle, last: the place must not matter
		_, err := b.commit(puts...)
		b.wantCode(err, api.CodeStoreConflict)
		puts = append(puts[1:], puts[0])
	}
	b.wantValue(b.key("old"), "1")
	if got, err := b.Facts.List(b.ctx, b.key()); err != nil || len(got) != 1 {
		b.Fatalf("a refused batch left %s, %v", keysOf(got), err)
	}
}

func checkGuards(b *bench) {
	lease := b.mustCommit(put(b.key("lease"), "me"))
	batch := store.Batch{ID: b.id(), Puts: []store.Put{put(b.key("a"), "1")}, Checks: []store.Check{{Key: b.key("lease"), Expect: lease - 1}}}
	_, err := b.Facts.Commit(b.ctx, batch)
	b.wantCode(err, api.CodeStoreConflict)
	b.wantValue(b.key("a"), "")
	batch.ID, batch.Checks = b.id(), []store.Check{{Key: b.key("lease"), Expect: lease}, {Key: b.key("nothing")}}
	if _, err := b.Facts.Commit(b.ctx, batch); err != nil {
		b.Fatal(err)
	}
	if f := b.wantValue(b.key("lease"), "me"); f.Revision != lease {
		b.Fatalf("the check rewrote the lease: %d became %d", lease, f.Revision)
	}
}

func checkWithoutCarrier(b *bench) {
	lease := b.mustCommit(put(b.key("lease"), "me"))
	batch := func(at store.Revision, head store.Revision) error {
		_, err := b.Facts.Commit(b.ctx, store.Batch{
			ID: b.id(), Puts: []store.Put{guarded(b.key("head"), "1", head)},
			Checks: []store.Check{{Key: b.key("lease"), Expect: at}, {Key: b.key("free")}},
		})
		return err
	}
	b.wantCode(batch(lease+5, 0), api.CodeStoreConflict)
	b.wantCode(batch(lease, 5), api.CodeStoreConflict)
	b.wantValue(b.key("head"), "")
	if err := batch(lease, 0); err != nil {
		b.Fatal(err)
	}
	got, err := b.Facts.List(b.ctx, b.key())
	if want := fmt.Sprintf("%s=1 %s=me", b.key("head"), b.key("lease")); err != nil || keysOf(got) != want {
		b.Fatalf("got %s (%v), want %s", keysOf(got), err, want)
	}
}

func expiredLeaseRefuses(b *bench) {
	lease := b.mustCommit(store.Put{Key: b.key("lease"), Value: []byte("me"), Expect: store.Expect(0), TTL: time.Second})
	b.Pass(1100 * time.Millisecond)
	b.eventually(func() string {
		_, err := b.Facts.Get(b.ctx, b.key("lease"))
		if !store.IsNotFound(err) {
			return "the lease has not expired"
		}
		return ""
	})
	_, err := b.Facts.Commit(b.ctx, store.Batch{
		ID: b.id(), Puts: []store.Put{put(b.key("a"), "1")}, Checks: []store.Check{{Key: b.key("lease"), Expect: lease}},
	})
	b.wantCode(err, api.CodeStoreConflict)
	b.wantValue(b.key("a"), "")
}

func retryIsIdempotent(b *bench) {
	lease := b.mustCommit(put(b.key("lease"), "me"))
	for name, batch := range map[string]store.Batch{
		"one put": {Puts: []store.Put{guarded(b.key("single"), "1", 0)}},
		"many": {
			Puts:   []store.Put{guarded(b.key("head"), "1", 0), put(b.key("x"), "1"), {Key: b.key("lease2"), Value: []byte("v"), TTL: time.Hour}},
			Checks: []store.Check{{Key: b.key("lease"), Expect: lease}},
		},
	} {
		batch.ID = b.id()
		first, err := b.Facts.Commit(b.ctx, batch)
		if err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		for range 3 {
			again, err := b.Facts.Commit(b.ctx, batch)
			if err != nil || again != first {
				b.Fatalf("%s: the retry got %d, %v; want %d", name, again, err, first)
			}
		}
		last := batch.Puts[len(batch.Puts)-1]
		if f := b.wantValue(last.Key, string(last.Value)); f.Revision != first {
			b.Fatalf("%s: the retry wrote again: %d became %d", name, first, f.Revision)
		}
	}
}

func retryAfterOthers(b *bench) {
	batch := store.Batch{ID: b.id(), Puts: []store.Put{guarded(b.key("head"), "mine", 0), put(b.key("x"), "mine")}}
	first, err := b.Facts.Commit(b.ctx, batch)
	if err != nil {
		b.Fatal(err)
	}
	b.mustCommit(put(b.key("head"), "theirs"), put(b.key("x"), "theirs"))
	again, err := b.Facts.Commit(b.ctx, batch)
	if err != nil || again != first {
		b.Fatalf("the retry got %d, %v; want %d", again, err, first)
	}
	b.wantValue(b.key("head"), "theirs")
	b.wantValue(b.key("x"), "theirs")
}

func refusedThenAgain(b *bench) {
	head := b.mustCommit(put(b.key("head"), "1"))
	batch := store.Batch{ID: b.id(), Puts: []store.Put{guarded(b.key("head"), "2", 0), put(b.key("x"), "1")}}
	_, err := b.Facts.Commit(b.ctx, batch)
	b.wantCode(err, api.CodeStoreConflict)
	batch.Puts[0].Expect = store.Expect(head)
	if _, err := b.Facts.Commit(b.ctx, batch); err != nil {
		b.Fatalf("the refused batch left a trace: %v", err)
	}
	b.wantValue(b.key("head"), "2")
}

func contenders(b *bench) {
	const rounds, rivals = 15, 6
	var head store.Revision
	for round := range rounds {
		won := make(chan store.Revision, rivals)
		var all sync.WaitGroup
		for rival := range rivals {
			batch := store.Batch{ID: fmt.Sprintf("%s-%d-%d", b.name, round, rival), Puts: []store.Put{
				guarded(b.key("head"), fmt.Sprint(round, "-", rival), head), put(b.key("by"), fmt.Sprint(round, "-", rival)),
			}}
			all.Go(func() { contend(b, batch, won) })
		}
		all.Wait()
		close(won)
		if len(won) != 1 {
			b.Fatalf("round %d has %d winners", round, len(won))
		}
		<-won
		h, err := b.Facts.Get(b.ctx, b.key("head"))
		if err != nil {
			b.Fatal(err)
		}
		b.wantValue(b.key("by"), string(h.Value))
		head = h.Revision
	}
}

func contend(b *bench, batch store.Batch, won chan<- store.Revision) {
	r, err := b.Facts.Commit(b.ctx, batch)
	switch {
	case err == nil:
		won <- r
	case !store.IsConflict(err):
		b.Errorf("a loser got %v, want a conflict", err)
	}
}

// underOneGuard has writers of different keys guard by one that nobody writes, and by one of their own: none may be refused.
func underOneGuard(b *bench) {
	const rounds, writers = 20, 6
	common := store.Check{Key: b.key("common"), Expect: b.mustCommit(put(b.key("common"), "1"))}
	for round := range rounds {
		var all sync.WaitGroup
		for n := range writers {
			of := func(what string) store.Key { return b.key(what, fmt.Sprint(round), fmt.Sprint(n)) }
			batch := store.Batch{
				ID: fmt.Sprintf("%s-%d-%d", b.name, round, n), Puts: []store.Put{guarded(of("claim"), "1", 0), put(of("value"), "1")},
				Checks: []store.Check{{Key: of("lease"), Expect: b.mustCommit(put(of("lease"), "me"))}, common},
			}
			all.Go(func() {
				if _, err := b.Facts.Commit(b.ctx, batch); err != nil {
					b.Errorf("round %d: %v", round, err)
				}
			})
		}
		all.Wait()
	}
}

// batchLeaseRace renews a lease while commits run under what was last seen of it: no renewal
// may lie between the lease that a commit was checked against and the commit itself.
func batchLeaseRace(b *bench) {
	b.mustCommit(put(b.key("lease"), "0"))
	ctx, stop := context.WithCancel(b.ctx)
	defer stop()
	var renewed []store.Revision
	var renewals sync.WaitGroup
	renewals.Go(func() { renewed = renew(ctx, b) })
	passed := map[store.Revision]store.Revision{} // commit → the lease it was checked against
	for range 120 {
		if lease, at := commitUnderLease(b); at != 0 {
			passed[at] = lease
		}
	}
	stop()
	renewals.Wait()
	for at, lease := range passed {
		for _, r := range renewed {
			if lease < r && r < at {
				b.Errorf("the commit at %d passed with the lease of %d, renewed at %d", at, lease, r)
			}
		}
	}
	b.Logf("%d of 120 commits passed, %d renewals", len(passed), len(renewed))
}

func renew(ctx context.Context, b *bench) (renewed []store.Revision) {
	for i := 1; ctx.Err() == nil; i++ {
		r, err := b.Facts.Commit(ctx, store.Batch{ID: fmt.Sprintf("%s-r%d", b.name, i), Puts: []store.Put{put(b.key("lease"), fmt.Sprint(i))}})
		if err == nil {
			renewed = append(renewed, r)
		} else if ctx.Err() == nil {
			b.Errorf("renewal: %v", err)
		}
		if i%4 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return renewed
}

// commitUnderLease returns revision 0 when the lease moved first.
func commitUnderLease(b *bench) (lease, at store.Revision) {
	f, err := b.Facts.Get(b.ctx, b.key("lease"))
	if err != nil {
		b.Fatal(err)
	}
	at, err = b.Facts.Commit(b.ctx, store.Batch{
		ID: b.id(), Puts: []store.Put{put(b.key("w"), "1"), put(b.key("by"), "1")},
		Checks: []store.Check{{Key: b.key("lease"), Expect: f.Revision}},
	})
	if err != nil && !store.IsConflict(err) {
		b.Errorf("commit: %v", err)
	}
	return f.Revision, at
}

func malformedBatches(b *bench) {
	ok := put(b.key("a"), "1")
	for name, batch := range map[string]store.Batch{
		"no ID":          {Puts: []store.Put{ok}},
		"long ID":        {ID: string(make([]byte, store.MaxIDBytes+1)), Puts: []store.Put{ok}},
		"no puts":        {ID: "x"},
		"empty key":      {ID: "x", Puts: []store.Put{put("", "1")}},
		"wildcard":       {ID: "x", Puts: []store.Put{put(b.key("*"), "1")}},
		"full wildcard":  {ID: "x", Puts: []store.Put{put(b.key(">"), "1")}},
		"space":          {ID: "x", Puts: []store.Put{put(b.key("a b"), "1")}},
		"empty token":    {ID: "x", Puts: []store.Put{put(b.key("", "b"), "1")}},
		"line break":     {ID: "x", Puts: []store.Put{put(b.key("a\r\n"), "1")}},
		"long key":       {ID: "x", Puts: []store.Put{put(b.key(string(make([]byte, 200))), "1")}},
		"twice":          {ID: "x", Puts: []store.Put{ok, ok}},
		"checked too":    {ID: "x", Puts: []store.Put{ok}, Checks: []store.Check{{Key: ok.Key}}},
		"wildcard check": {ID: "x", Puts: []store.Put{ok}, Checks: []store.Check{{Key: b.key(">")}}},
		"negative TTL":   {ID: "x", Puts: []store.Put{{Key: ok.Key, TTL: -1}}},
	} {
		if _, err := b.Facts.Commit(b.ctx, batch); api.CodeOf(err) != api.CodeBadRequest {
			b.Errorf("%s: %v, want request.malformed", name, err)
		}
	}
	if _, err := b.Facts.Get(b.ctx, b.key("*")); api.CodeOf(err) != api.CodeBadRequest {
		b.Errorf("get by wildcard: %v", err)
	}
	if _, err := b.Facts.List(b.ctx, b.key(">")); api.CodeOf(err) != api.CodeBadRequest {
		b.Errorf("list by wildcard: %v", err)
	}
	b.wantValue(ok.Key, "")
}
