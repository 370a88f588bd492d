package storetest

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/ployz/ployz/node/store"
)

var factTrials = []trial{
	{"get returns what was written", getReturnsWritten},
	{"get of nothing", getOfNothing},
	{"a removal hides the value and keeps a revision", removalKeepsRevision},
	{"batch revisions grow in order of the puts", batchOrder},
	{"list is ordered and by whole tokens", listByTokens},
	{"list shows neither removed nor refused", listLive},
	{"list of many", listOfMany},
	{"a value may be empty, and binary", emptyAndBinary},
	{"the largest value", largestValue},
	{"the largest batch", largestBatch},
	{"a fact with a TTL expires", ttlExpires},
	{"a write without a TTL ends an earlier one", ttlReplaced},
}

func getReturnsWritten(b *bench) {
	k := b.key("a")
	first := b.mustCommit(put(k, "one"))
	f := b.wantValue(k, "one")
	if f.Key != k || f.Revision != first || time.Since(f.Written).Abs() > 24*time.Hour && f.Written.IsZero() {
		b.Fatalf("got %+v, want key %s at revision %d", f, k, first)
	}
	second := b.mustCommit(put(k, "two"))
	if f := b.wantValue(k, "two"); second <= first || f.Revision != second {
		b.Fatalf("revision went from %d to %d, the fact says %d", first, second, f.Revision)
	}
}

func getOfNothing(b *bench) {
	f, err := b.Facts.Get(b.ctx, b.key("never"))
	if !store.IsNotFound(err) || f.Revision != 0 {
		b.Fatalf("got %+v, %v; want store.not-found at revision 0", f, err)
	}
}

func removalKeepsRevision(b *bench) {
	k := b.key("a")
	b.mustCommit(put(k, "one"))
	removed := b.mustCommit(store.Put{Key: k, Remove: true})
	f := b.wantValue(k, "")
	if f.Revision != removed {
		b.Fatalf("the removal is revision %d, get says %d", removed, f.Revision)
	}
	_, err := b.commit(guarded(k, "two", 0))
	if !store.IsConflict(err) {
		b.Fatalf("a guard for 'never written' held on a removed key: %v", err)
	}
	b.mustCommit(guarded(k, "two", f.Revision))
	b.wantValue(k, "two")
}

func batchOrder(b *bench) {
	last := b.mustCommit(put(b.key("x"), "1"), put(b.key("y"), "2"), put(b.key("z"), "3"))
	var before store.Revision
	for _, token := range []string{"x", "y", "z"} {
		f, err := b.Facts.Get(b.ctx, b.key(token))
		if err != nil || f.Revision <= before || f.Revision > last {
			b.Fatalf("%s has revision %d after %d (%v)", token, f.Revision, before, err)
		}
		before = f.Revision
	}
	if before != last {
		b.Fatalf("commit returned %d, the last put has %d", last, before)
	}
}

func listByTokens(b *bench) {
	for _, token := range []string{"b", "a.two", "a.one", "ab", "a", "a-b"} {
		b.mustCommit(put(b.key(token), token))
	}
	want := fmt.Sprintf("%s=a %s=a.one %s=a.two", b.key("a"), b.key("a.one"), b.key("a.two"))
	got, err := b.Facts.List(b.ctx, b.key("a"))
	if err != nil || keysOf(got) != want {
		b.Fatalf("list:\n got %s (%v)\nwant %s", keysOf(got), err, want)
	}
	if all, err := b.Facts.List(b.ctx, b.key()); err != nil || len(all) != 6 {
		b.Fatalf("list of everything here: %d facts, %v", len(all), err)
	}
	if all, err := b.Facts.List(b.ctx, ""); err != nil || len(all) < 6 {
		b.Fatalf("list of the whole store: %d facts, %v", len(all), err)
	}
	if none, err := b.Facts.List(b.ctx, b.key("nothing")); err != nil || len(none) != 0 {
		b.Fatalf("list of nothing: %s, %v", keysOf(none), err)
	}
}

func listLive(b *bench) {
	b.mustCommit(put(b.key("kept"), "1"), put(b.key("gone"), "1"))
	b.mustCommit(store.Put{Key: b.key("gone"), Remove: true})
	if _, err := b.commit(put(b.key("refused"), "1"), guarded(b.key("kept"), "2", 99999999)); !store.IsConflict(err) {
		b.Fatalf("want a conflict, got %v", err)
	}
	got, err := b.Facts.List(b.ctx, b.key())
	if want := string(b.key("kept")) + "=1"; err != nil || keysOf(got) != want {
		b.Fatalf("got %s (%v), want %s", keysOf(got), err, want)
	}
}

func listOfMany(b *bench) {
	const n = 1500
	for at := 0; at < n; at += 500 {
		var puts []store.Put
		for i := at; i < at+500; i++ {
			puts = append(puts, put(b.key("many", fmt.Sprintf("%05d", i)), "v"))
		}
		b.mustCommit(puts...)
	}
	got, err := b.Facts.List(b.ctx, b.key("many"))
	if err != nil || len(got) != n {
		b.Fatalf("%d facts of %d, %v", len(got), n, err)
	}
	for i, f := range got {
		if f.Key != b.key("many", fmt.Sprintf("%05d", i)) {
			b.Fatalf("place %d holds %s", i, f.Key)
		}
	}
}

func emptyAndBinary(b *bench) {
	b.mustCommit(put(b.key("empty"), ""), put(b.key("binary"), "\x00\r\n\xff"))
	if f, err := b.Facts.Get(b.ctx, b.key("empty")); err != nil || len(f.Value) != 0 {
		b.Fatalf("empty: %+v, %v", f, err)
	}
	b.wantValue(b.key("binary"), "\x00\r\n\xff")
	if got, err := b.Facts.List(b.ctx, b.key()); err != nil || len(got) != 2 {
		b.Fatalf("list: %s, %v", keysOf(got), err)
	}
}

func largestValue(b *bench) {
	long := store.Key(string(b.key()) + "." + strings.Repeat("k", 200-len(b.key())-1))
	value := bytes.Repeat([]byte("v"), store.MaxValueBytes)
	id := b.name + strings.Repeat("i", store.MaxIDBytes-len(b.name))
	if _, err := b.Facts.Commit(b.ctx, store.Batch{ID: id, Puts: []store.Put{
		{Key: long, Value: value, TTL: time.Hour}, put(b.key("other"), "1"),
	}}); err != nil {
		b.Fatal(err)
	}
	if f, err := b.Facts.Get(b.ctx, long); err != nil || !bytes.Equal(f.Value, value) {
		b.Fatalf("%d bytes came back, %v", len(f.Value), err)
	}
}

func largestBatch(b *bench) {
	batch := store.Batch{ID: b.id()}
	for i := range store.MaxBatch - 50 {
		batch.Puts = append(batch.Puts, guarded(b.key("p", fmt.Sprint(i)), "v", 0))
	}
	for i := range 50 {
		batch.Checks = append(batch.Checks, store.Check{Key: b.key("c", fmt.Sprint(i))})
	}
	if _, err := b.Facts.Commit(b.ctx, batch); err != nil {
		b.Fatal(err)
	}
	if got, err := b.Facts.List(b.ctx, b.key("p")); err != nil || len(got) != store.MaxBatch-50 {
		b.Fatalf("%d facts, %v", len(got), err)
	}
}

func ttlExpires(b *bench) {
	written := b.mustCommit(store.Put{Key: b.key("lease"), Value: []byte("held"), TTL: time.Second}, put(b.key("other"), "1"))
	b.wantValue(b.key("lease"), "held")
	b.Pass(1100 * time.Millisecond)
	b.eventually(func() string {
		if _, err := b.Facts.Get(b.ctx, b.key("lease")); !store.IsNotFound(err) {
			return "the lease is still there"
		}
		return ""
	})
	if f := b.wantValue(b.key("lease"), ""); f.Revision != 0 {
		b.Fatalf("the expired fact left revision %d behind", f.Revision)
	}
	if again := b.mustCommit(guarded(b.key("lease"), "mine", 0)); again <= written {
		b.Fatalf("revision %d after %d: fences must not repeat", again, written)
	}
	b.wantValue(b.key("lease"), "mine")
	b.wantValue(b.key("other"), "1")
}

func ttlReplaced(b *bench) {
	b.mustCommit(store.Put{Key: b.key("a"), Value: []byte("short"), TTL: time.Second})
	b.mustCommit(put(b.key("a"), "kept"))
	b.mustCommit(store.Put{Key: b.key("b"), Value: []byte("short"), TTL: time.Second})
	b.Pass(1100 * time.Millisecond)
	b.eventually(func() string {
		if _, err := b.Facts.Get(b.ctx, b.key("b")); !store.IsNotFound(err) {
			return "b has not expired"
		}
		return ""
	})
	b.wantValue(b.key("a"), "kept")
}
