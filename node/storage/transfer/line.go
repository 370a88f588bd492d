package transfer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

const (
	// defaultSilence is how long a side that says nothing counts as there. It is above what a busy machine takes
	// to schedule a process, and under what an operator waits for without a look.
	defaultSilence = 30 * time.Second
	// lingering bounds the wait for the other side to have read the last word.
	lingering = 5 * time.Second
)

// line is the connection to the other side: frames, signs of life, and one reason for its end.
type line struct {
	conn    io.ReadWriteCloser
	other   string // who is there: "sender" or "receiver"
	silence time.Duration

	in frameReader // one goroutine at a time reads
	mu sync.Mutex
	// out is guarded by mu.
	out frameWriter

	reading atomic.Int64 // when the read began that waits now, in nanoseconds; 0 while none does
	why     atomic.Pointer[error]
	ended   chan struct{}
	unhook  func() bool
	at      sync.WaitGroup
}

// openLine watches over a connection until close, or until ctx ends, which closes the connection.
func openLine(ctx context.Context, conn io.ReadWriteCloser, other string, silence time.Duration) *line {
	if silence == 0 {
		silence = defaultSilence
	}
	l := &line{conn: conn, other: other, silence: silence, ended: make(chan struct{}), out: frameWriter{w: conn}}
	l.in.r = bufio.NewReader(watched{l})
	l.unhook = context.AfterFunc(ctx, func() { l.end(context.Cause(ctx)) })
	l.at.Go(l.beat)
	l.at.Go(l.watch)
	return l
}

// watched notes how long a read waits.
type watched struct{ l *line }

// Read implements io.Reader.
func (w watched) Read(p []byte) (int, error) {
	w.l.reading.Store(time.Now().UnixNano())
	defer w.l.reading.Store(0)
	return w.l.conn.Read(p)
}

// end closes the connection; the first reason is the one that is told.
func (l *line) end(why error) {
	l.why.CompareAndSwap(nil, &why)
	l.conn.Close() // whoever reads or writes learns of it, and that is the point
}

func (l *line) close() {
	l.unhook()
	close(l.ended)
	l.end(io.ErrClosedPipe)
	l.at.Wait()
}

// watch ends a connection of which the other side is silent while we listen. While we do not, it proves nothing.
func (l *line) watch() {
	l.every(l.silence/8, func() {
		since := l.reading.Load()
		if since != 0 && time.Since(time.Unix(0, since)) > l.silence {
			l.end(storage.TransferCut(fmt.Errorf("the %s was silent for %s", l.other, l.silence)))
		}
	})
}

// beat says that we are there, unless something else is being said.
func (l *line) beat() {
	l.every(l.silence/4, func() {
		if l.mu.TryLock() {
			defer l.mu.Unlock()
			l.out.write(kindBeat, make([]byte, headBytes)) //nolint:errcheck // whoever says or hears something learns of it
		}
	})
}

func (l *line) every(pause time.Duration, do func()) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			do()
		case <-l.ended:
			return
		}
	}
}

// broken types what a read or a write ended with.
func (l *line) broken(err error) error {
	var typed *api.Error
	if err == nil || errors.As(err, &typed) {
		return err
	}
	if why := l.why.Load(); why != nil {
		return *why
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it closed the connection")
	}
	return storage.TransferCut(fmt.Errorf("the %s is gone: %w", l.other, err))
}

// greet makes sure that the other side speaks this protocol. The receiver speaks first.
func (l *line) greet(first bool) error {
	text := make([]byte, len(greeting))
	if first {
		if _, err := io.WriteString(l.conn, greeting); err != nil {
			return l.broken(err)
		}
	}
	if _, err := io.ReadFull(l.in.r, text); err != nil {
		return l.broken(err)
	}
	if string(text) != greeting {
		return storage.StreamDamaged(fmt.Errorf("the %s does not speak %q", l.other, greeting[:len(greeting)-1]))
	}
	if !first {
		_, err := io.WriteString(l.conn, greeting)
		return l.broken(err)
	}
	return nil
}

// write writes a frame; framed has headBytes of room before the payload.
func (l *line) write(k kind, framed []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken(l.out.write(k, framed))
}

// say writes a message.
func (l *line) say(k kind, message any) error {
	text, err := json.Marshal(message)
	if err != nil {
		return api.Errorf(api.CodeInternal, "encoding a message: %w", err)
	}
	return l.write(k, append(make([]byte, headBytes, headBytes+len(text)), text...))
}

// told is an error that the other side has sent, and does not need to hear of.
type told struct{ why *api.Error }

func (t told) Error() string { return t.why.Error() }
func (t told) Unwrap() error { return t.why }

// next reads the head of the next frame that is no beat. Errors: what the other side refuses with, as told.
func (l *line) next() (k kind, length int, err error) {
	for {
		if k, length, err = l.in.head(); err != nil {
			return 0, 0, l.broken(err)
		}
		switch k {
		case kindBeat:
			if err := l.body(make([]byte, length)); err != nil {
				return 0, 0, err
			}
		case kindRefuse:
			why := &api.Error{}
			if err := l.message(length, why); err != nil {
				return 0, 0, err
			}
			return 0, 0, told{why}
		default:
			return k, length, nil
		}
	}
}

func (l *line) body(payload []byte) error { return l.broken(l.in.body(payload)) }

// message reads a payload that is a message.
func (l *line) message(length int, into any) error {
	text := make([]byte, length)
	if err := l.body(text); err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return storage.StreamDamaged(fmt.Errorf("what the %s says cannot be read: %w", l.other, err))
	}
	return nil
}

// hear reads the next frame, which must be of one kind.
func (l *line) hear(want kind, into any) error {
	k, length, err := l.next()
	if err != nil {
		return err
	}
	if k != want {
		return l.unexpected(k)
	}
	return l.message(length, into)
}

func (l *line) unexpected(k kind) error {
	return storage.StreamDamaged(fmt.Errorf("the %s sent a frame %q out of turn", l.other, string(rune(k))))
}

// conclude tells the other side why we stop, unless it knows, and returns the error for the caller. reading are
// closed by goroutines that read the line until then.
func (l *line) conclude(ctx context.Context, err error, reading ...<-chan struct{}) error {
	var heard told
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &heard):
		return heard.why
	case l.why.Load() != nil:
		return err
	}
	stop := time.AfterFunc(lingering, func() { l.end(err) })
	defer stop.Stop()
	if l.say(kindRefuse, api.AsError(err)) == nil {
		l.linger(slices.DeleteFunc(reading, func(c <-chan struct{}) bool { return c == nil }))
	}
	return err
}

// linger waits until the other side has closed the connection: with something unread at this end, closing it here
// could take the last word back.
func (l *line) linger(reading []<-chan struct{}) {
	stop := time.AfterFunc(lingering, func() { l.end(io.ErrClosedPipe) })
	defer stop.Stop()
	for _, done := range reading {
		<-done
	}
	io.Copy(io.Discard, l.in.r) //nolint:errcheck // its end is all that matters
}
