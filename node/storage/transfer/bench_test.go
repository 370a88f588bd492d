package transfer_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/storagetest"
)

// BenchmarkTransfer carries a snapshot of 24 MiB by turns as a transfer and as the plain stream, each from pool to pool over
// its own TCP connection, and reports how fast the first is for the second's one.
func BenchmarkTransfer(b *testing.B) { benchmarkTransfer(b, twoPools(b)) }

func benchmarkTransfer(b *testing.B, p pools) {
	v := p.volumeOf(b, 12*mib)
	var plain, carried time.Duration
	for b.Loop() {
		begun := time.Now()
		storagetest.Must(b, p.plain(b, v))
		plain += time.Since(begun)
		p.clear(b, v.ID)

		begun = time.Now()
		p.must(b, v, "s2", false)
		carried += time.Since(begun)
		p.clear(b, v.ID)
	}
	b.ReportMetric(plain.Seconds()/carried.Seconds(), "of-plain")
	b.SetBytes(24 * mib)
}

// plain is what a pipe between the two pools' programs does.
func (p pools) plain(t testing.TB, v storage.Volume) error {
	l := dial(t)
	var both sync.WaitGroup
	var sendErr, err error
	both.Go(func() {
		sendErr = p.near.Send(t.Context(), storage.From{Volume: v.ID, Snapshot: "s2"}, l.sender)
		l.sender.(*net.TCPConn).CloseWrite() //nolint:errcheck // the other side looks
	})
	both.Go(func() { _, err = p.far.Receive(t.Context(), v.Spec, l.receiver) })
	both.Wait()
	l.sender.Close()
	l.receiver.Close()
	if sendErr != nil {
		return sendErr
	}
	return err
}
