package gateway

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// tracked is one accepted connection; closing it, however often, takes it off the list.
type tracked struct {
	net.Conn
	set      *connSet
	accepted time.Time
	// idleSince is unix nanoseconds while an HTTP/1 connection waits for a request, else 0.
	idleSince atomic.Int64
	h2        atomic.Bool
	once      sync.Once
	closeErr  error
	traffic   traffic
}

// Close closes the connection and frees its place.
func (c *tracked) Close() error {
	c.once.Do(func() {
		c.closeErr = c.Conn.Close()
		c.set.remove(c)
	})
	return c.closeErr
}

// CloseWrite sends the end of our side and leaves the other open.
func (c *tracked) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// note follows net/http's states. A connection that has not sent anything yet counts as idle.
func (c *tracked) note(state http.ConnState) {
	switch state {
	case http.StateNew, http.StateIdle:
		c.idleSince.Store(time.Now().UnixNano())
	default:
		c.idleSince.Store(0)
	}
}

// connSet is all accepted connections.
type connSet struct {
	mu    sync.Mutex
	all   map[*tracked]struct{} // guarded by mu
	slots chan struct{}         // one taken per connection; sending blocks at the limit
	ended traffic               // of connections that are not in all any more
}

func newConnSet(limit int) *connSet {
	return &connSet{all: map[*tracked]struct{}{}, slots: make(chan struct{}, limit)}
}

// accept waits for a free place first, so that at the limit clients queue in the kernel. A
// listener that waits for a client keeps one place.
func (s *connSet) accept(ln net.Listener) (*tracked, error) {
	s.slots <- struct{}{}
	for {
		c, err := ln.Accept()
		if err == nil {
			t := &tracked{Conn: c, set: s, accepted: time.Now()}
			s.mu.Lock()
			s.all[t] = struct{}{}
			s.mu.Unlock()
			return t, nil
		}
		if !passing(err) {
			<-s.slots
			return nil, err
		}
		time.Sleep(5 * time.Millisecond) // out of descriptors: wait for one to be closed
	}
}

// passing says whether accepting can go on after an error: a client that went away before it
// was accepted, or a lack of descriptors or memory.
func passing(err error) bool {
	var ne net.Error
	return !errors.Is(err, net.ErrClosed) && errors.As(err, &ne) && isTemporary(err)
}

func (s *connSet) remove(c *tracked) {
	s.mu.Lock()
	delete(s.all, c)
	s.ended.add(&c.traffic)
	s.mu.Unlock()
	<-s.slots
}

func (s *connSet) list() []*tracked {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*tracked, 0, len(s.all))
	for c := range s.all {
		out = append(out, c)
	}
	return out
}

// handedListener gives http.Server connections that were accepted and prepared elsewhere.
type handedListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandedListener() *handedListener {
	return &handedListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *handedListener) hand(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		c.Close()
	}
}

func (l *handedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *handedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *handedListener) Addr() net.Addr { return &net.TCPAddr{} }
