package storetest

import (
	"bytes"
	"context"
	"fmt"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

var refusalTrials = []trial{
	{"too large", tooLarge},
	{"a context that ended before sending", endedContext},
}

var failureTrials = []trial{
	{"full", full},
	{"unavailable", unavailable},
	{"uncertain", uncertain},
}

func tooLarge(b *bench) {
	big := make([]byte, store.MaxValueBytes+1)
	_, err := b.commit(store.Put{Key: b.key("big"), Value: big}, put(b.key("small"), "1"))
	b.wantCode(err, api.CodeStoreTooLarge)
	b.wantValue(b.key("small"), "")
	_, err = b.Log.Append(b.ctx, b.name, "1", big)
	b.wantCode(err, api.CodeStoreTooLarge)
	var puts []store.Put
	for i := range store.MaxBatch + 1 {
		puts = append(puts, put(b.key(fmt.Sprint(i)), ""))
	}
	_, err = b.commit(puts...)
	b.wantCode(err, api.CodeStoreTooLarge)
}

// full fills a small store: what is new is refused whole, what is overwritten still fits.
func full(b *bench) {
	small := newBench(b.T, b.Small(b.T))
	value := string(bytes.Repeat([]byte("v"), 4<<10))
	var err error
	n := 0
	for ; n < 40 && err == nil; n++ {
		_, err = small.commit(put(small.key(fmt.Sprint(n)), value), put(small.key(fmt.Sprint(n), "x"), "1"))
	}
	small.wantCode(err, api.CodeStoreFull)
	small.wantValue(small.key(fmt.Sprint(n-1)), "")
	small.wantValue(small.key(fmt.Sprint(n-1), "x"), "")
	small.wantValue(small.key("0"), value)
	_, err = small.commit(put(small.key("single"), value))
	small.wantCode(err, api.CodeStoreFull)
	small.mustCommit(put(small.key("0"), "1"))
}

func unavailable(b *bench) {
	broken := newBench(b.T, b.Broken(b.T, api.CodeStoreUnavailable))
	_, err := broken.commit(put(broken.key("a"), "1"), put(broken.key("b"), "1"))
	b.wantCode(err, api.CodeStoreUnavailable)
	_, err = broken.commit(put(broken.key("a"), "1"))
	b.wantCode(err, api.CodeStoreUnavailable)
	_, err = broken.Log.Append(broken.ctx, broken.name, "1", nil)
	b.wantCode(err, api.CodeStoreUnavailable)
	_, err = broken.Facts.Get(broken.ctx, broken.key("a"))
	b.wantCode(err, api.CodeStoreUnavailable)
	_, err = broken.Facts.List(broken.ctx, broken.key())
	b.wantCode(err, api.CodeStoreUnavailable)
}

func uncertain(b *bench) {
	broken := newBench(b.T, b.Broken(b.T, api.CodeStoreUncertain))
	_, err := broken.commit(put(broken.key("a"), "1"), put(broken.key("b"), "1"))
	b.wantCode(err, api.CodeStoreUncertain)
	_, err = broken.commit(put(broken.key("a"), "1"))
	b.wantCode(err, api.CodeStoreUncertain)
	_, err = broken.Log.Append(broken.ctx, broken.name, "1", nil)
	b.wantCode(err, api.CodeStoreUncertain)
}

func endedContext(b *bench) {
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	_, err := b.Facts.Commit(ctx, store.Batch{ID: b.id(), Puts: []store.Put{put(b.key("a"), "1")}})
	b.wantCode(err, api.CodeStoreUnavailable)
	b.wantValue(b.key("a"), "")
}
