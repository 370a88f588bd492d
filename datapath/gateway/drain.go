package gateway

import (
	"context"
	"time"
)

// DrainOptions says how a server that is to end treats its clients.
type DrainOptions struct {
	// Succeeded: another process accepts from the same sockets, so this one stops at once.
	// Otherwise it goes on accepting HTTP until the connections it has are gone, since while
	// nobody accepts, new clients wait.
	Succeeded bool
	// IdleGrace is how long an HTTP/1 connection may wait for one more request before it is
	// closed. That request is answered with Connection: close, so only a client that sends
	// its next request at the very end of the grace can lose it.
	IdleGrace time.Duration
	// Last is how long requests may take that were accepted just before the end of Drain's
	// context, when the server stops accepting; 0 means none.
	Last time.Duration
}

// drainStep is how often a drain looks at what is left; every goAwaySteps it repeats GOAWAY, for
// connections that were still in their handshake the last time.
const (
	drainStep   = 10 * time.Millisecond
	goAwaySteps = 100
)

// Drain lets everything end by itself: requests are answered, HTTP/2 clients get GOAWAY,
// HTTP/1 clients Connection: close, and long ones (TCP, WebSocket, streams) may go on until ctx
// ends; then they are cut. It returns how many connections were cut. TCP ports stop accepting
// at once in any case: a connection that waits is better off than one that is cut.
func (s *Server) Drain(ctx context.Context, o DrainOptions) (cut int) {
	begun := time.Now()
	s.draining.Store(true)
	s.closePorts()
	s.goAway()
	if !o.Succeeded {
		s.wait(ctx, o, begun, func(c *tracked) bool { return c.accepted.Before(begun) })
		cut = s.cut(func(c *tracked) bool { return c.accepted.Before(begun) })
	}
	s.stopHTTP()
	s.closed.Store(true)
	s.goAway()
	if !o.Succeeded && ctx.Err() != nil && o.Last > 0 {
		last, cancel := context.WithTimeout(context.Background(), o.Last)
		defer cancel()
		ctx = last
	}
	any := func(*tracked) bool { return true }
	s.wait(ctx, o, begun, any)
	cut += s.cut(any)
	// A connection that was accepted in the last moment is on the list only once its loop has ended.
	s.accepting.Wait()
	s.wait(ctx, o, begun, any)
	cut += s.cut(any)
	s.h1.Close()
	return cut
}

func (s *Server) closePorts() {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	for _, p := range s.ports {
		p.close()
	}
}

// goAway tells every HTTP/2 client to take its next request elsewhere. The base server has no
// connections of its own, so there is nothing to wait for and nothing that can fail.
func (s *Server) goAway() { s.h2Base.Shutdown(context.Background()) }

// wait returns when no connection of the kind is left, or ctx ends. On the way it closes those
// of any kind that were idle for the grace.
func (s *Server) wait(ctx context.Context, o DrainOptions, begun time.Time, kind func(*tracked) bool) {
	tick := time.NewTicker(drainStep)
	defer tick.Stop()
	for step := 1; ; step++ {
		if step%goAwaySteps == 0 {
			s.goAway()
		}
		left := 0
		for _, c := range s.conns.list() {
			if c.idleLongerThan(o.IdleGrace, begun) {
				c.Close()
			} else if kind(c) {
				left++
			}
		}
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// idleLongerThan counts from the begin of the drain at the earliest.
func (c *tracked) idleLongerThan(grace time.Duration, begun time.Time) bool {
	since := c.idleSince.Load()
	if since == 0 {
		return false
	}
	return time.Since(begun) > grace && time.Now().UnixNano()-since > int64(grace)
}

func (s *Server) cut(kind func(*tracked) bool) int {
	n := 0
	for _, c := range s.conns.list() {
		if kind(c) {
			c.Close()
			n++
		}
	}
	return n
}
