package transfer_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/storagetest"
)

// writer adds a block to a file of a volume, again and again, and knows how many are on the disk.
type writer struct {
	path  string
	acked atomic.Int64
	stop  chan struct{}
	done  chan error
	once  sync.Once
	err   error // set by end
}

// end stops it; it is safe to repeat.
func (w *writer) end() error {
	w.once.Do(func() { close(w.stop); w.err = <-w.done })
	return w.err
}

const blockBytes = 16 << 10

func startWriter(v storage.Volume) *writer {
	w := &writer{path: filepath.Join(v.Path, "journal"), stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { w.done <- w.run() }()
	return w
}

func (w *writer) run() error {
	f, err := os.Create(w.path)
	if err != nil {
		return err
	}
	defer f.Close()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return nil
		case <-tick.C:
		}
		if _, err := f.Write(noise(blockBytes)); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		w.acked.Add(1)
	}
}

// testMigration moves a volume while it is written: rounds as they are planned, the writer stopped, and the last delta.
// Everything that was acknowledged is there, and the stop was stated.
func testMigration(t *testing.T, p pools) {
	v := p.volumeOf(t, 4*mib)
	w := startWriter(v)
	t.Cleanup(func() { w.end() }) //nolint:errcheck // it was looked at
	out, in := p.ends(v, "", false)
	out.BytesPerSecond = 6 * mib // what makes the bandwidth the same on any machine
	round := func(name string) storage.Carried {
		out.Snapshot, in.Snapshot = name, name
		e := dial(t).carry(t.Context(), out, in)
		if e.sendErr != nil || e.getErr != nil {
			t.Fatal(e.sendErr, e.getErr)
		}
		return e.got
	}
	snapshot := func(name string) time.Time {
		_, err := p.near.Snapshot(t.Context(), name, v.ID)
		storagetest.Must(t, err)
		return time.Now()
	}
	at := snapshot("r0")
	full := round("r0")
	rounds := storage.Rounds{
		Done:     []storage.Round{{Bytes: full.Bytes, Took: full.Took}},
		Overhead: 300 * time.Millisecond, Fixed: 200 * time.Millisecond, MaxStop: 10 * time.Second,
	}
	var plan storage.RoundPlan
	for n := 1; ; n++ {
		last, name := fmt.Sprintf("r%d", n-1), fmt.Sprintf("r%d", n)
		now := snapshot(name)
		left, err := p.near.Estimate(t.Context(), storage.From{Volume: v.ID, Snapshot: name, Base: last})
		storagetest.Must(t, err)
		rounds.LeftBytes, rounds.Since = left, now.Sub(at)
		if plan = storage.PlanRound(rounds); plan.Next != storage.NextRound {
			break
		}
		got := round(name)
		rounds.Done = append(rounds.Done, storage.Round{Bytes: got.Bytes, Took: got.Took, Span: now.Sub(at)})
		at = now
	}
	if plan.Next != storage.NextCutOver {
		t.Fatalf("%+v", plan)
	}
	storagetest.Must(t, w.end())
	before, err := os.ReadFile(w.path)
	storagetest.Must(t, err)
	begun := time.Now()
	snapshot("final")
	delta := round("final")
	storagetest.Must(t, p.near.Retire(t.Context(), v.ID))
	storagetest.Must(t, p.far.Restore(t.Context(), v.ID))
	t.Logf("after %d rounds: %s; the stop took %s, of which %d bytes took %s", len(rounds.Done), plan.Why, time.Since(begun), delta.Bytes, delta.Took)

	far, err := p.far.Inspect(t.Context(), v.ID)
	storagetest.Must(t, err)
	got, err := os.ReadFile(filepath.Join(far.Path, "journal"))
	storagetest.Must(t, err)
	want := w.acked.Load() * blockBytes
	if int64(len(got)) != want || want == 0 || !bytes.Equal(got, before) {
		t.Errorf("%d bytes were acknowledged, and %d are there", want, len(got))
	}
}
