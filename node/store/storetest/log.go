package storetest

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

var logTrials = []trial{
	{"the ledger keeps an operation's records in order", logOrder},
	{"a record appended twice is one", logIdempotent},
	{"last shows one record per operation, newest first", logLast},
	{"follow the ledger", logFollow},
	{"follow the ledger while others append", logFollowNoGaps},
	{"malformed records", logMalformed},
}

func (b *bench) append(op, id, value string) store.Revision {
	b.Helper()
	r, err := b.Log.Append(b.ctx, op, id, []byte(value))
	if err != nil || r == 0 {
		b.Fatalf("append: %d, %v", r, err)
	}
	return r
}

func valuesOf(records []store.Record) string {
	var out []string
	for _, r := range records {
		out = append(out, string(r.Value))
	}
	return strings.Join(out, " ")
}

func logOrder(b *bench) {
	op := b.name
	var last store.Revision
	for i := range 5 {
		r := b.append(op, fmt.Sprint(i), fmt.Sprint("v", i))
		if r <= last {
			b.Fatalf("revision %d after %d", r, last)
		}
		last = r
		b.append(op+"_other", fmt.Sprint(i), "other")
	}
	got, err := b.Log.History(b.ctx, op)
	if err != nil || valuesOf(got) != "v0 v1 v2 v3 v4" || got[4].Revision != last || got[0].Operation != op || got[0].Written.IsZero() {
		b.Fatalf("got %+v, %v", got, err)
	}
	if none, err := b.Log.History(b.ctx, op+"_none"); err != nil || len(none) != 0 {
		b.Fatalf("an unknown operation: %v, %v", none, err)
	}
}

func logIdempotent(b *bench) {
	first := b.append(b.name, "1", "a")
	if again := b.append(b.name, "1", "a"); again != first {
		b.Fatalf("the second is %d, the first %d", again, first)
	}
	b.append(b.name+"_other", "1", "x")
	b.append(b.name, "2", "b")
	if again := b.append(b.name, "1", "a"); again != first {
		b.Fatalf("the third is %d, the first %d", again, first)
	}
	if got, err := b.Log.History(b.ctx, b.name); err != nil || valuesOf(got) != "a b" {
		b.Fatalf("got %s, %v", valuesOf(got), err)
	}
}

func logLast(b *bench) {
	for i, op := range []string{"_1", "_2", "_1", "_3"} {
		b.append(b.name+op, fmt.Sprint(i), fmt.Sprint(op, i))
	}
	got, err := b.Log.Last(b.ctx, 2)
	if err != nil || valuesOf(got) != "_33 _12" {
		b.Fatalf("the last two: %s, %v", valuesOf(got), err)
	}
	all, err := b.Log.Last(b.ctx, 0)
	if err != nil || len(all) < 3 || valuesOf(all[:3]) != "_33 _12 _21" {
		b.Fatalf("all: %s, %v", valuesOf(all), err)
	}
}

func (b *bench) nextRecord(feed store.LogFeed) store.Record {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	r, err := feed.Next(ctx)
	if err != nil {
		b.Fatalf("next: %v", err)
	}
	return r
}

func logFollow(b *bench) {
	first := b.append(b.name, "1", "a")
	b.append(b.name, "2", "b")
	feed, err := b.Log.Follow(b.ctx, first)
	if err != nil {
		b.Fatal(err)
	}
	defer feed.Close()
	if r := b.nextRecord(feed); string(r.Value) != "b" || r.Operation != b.name {
		b.Fatalf("first came %+v", r)
	}
	third := b.append(b.name+"_other", "3", "c")
	if r := b.nextRecord(feed); string(r.Value) != "c" || r.Revision != third {
		b.Fatalf("then came %+v", r)
	}
	if err := feed.Close(); err != nil {
		b.Fatal(err)
	}
	_, err = feed.Next(b.ctx)
	b.wantCode(err, api.CodeStoreUnavailable)
}

func logFollowNoGaps(b *bench) {
	start := b.append(b.name, "start", "start")
	feed, err := b.Log.Follow(b.ctx, start)
	if err != nil {
		b.Fatal(err)
	}
	defer feed.Close()
	const each = 40
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for i := range each {
				if _, err := b.Log.Append(b.ctx, fmt.Sprint(b.name, "_", w), fmt.Sprint(i), fmt.Append(nil, i)); err != nil {
					b.Errorf("append: %v", err)
				}
			}
		})
	}
	next := map[string]int{}
	for range 3 * each {
		r := b.nextRecord(feed)
		if string(r.Value) != fmt.Sprint(next[r.Operation]) {
			b.Fatalf("%s: got %s, want %d", r.Operation, r.Value, next[r.Operation])
		}
		next[r.Operation]++
	}
	writers.Wait()
}

func logMalformed(b *bench) {
	long := string(make([]byte, store.MaxIDBytes+1))
	for _, c := range [][2]string{{"", "1"}, {"a.b", "1"}, {"*", "1"}, {">", "1"}, {"a b", "1"}, {"a", ""}, {"a", long}, {long, "1"}} {
		if _, err := b.Log.Append(b.ctx, c[0], c[1], nil); api.CodeOf(err) != api.CodeBadRequest {
			b.Errorf("operation %q id %q: %v, want request.malformed", c[0], c[1], err)
		}
	}
	if _, err := b.Log.History(b.ctx, ">"); api.CodeOf(err) != api.CodeBadRequest {
		b.Errorf("history of a wildcard: %v", err)
	}
}
