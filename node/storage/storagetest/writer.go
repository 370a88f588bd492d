package storagetest

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ployz/ployz/node/storage"
)

// Writer adds to a file of a live volume while a test moves it, and knows how much was acknowledged.
type Writer struct {
	path  string
	acked atomic.Int64
	stop  chan struct{}
	done  chan error
	once  sync.Once
	err   error // set by End
}

const (
	blockBytes = 16 << 10
	blockPause = 25 * time.Millisecond
)

// StartWriter begins to write; the test ends it, at the latest with itself.
func StartWriter(t testing.TB, v storage.Volume) *Writer {
	w := &Writer{path: filepath.Join(v.Path, "journal"), stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { w.done <- w.run() }()
	t.Cleanup(func() { Must(t, w.End()) })
	return w
}

func (w *Writer) run() error {
	f, err := os.Create(w.path)
	if err != nil {
		return err
	}
	defer f.Close()
	tick := time.NewTicker(blockPause)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return nil
		case <-tick.C:
		}
		if _, err := f.WriteString(random(blockBytes)); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		w.acked.Add(1)
	}
}

// End ends it; it is safe to repeat.
func (w *Writer) End() error {
	w.once.Do(func() { close(w.stop); w.err = <-w.done })
	return w.err
}

// Check compares what is in a copy of the volume with what was acknowledged and is still in the volume itself.
func (w *Writer) Check(t testing.TB, original []byte, far storage.Volume) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(far.Path, "journal"))
	Must(t, err)
	if want := w.acked.Load() * blockBytes; want == 0 || int64(len(got)) != want || !bytes.Equal(got, original) {
		t.Errorf("%d bytes were acknowledged, and %d are there", want, len(got))
	}
}

// Written is what the writer's file holds, once it has ended.
func (w *Writer) Written(t testing.TB) []byte {
	t.Helper()
	Must(t, w.End())
	text, err := os.ReadFile(w.path)
	Must(t, err)
	return text
}
