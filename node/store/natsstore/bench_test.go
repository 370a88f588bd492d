package natsstore_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

func p50(of []time.Duration) time.Duration {
	slices.Sort(of)
	return of[len(of)/2]
}

// BenchmarkCommit compares, in one run and alternating, a commit of one fact and one of a
// deploy's usual five with a bare JetStream publish of the same bytes.
func BenchmarkCommit(b *testing.B) {
	m := natslab.Start(b)
	s := m.Open()
	ready(b, s)
	key, err := nats.NkeyOptionFromSeed(m.Seed(natsconf.RoleCoordinator))
	if err != nil {
		b.Fatal(err)
	}
	nc, err := nats.Connect(m.Config().CoreURLs[0], key, nats.CustomInboxPrefix(natsconf.Inbox("m1")))
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	value := make([]byte, 300)
	var bare, one, five []time.Duration
	ctx := within(b, 10*time.Minute)
	took := func(into *[]time.Duration, do func() error) {
		start := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		*into = append(*into, time.Since(start))
	}
	for i := 0; b.Loop(); i++ {
		took(&bare, func() error { return barePublish(nc, value) })
		took(&one, func() error {
			_, err := s.Facts().Commit(ctx, store.Batch{ID: fmt.Sprint("one", i), Puts: []store.Put{{Key: "bench.one", Value: value}}})
			return err
		})
		took(&five, func() error { _, err := s.Facts().Commit(ctx, deployLike(i, value)); return err })
	}
	b.ReportMetric(float64(p50(bare).Microseconds()), "bare-p50-µs")
	b.ReportMetric(float64(p50(one).Microseconds()), "one-p50-µs")
	b.ReportMetric(float64(p50(five).Microseconds()), "five-p50-µs")
	b.ReportMetric(float64(p50(one))/float64(p50(bare)), "one/bare")
	b.ReportMetric(float64(p50(five))/float64(p50(bare)), "five/bare")
}

func barePublish(nc *nats.Conn, value []byte) error {
	m, err := nc.Request(natsconf.FactsSubject(1)+"bench.bare", value, 5*time.Second)
	if err != nil {
		return err
	}
	var ack struct {
		Seq uint64 `json:"seq"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil || ack.Seq == 0 {
		return fmt.Errorf("%s: %v", m.Data, err)
	}
	return nil
}

func deployLike(i int, value []byte) store.Batch {
	b := store.Batch{ID: fmt.Sprint("five", i)}
	for _, k := range []store.Key{"head.shop", "ns.shop.commit.1", "route.shop", "ns.shop.inst.a", "ns.shop.inst.b"} {
		b.Puts = append(b.Puts, store.Put{Key: k, Value: value})
	}
	return b
}

// BenchmarkFollow rebuilds a view of 10 000 facts from the local mirror.
func BenchmarkFollow(b *testing.B) {
	const n = 10_000
	m := natslab.Start(b)
	s := m.Open()
	ready(b, s)
	ctx := within(b, 10*time.Minute)
	var last store.Revision
	for at := 0; at < n; at += 500 {
		batch := store.Batch{ID: fmt.Sprint("fill", at)}
		for i := at; i < at+500; i++ {
			batch.Puts = append(batch.Puts, store.Put{Key: store.Key(fmt.Sprint("route.n", i)), Value: make([]byte, 300)})
		}
		var err error
		if last, err = s.Facts().Commit(ctx, batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.AwaitMirror(ctx, last); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		feed, err := s.View().Follow(ctx, "route")
		if err != nil {
			b.Fatal(err)
		}
		got := 0
		for current := false; !current; got++ {
			c, err := feed.Next(ctx)
			if err != nil {
				b.Fatal(err)
			}
			current = c.Current
		}
		if got != n {
			b.Fatalf("%d facts", got)
		}
		_ = feed.Close()
	}
	b.ReportMetric(n, "facts/op")
}
