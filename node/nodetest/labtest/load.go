package labtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/nodetest/load"
)

// Running is a plan that runs in a lab.
type Running struct {
	t     testing.TB
	place string
	in    *io.PipeWriter
	done  chan struct{}
	out   *bytes.Buffer // read after done
	err   error         // read after done
}

// StartLoad runs a plan at a place of a lab, "m1" or "client", where program is the path there of
// node/nodetest/probe or of a program that also plays `load`. It returns when every load has been answered once.
func StartLoad(t testing.TB, lab, place, program string, p load.Plan) *Running {
	t.Helper()
	plan, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	in, feed := io.Pipe()
	r := &Running{t: t, place: place, in: feed, done: make(chan struct{}), out: &bytes.Buffer{}}
	t.Cleanup(r.end)
	ready := &lineWaiter{kept: r.out, seen: make(chan struct{})}
	go func() {
		defer close(r.done)
		var status int
		status, r.err = dev.Exec(context.Background(), lab, place, []string{program, "load"}, dev.Streams{In: in, Out: ready, Err: ready})
		if r.err == nil && status != 0 {
			r.err = fmt.Errorf("exit status %d", status)
		}
		in.Close()
	}()
	go feed.Write(append(plan, '\n'))
	r.await(ready.seen)
	return r
}

func (r *Running) await(ready <-chan struct{}) {
	r.t.Helper()
	select {
	case <-ready:
	case <-r.done:
		r.t.Fatalf("the load at %s ended at once: %v\n%s", r.place, r.err, r.out)
	case <-time.After(30 * time.Second):
		r.t.Fatalf("the load at %s was never answered: %s", r.place, r.Stop())
	}
}

func (r *Running) end() {
	r.in.Close()
	<-r.done
}

// Stop ends the load, waits for what is under way, and returns what became of everything.
func (r *Running) Stop() load.Report {
	r.t.Helper()
	r.end()
	var report load.Report
	text := r.out.Bytes()
	text = bytes.TrimPrefix(text, []byte("ready\n"))
	if err := json.Unmarshal(text, &report); err != nil || r.err != nil {
		r.t.Fatalf("the load at %s: %v, %v\n%s", r.place, r.err, err, text)
	}
	return report
}

// lineWaiter keeps what is written and tells of the first line.
type lineWaiter struct {
	kept *bytes.Buffer
	seen chan struct{}
	told bool
}

func (w *lineWaiter) Write(p []byte) (int, error) {
	n, err := w.kept.Write(p)
	if !w.told && bytes.HasPrefix(w.kept.Bytes(), []byte("ready\n")) {
		w.told = true
		close(w.seen)
	}
	return n, err
}

// Load runs a plan at a place of the lab and counts every answer: the oracle of a test that takes
// something away meanwhile. Its Stop returns the counts.
func (l *Lab) Load(place string, p load.Plan) *Running {
	l.t.Helper()
	program := l.probe()
	if place != Client {
		l.Copy(place, program, probePath)
		program = probePath
	}
	return StartLoad(l.t, l.Name, place, program, p)
}
