package gateway

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// watch cuts a read or write that makes no progress: while one is under way a timer runs, and
// when it fires the deadline is set to the past. Unlike a deadline set beforehand it leaves
// streams alone that are quiet because nobody has anything to say.
type watch struct {
	limit time.Duration
	timer *time.Timer
	cut   func(time.Time) error
}

func (s *Server) newWatch(cut func(time.Time) error) *watch {
	return &watch{limit: s.Limits.Stall, cut: cut}
}

func (w *watch) begin() {
	if w.timer == nil {
		w.timer = time.AfterFunc(w.limit, func() { w.cut(time.Unix(1, 0)) })
		return
	}
	w.timer.Reset(w.limit)
}

func (w *watch) end() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// clientBody is a request's body on its way to an upstream.
type clientBody struct {
	io.ReadCloser
	watch  *watch
	begun  atomic.Bool           // something was asked of it, so it cannot be sent a second time
	over   atomic.Bool           // the request is answered: a transport that still reads must not touch it
	failed atomic.Pointer[error] // what reading ended with, but for io.EOF; the transport reads on its own goroutine
}

// failure returns why the body could not be read, or nil.
func (b *clientBody) failure() error {
	if p := b.failed.Load(); p != nil {
		return *p
	}
	return nil
}

func (b *clientBody) Read(p []byte) (int, error) {
	if b.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	b.begun.Store(true)
	b.watch.begin()
	n, err := b.ReadCloser.Read(p)
	b.watch.end()
	if err != nil && err != io.EOF {
		b.failed.Store(&err)
	}
	return n, err
}

// Close leaves the body open, since http.Transport closes it after an attempt that may be
// repeated. net/http closes the real one when the request is over.
func (b *clientBody) Close() error { return nil }

// responseWriter watches the progress of a response and ends connections during a drain.
type responseWriter struct {
	http.ResponseWriter
	server *Server
	h2     bool
	rc     *http.ResponseController
	write  *watch
	begun  time.Time
	status int // the last that was sent, 0 for none yet
}

// Unwrap lets http.ResponseController reach Hijack and the deadlines.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func unwrapWriter(w http.ResponseWriter) *responseWriter {
	out, _ := w.(*responseWriter)
	return out
}

func (w *responseWriter) control() *http.ResponseController {
	if w.rc == nil {
		w.rc = http.NewResponseController(w.ResponseWriter)
	}
	return w.rc
}

func (w *responseWriter) newWatch(cut func(time.Time) error) *watch { return w.server.newWatch(cut) }

func (w *responseWriter) progress() *watch {
	if w.write == nil {
		w.write = w.newWatch(w.control().SetWriteDeadline)
	}
	return w.write
}

// WriteHeader adds what makes an HTTP/1 client look for a new connection while we drain. HTTP/2
// turns the field into GOAWAY, which Drain sends by itself; here it is only for connections that
// came after the last one. While new connections still land here, one GOAWAY after the other
// would make clients back off.
func (w *responseWriter) WriteHeader(code int) {
	s := w.server
	if code >= 200 && s.draining.Load() && (!w.h2 || s.closed.Load()) {
		w.Header().Set("Connection", "close")
	}
	w.status = code
	w.ResponseWriter.WriteHeader(code)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.progress().begin()
	n, err := w.ResponseWriter.Write(p)
	w.write.end()
	return n, err
}

// FlushError sends what is buffered.
func (w *responseWriter) FlushError() error {
	w.progress().begin()
	err := w.control().Flush()
	w.write.end()
	return err
}

// done is the end of the request, however it came.
func (w *responseWriter) done() {
	if w.write != nil {
		w.write.end()
	}
	w.server.counts.answered(w.status, time.Since(w.begun))
}
