package dns

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// firstQueryGrace is how long connections are still heard once the server drains, and
	// idleGrace how long they may be silent then, if they have asked something before.
	firstQueryGrace = 2 * time.Second
	idleGrace       = 250 * time.Millisecond
	writeTimeout    = 5 * time.Second
)

// connections are the open TCP connections. The zero value is ready.
type connections struct {
	used allowance
	open sync.WaitGroup
	mu   sync.Mutex
	all  map[*tcpConn]bool // guarded by mu
	end  time.Time         // guarded by mu; of the drain, zero before it
}

// tcpConn is one connection. Replies may be written in another order than queries came
// (RFC 7766 §7).
type tcpConn struct {
	net.Conn
	group   *connections
	idle    time.Duration
	asked   bool       // guarded by group.mu: at least one query was read
	writing sync.Mutex // one reply at a time
}

// accept serves connections until the listener's deadline.
func (s *Server) accept(l *net.TCPListener) error {
	failures := 0
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			if failures++; failures > maxReadErrs || errors.Is(err, net.ErrClosed) {
				return err
			}
			time.Sleep(5 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		failures = 0
		from := addrPort(c.RemoteAddr()).Addr()
		if !s.conns.used.take(from, s.MaxConns) {
			s.count.dropped.Add(1)
			c.Close()
			continue
		}
		s.conns.open.Go(func() {
			defer s.conns.used.give(from)
			s.converse(s.conns.add(c, s.IdleTimeout), from)
		})
	}
}

// converse answers on one connection until it is silent for too long, closed or nonsense.
func (s *Server) converse(c *tcpConn, from netip.Addr) {
	var waiting sync.WaitGroup
	defer c.group.remove(c)
	defer c.Close()
	defer waiting.Wait()
	in := bufio.NewReader(c)
	for {
		raw, err := c.next(in)
		if err != nil {
			return // the client's business: gone, silent, or half a message
		}
		q := query{raw: raw, from: from, tcp: true}
		reply, work := s.answer(q)
		switch {
		case work != nil:
			waiting.Add(1)
			s.later(q, work, func(reply []byte) {
				defer waiting.Done()
				s.sendTCP(c, reply)
			})
		case reply == nil:
			return
		default:
			s.sendTCP(c, reply)
		}
	}
}

// next reads one message (RFC 1035 §4.2.2) into memory of its own.
func (c *tcpConn) next(in *bufio.Reader) ([]byte, error) {
	var size [2]byte
	if err := c.arm(false); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return nil, err
	}
	if err := c.arm(true); err != nil {
		return nil, err
	}
	raw := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(in, raw)
	return raw, err
}

func (s *Server) sendTCP(c *tcpConn, reply []byte) {
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply)))
	c.writing.Lock()
	defer c.writing.Unlock()
	err := c.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		_, err = c.Write(append(framed, reply...))
	}
	if err != nil {
		s.count.unsent.Add(1)
		return
	}
	s.count.replies.sent(reply)
}

func (g *connections) add(c net.Conn, idle time.Duration) *tcpConn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil {
		g.all = map[*tcpConn]bool{}
	}
	t := &tcpConn{Conn: c, group: g, idle: idle}
	g.all[t] = true
	return t
}

func (g *connections) remove(c *tcpConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.all, c)
}

// drain gives every connection the time it has left.
func (g *connections) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.end = time.Now().Add(firstQueryGrace)
	for c := range g.all {
		// A failure means that the connection is gone already.
		_ = c.SetReadDeadline(time.Now().Add(c.patienceLocked()))
	}
}

// wait returns once every connection is closed. No accept may be running any more.
func (g *connections) wait() { g.open.Wait() }

// arm sets how long the next read may take; asked says that a query has begun.
func (c *tcpConn) arm(asked bool) error {
	c.group.mu.Lock()
	defer c.group.mu.Unlock()
	c.asked = c.asked || asked
	return c.SetReadDeadline(time.Now().Add(c.patienceLocked()))
}

func (c *tcpConn) patienceLocked() time.Duration {
	switch {
	case c.group.end.IsZero():
		return c.idle
	case c.asked:
		return min(idleGrace, time.Until(c.group.end))
	}
	return time.Until(c.group.end)
}
