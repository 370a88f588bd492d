package gateway

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// While the table has a route on hold, nothing new goes to its instances: one of them stops and another begins. What
// comes for it meanwhile waits where it is, before a byte of it was sent on, and is sent to whatever a later table has.

// Causes of a request or connection that waited in vain.
var (
	errOnHold      = errors.New("the route is on hold")
	errHeldTooLong = errors.New("the route was on hold for too long")
	errTooManyHeld = errors.New("too many wait for routes that are on hold")
	errClientLeft  = errors.New("the client left")
)

// lookAtClient is how often a held one's connection is looked at, where nobody reads from it.
const lookAtClient = 250 * time.Millisecond

// hold is that of one route in one table.
type hold struct {
	asked bool
	until time.Time // zero: until another table
}

// holdOf is a route's hold, where its namespace's sequence was first served at a time.
func holdOf(asked bool, most time.Duration, served time.Time) hold {
	h := hold{asked: asked}
	if most > 0 {
		h.until = served.Add(most)
	}
	return h
}

func (h hold) on() bool { return h.asked && (h.until.IsZero() || time.Now().Before(h.until)) }

// over tells when the hold ends by itself; nil where it does not.
func (h hold) over() <-chan time.Time {
	if h.until.IsZero() {
		return nil
	}
	return time.After(time.Until(h.until))
}

// await returns nil once the newest table does not hold the route any more. gone says that the client has left.
// Errors: errHeldTooLong, errTooManyHeld, errClientLeft, ctx's.
func (s *Server) await(ctx context.Context, find func(*state) (pool, bool), gone func() bool) error {
	if s.counts.held.Add(1) > int64(s.Limits.Held) {
		s.counts.held.Add(-1)
		return errTooManyHeld
	}
	defer s.counts.held.Add(-1)
	s.counts.heldEver.Add(1)
	late, look := time.NewTimer(s.Limits.Hold), time.NewTicker(lookAtClient)
	defer late.Stop()
	defer look.Stop()
	for {
		st := s.state.Load()
		p, _ := find(st)
		if !p.hold.on() {
			return nil
		}
		select {
		case <-st.replaced:
		case <-p.hold.over():
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			st.late.Do(func() { s.Log.Warn("a route has been on hold for too long", "limit", s.Limits.Hold) })
			return errHeldTooLong
		case <-look.C:
			if gone() {
				return errClientLeft
			}
		}
	}
}

// requestLeft says whether the client of an HTTP/1 request has left; of an HTTP/2 one the request's context tells.
func requestLeft(ctx context.Context) func() bool {
	k, ok := ctx.Value(connKey{}).(*clientConn)
	if !ok || k.sentry == nil {
		return func() bool { return false }
	}
	return func() bool { return ended(k.sentry.tracked.Conn) }
}

// connectionLeft says whether the client of a TCP route has left. One that has sent something and its end may still
// wait for an answer.
func connectionLeft(c net.Conn) func() bool {
	return func() bool { return ended(c) && nothingUnread(c) }
}

// ended says whether the peer will send nothing any more, or is gone. It reads nothing.
func ended(c net.Conn) (yes bool) {
	onDescriptor(c, func(fd int) {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(polled, 0)
		yes = err == nil && n > 0
	})
	return yes
}

// nothingUnread says whether reading would tell the peer's end at once.
func nothingUnread(c net.Conn) (yes bool) {
	onDescriptor(c, func(fd int) {
		n, _, err := unix.Recvfrom(fd, make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		yes = n <= 0 && !errors.Is(err, unix.EAGAIN)
	})
	return yes
}

func onDescriptor(c net.Conn, use func(fd int)) {
	raw, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	conn, err := raw.SyscallConn()
	if err != nil {
		return
	}
	conn.Control(func(fd uintptr) { use(int(fd)) }) // an error means it is closed, which its reader is told of
}

// tcpRefusal is the reason for which a connection of a TCP route got no upstream.
func tcpRefusal(err error) string {
	switch {
	case errors.Is(err, errHeldTooLong):
		return "tcp-" + heldTooLong.reason
	case errors.Is(err, errTooManyHeld):
		return "tcp-" + tooManyHeld.reason
	}
	return "tcp-" + noUpstream.reason
}
