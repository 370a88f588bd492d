package storetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

var viewTrials = []trial{
	{"the view shows what was committed", viewShows},
	{"follow starts with the last values", followSnapshot},
	{"follow over an empty prefix", followEmpty},
	{"follow delivers changes and removals", followChanges},
	{"the view shows a fact expire", viewExpiry},
	{"follow misses nothing while others write", followNoGaps},
	{"follow sees batches whole and in order", followBatches},
	{"a closed feed", feedClosed},
	{"a feed ends with its context", feedContext},
	{"the view says how fresh it is", viewFreshness},
	{"follow by a wildcard", followMalformed},
	{"a fact that is no JSON stops nothing", unreadableFact},
}

func viewShows(b *bench) {
	r := b.mustCommit(put(b.key("a", "x"), "1"), put(b.key("a", "y"), "2"))
	b.mustCommit(put(b.key("gone"), "1"))
	b.mustCommit(store.Put{Key: b.key("gone"), Remove: true})
	b.eventually(func() string {
		if f, _ := b.View.Get(b.ctx, b.key("gone")); f.Revision <= r {
			return "the removal has not arrived"
		}
		return ""
	})
	f, err := b.View.Get(b.ctx, b.key("a", "y"))
	if err != nil || string(f.Value) != "2" || f.Revision != r || f.Written.IsZero() {
		b.Fatalf("got %+v, %v; want 2 at %d", f, err, r)
	}
	if _, err := b.View.Get(b.ctx, b.key("gone")); !store.IsNotFound(err) {
		b.Fatalf("the removed fact: %v", err)
	}
	list, err := b.View.List(b.ctx, b.key("a"))
	if want := fmt.Sprintf("%s=1 %s=2", b.key("a.x"), b.key("a.y")); err != nil || keysOf(list) != want {
		b.Fatalf("got %s (%v), want %s", keysOf(list), err, want)
	}
	if _, err := b.View.Get(b.ctx, b.key("nothing")); !store.IsNotFound(err) {
		b.Fatalf("nothing: %v", err)
	}
}

// unreadableFact is delivered as it is, before and after the feed was opened, and so is what comes behind it. It is the
// reader that cannot read it, and says which it is; a guarded write replaces it.
func unreadableFact(b *bench) {
	r := b.mustCommit(put(b.key("bad"), "{"), put(b.key("good"), `{"n":1}`))
	b.arrive(r)
	feed := b.follow(b.key())
	if got := b.current(feed); got[b.key("bad")] != "{" || got[b.key("good")] != `{"n":1}` {
		b.Fatalf("the snapshot is %v", got)
	}
	b.mustCommit(put(b.key("bad"), `[`))
	b.mustCommit(put(b.key("good"), `{"n":2}`))
	bad, good := b.next(feed), b.next(feed)
	var value struct{ N int }
	err := store.Decode(bad.Fact, &value)
	if e := api.AsError(err); e == nil || e.Code != api.CodeStoreUnreadable || e.Subject != string(b.key("bad")) || !strings.Contains(e.Message, fmt.Sprint("revision ", bad.Fact.Revision)) {
		b.Fatalf("reading %+v: %v", bad, err)
	}
	if err := store.Decode(good.Fact, &value); err != nil || value.N != 2 {
		b.Fatalf("reading %+v: %v", good, err)
	}
	mended := put(b.key("bad"), `{"n":3}`)
	mended.Expect = store.Expect(bad.Fact.Revision)
	b.mustCommit(mended)
	if err := store.Decode(b.next(feed).Fact, &value); err != nil || value.N != 3 {
		b.Fatalf("the mended fact: %v", err)
	}
}

// arrive waits until the mirror holds the revision.
func (b *bench) arrive(r store.Revision) {
	b.Helper()
	b.eventually(func() string {
		f, err := b.View.Freshness(b.ctx)
		if err != nil || f.Last < r {
			return fmt.Sprintf("the mirror is at %d (%v), want %d", f.Last, err, r)
		}
		return ""
	})
}

func (b *bench) follow(prefix store.Key) store.Feed {
	b.Helper()
	feed, err := b.View.Follow(b.ctx, prefix)
	if err != nil {
		b.Fatalf("follow: %v", err)
	}
	b.Cleanup(func() { _ = feed.Close() })
	return feed
}

func (b *bench) next(feed store.Feed) store.Change {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	c, err := feed.Next(ctx)
	if err != nil {
		b.Fatalf("next: %v", err)
	}
	return c
}

// current reads a feed up to its mark, and returns the live facts seen.
func (b *bench) current(feed store.Feed) map[store.Key]string {
	b.Helper()
	seen := map[store.Key]string{}
	var last store.Revision
	for {
		c := b.next(feed)
		if c.Fact.Key != "" {
			if c.Fact.Revision <= last {
				b.Fatalf("revision %d came after %d", c.Fact.Revision, last)
			}
			last = c.Fact.Revision
			apply(seen, c)
		}
		if c.Current {
			return seen
		}
	}
}

func apply(seen map[store.Key]string, c store.Change) {
	if c.Removed {
		delete(seen, c.Fact.Key)
		return
	}
	seen[c.Fact.Key] = string(c.Fact.Value)
}

func followSnapshot(b *bench) {
	b.mustCommit(put(b.key("a"), "1"), put(b.key("b"), "1"), put(b.key("c"), "1"))
	b.mustCommit(store.Put{Key: b.key("b"), Remove: true}, put(b.key("ab.x"), "1"))
	r := b.mustCommit(put(b.key("a"), "2"))
	b.arrive(r)
	if got, want := fmt.Sprint(b.current(b.follow(b.key()))), fmt.Sprint(map[store.Key]string{
		b.key("a"): "2", b.key("c"): "1", b.key("ab.x"): "1",
	}); got != want {
		b.Fatalf("got %s\nwant %s", got, want)
	}
	if got := b.current(b.follow(b.key("a"))); len(got) != 1 {
		b.Fatalf("the prefix a took in %v", got)
	}
	if got := b.current(b.follow("")); len(got) < 3 {
		b.Fatalf("the whole store holds only %v", got)
	}
}

func followEmpty(b *bench) {
	feed := b.follow(b.key("none"))
	if c := b.next(feed); !c.Current || c.Fact.Key != "" {
		b.Fatalf("first change %+v, want an empty Current", c)
	}
	b.mustCommit(put(b.key("none", "x"), "1"))
	if c := b.next(feed); c.Current || c.Fact.Key != b.key("none.x") || string(c.Fact.Value) != "1" {
		b.Fatalf("then %+v", c)
	}
}

func followChanges(b *bench) {
	b.arrive(b.mustCommit(put(b.key("a"), "1")))
	feed := b.follow(b.key())
	b.current(feed)
	two := b.mustCommit(put(b.key("a"), "2"))
	if c := b.next(feed); c.Removed || c.Current || string(c.Fact.Value) != "2" || c.Fact.Revision != two {
		b.Fatalf("got %+v, want 2 at %d", c, two)
	}
	gone := b.mustCommit(store.Put{Key: b.key("a"), Remove: true})
	if c := b.next(feed); !c.Removed || c.Fact.Key != b.key("a") || c.Fact.Revision != gone || len(c.Fact.Value) != 0 {
		b.Fatalf("got %+v, want a removal at %d", c, gone)
	}
	b.mustCommit(put(b.key("a"), "3"))
	if c := b.next(feed); c.Removed || string(c.Fact.Value) != "3" {
		b.Fatalf("got %+v, want 3", c)
	}
}

func viewExpiry(b *bench) {
	feed := b.follow(b.key())
	b.current(feed)
	b.mustCommit(store.Put{Key: b.key("lease"), Value: []byte("me"), TTL: time.Second})
	if c := b.next(feed); string(c.Fact.Value) != "me" {
		b.Fatalf("got %+v", c)
	}
	b.Pass(1100 * time.Millisecond)
	b.eventually(func() string {
		f, err := b.View.Get(b.ctx, b.key("lease"))
		list, _ := b.View.List(b.ctx, b.key())
		if !store.IsNotFound(err) || f.Revision != 0 || len(list) != 0 {
			return fmt.Sprintf("the view still shows %+v, %v", f, err)
		}
		return ""
	})
}

// followNoGaps opens feeds while a writer counts up several keys, and wants the last count of
// every key from every feed.
func followNoGaps(b *bench) {
	const counts, keys = 60, 5
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 1; i <= counts; i++ {
			for k := range keys {
				if _, err := b.Facts.Commit(b.ctx, store.Batch{ID: fmt.Sprintf("%s-w%d-%d", b.name, k, i), Puts: []store.Put{put(b.key(fmt.Sprint("k", k)), fmt.Sprint(i))}}); err != nil {
					b.Errorf("writer: %v", err)
					return
				}
			}
		}
	})
	var readers sync.WaitGroup
	for range 4 {
		feed := b.follow(b.key())
		readers.Go(func() { followTo(b, feed, counts, keys) })
		time.Sleep(15 * time.Millisecond) // spread the openings over the writing; nothing depends on it
	}
	writer.Wait()
	readers.Wait()
}

func followTo(b *bench, feed store.Feed, counts, keys int) {
	seen, marks := map[store.Key]string{}, 0
	var last store.Revision
	for done := false; !done; {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		c, err := feed.Next(ctx)
		cancel()
		if err != nil {
			b.Errorf("reader: %v with %v", err, seen)
			return
		}
		if c.Current {
			marks++
		}
		if c.Fact.Key != "" {
			if c.Fact.Revision <= last {
				b.Errorf("revision %d after %d", c.Fact.Revision, last)
			}
			last = c.Fact.Revision
			apply(seen, c)
		}
		done = marks > 0 && len(seen) == keys
		for _, v := range seen {
			done = done && v == fmt.Sprint(counts)
		}
	}
	if marks != 1 {
		b.Errorf("%d Current marks, want 1", marks)
	}
}

func followBatches(b *bench) {
	feed := b.follow(b.key())
	b.current(feed)
	for i := range 5 {
		b.mustCommit(put(b.key("x"), fmt.Sprint(i)), put(b.key("y"), fmt.Sprint(i)))
		x, y := b.next(feed), b.next(feed)
		if x.Fact.Key != b.key("x") || y.Fact.Key != b.key("y") || string(x.Fact.Value) != string(y.Fact.Value) {
			b.Fatalf("batch %d came as %+v, %+v", i, x, y)
		}
	}
}

func feedClosed(b *bench) {
	feed := b.follow(b.key())
	b.current(feed)
	time.AfterFunc(20*time.Millisecond, func() { _ = feed.Close() })
	_, err := feed.Next(b.ctx)
	b.wantCode(err, api.CodeStoreUnavailable)
	if err := feed.Close(); err != nil {
		b.Fatalf("closing twice: %v", err)
	}
}

func feedContext(b *bench) {
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	feed, err := b.View.Follow(ctx, b.key())
	if err != nil {
		b.Fatal(err)
	}
	defer feed.Close()
	b.current(feed)
	short, end := context.WithTimeout(b.ctx, 30*time.Millisecond)
	defer end()
	if _, err := feed.Next(short); !isDeadline(err) {
		b.Fatalf("an impatient Next got %v", err)
	}
	b.mustCommit(put(b.key("a"), "1"))
	if c := b.next(feed); string(c.Fact.Value) != "1" {
		b.Fatalf("after an impatient Next came %+v", c)
	}
	cancel()
	_, err = feed.Next(b.ctx)
	b.wantCode(err, api.CodeStoreUnavailable)
}

func viewFreshness(b *bench) {
	r := b.mustCommit(put(b.key("a"), "1"))
	b.arrive(r)
	b.eventually(func() string {
		f, err := b.View.Freshness(b.ctx)
		if err != nil || !f.Fresh || f.Why != "" || f.Generation == 0 {
			return fmt.Sprintf("%+v, %v", f, err)
		}
		return ""
	})
}

func followMalformed(b *bench) {
	_, err := b.View.Follow(b.ctx, b.key("*"))
	b.wantCode(err, api.CodeBadRequest)
}
