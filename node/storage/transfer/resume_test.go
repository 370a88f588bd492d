package transfer_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/storagetest"
)

// claimer is a pool that says it can resume, and of which snapshot it has a broken stream. It sends and receives whole
// ones: what this shows is who asks whom for what; that the bytes go on where they broke the suite shows, on ZFS.
type claimer struct {
	storage.Pool
	broken  string
	resumed *[]string // by snapshot, what it was asked to go on with
}

// Capabilities implements storage.Pool.
func (c claimer) Capabilities() storage.Capabilities {
	can := c.Pool.Capabilities()
	can.Resume = true
	return can
}

// Partial implements storage.Streams.
func (c claimer) Partial(context.Context, string) (string, error) { return c.broken, nil }

// Estimate implements storage.Streams.
func (c claimer) Estimate(ctx context.Context, from storage.From) (int64, error) {
	if from.Resume != "" && from.Resume != from.Snapshot {
		return 0, storage.StreamDamaged(errors.New("another's"))
	}
	return c.Pool.Estimate(ctx, from)
}

// Send implements storage.Streams.
func (c claimer) Send(ctx context.Context, from storage.From, w io.Writer) error {
	*c.resumed = append(*c.resumed, from.Snapshot+":"+from.Resume)
	return c.Pool.Send(ctx, from, w)
}

// testResumed: a broken stream is gone on with, if it is the first that is wanted, and else dropped.
func testResumed(t *testing.T, p pools) {
	for _, c := range []struct{ broken, sent string }{{"s1", "s1:s1 s2: "}, {"s2", "s1: s2: "}, {"", "s1: s2: "}} {
		v := p.volume(t)
		var resumed []string
		q := p
		q.near, q.far = claimer{p.near, "", &resumed}, claimer{p.far, c.broken, nil}
		got := q.must(t, v, "s2", true)
		text := ""
		for _, s := range resumed {
			text += s + " "
		}
		if text != c.sent || got.Streams[0].Resumed != (c.broken == "s1") || got.Streams[1].Resumed {
			t.Errorf("with a part of %q: %q, %+v", c.broken, text, got.Streams)
		}
		storagetest.Destroy(t, p.far, v.ID)
	}
}
