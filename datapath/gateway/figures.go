package gateway

import (
	"bufio"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/ployz/ployz/datapath/tally"
)

// Figures are what a gateway process has counted since its start, in numbers only; Status has the rest. Taking
// them costs a walk over connections and upstreams.
type Figures struct {
	// Answered are requests by class of status: Answered[2] those with 2xx.
	Answered [6]uint64
	// Took is how long requests took, but for those that upgraded their connection.
	Took tally.Spread
	// Refused are the gateway's own answers by reason.
	Refused map[string]uint64
	// Retries and ConnectFailures are attempts at upstreams.
	Retries, ConnectFailures          uint64
	TCPConnections, HandshakeFailures uint64
	// HeldEver are requests and TCP connections that waited for a route on hold, Held those that do now.
	HeldEver                         uint64
	Held                             int64
	ReceivedBytes, SentBytes         uint64 // from and to clients
	Connections                      int    // open ones of clients
	InFlight                         int64  // open requests and TCP connections at upstreams
	ReadyUpstreams, FailingUpstreams int    // of those that routes name and that do not drain
	DrainingUpstreams, Predecessors  int
}

// newRequestDurations tells requests apart from a page out of memory to one that somebody gave up on.
func newRequestDurations() *tally.Durations {
	return tally.New(time.Millisecond, 2500*time.Microsecond, 5*time.Millisecond, 10*time.Millisecond, 25*time.Millisecond, 100*time.Millisecond,
		250*time.Millisecond, 500*time.Millisecond, time.Second, 2500*time.Millisecond, 10*time.Second)
}

// answered counts one request that is over. One with the status 0 got no answer at all.
func (c *counters) answered(status int, took time.Duration) {
	class := status / 100
	if class < 1 || class >= len(c.classes) {
		return
	}
	c.classes[class].Add(1)
	if status != http.StatusSwitchingProtocols {
		c.took.Add(took)
	}
}

// Hijack gives the connection up for an upgrade, whose answer is then written past WriteHeader.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := w.control().Hijack()
	if err == nil {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, buffered, err
}

// traffic counts bytes of clients.
type traffic struct{ received, sent atomic.Uint64 }

func (t *traffic) add(o *traffic) {
	t.received.Add(o.received.Load())
	t.sent.Add(o.sent.Load())
}

// Read counts what the client sends, for this connection alone: a counter that all share would cost each of them.
func (c *tracked) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.traffic.received.Add(uint64(n))
	return n, err
}

// Write counts likewise.
func (c *tracked) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.traffic.sent.Add(uint64(n))
	return n, err
}

// figures are the bytes of all connections, ended ones too, and the number of open ones.
func (s *connSet) figures() (received, sent uint64, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	received, sent = s.ended.received.Load(), s.ended.sent.Load()
	for c := range s.all {
		received += c.traffic.received.Load()
		sent += c.traffic.sent.Load()
	}
	return received, sent, len(s.all)
}

// Figures returns the numbers of now; those of different kinds are not of one instant.
func (s *Server) Figures() Figures {
	c := &s.counts
	f := Figures{
		Took: c.took.Spread(), Refused: map[string]uint64{}, Retries: c.retries.Load(), ConnectFailures: c.connectFailures.Load(),
		HeldEver: c.heldEver.Load(), Held: c.held.Load(), TCPConnections: c.tcpConnections.Load(), HandshakeFailures: c.handshakeFailures.Load(),
	}
	for i := range c.classes {
		f.Answered[i] = c.classes[i].Load()
	}
	c.refusals.Range(func(reason, n any) bool {
		f.Refused[reason.(string)] = n.(*atomic.Uint64).Load()
		return true
	})
	f.ReceivedBytes, f.SentBytes, f.Connections = s.conns.figures()
	s.countUpstreams(&f)
	if s.Predecessors != nil {
		f.Predecessors = len(s.Predecessors())
	}
	return f
}

func (s *Server) countUpstreams(f *Figures) {
	st, now := s.state.Load(), time.Now()
	for _, u := range s.upstream.list() {
		f.InFlight += u.inFlight.Load()
		k := upstreamKey{u.id, u.address}
		switch {
		case st.draining[k] || !st.named[k]:
		case u.failing(now):
			f.FailingUpstreams++
		default:
			f.ReadyUpstreams++
		}
	}
	f.DrainingUpstreams = len(st.draining)
}
