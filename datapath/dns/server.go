package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// strangersPerSecond is how many strangers are told REFUSED; the others get nothing.
const strangersPerSecond = 100

// Server answers queries. Make one with NewServer, change the exported fields, then Apply a
// zone and Serve; from then on only the methods may be used, from anywhere.
type Server struct {
	Forwarder *Forwarder
	// Trusted are sources that are the machine itself, next to Zone.Self.
	Trusted []netip.Prefix
	// RatePerSource is the cap on queries per second and source, with a burst of as many; 0
	// is no cap. What is above it gets REFUSED.
	RatePerSource int
	// MaxForwards is how many queries may wait for upstreams at once; a quarter of them for
	// one source. What is above it gets SERVFAIL.
	MaxForwards int
	// MaxConns is how many TCP connections may be open at once; a quarter of them from one
	// source. What is above it is closed.
	MaxConns int
	// IdleTimeout is how long a TCP connection may be silent.
	IdleTimeout time.Duration
	// LastGood is a file that keeps the zone that is served, or "".
	LastGood string
	Log      *slog.Logger

	view      atomic.Pointer[view]
	limiter   *limiter
	strangers atomic.Int64
	count     counters
	forwards  allowance
	conns     connections
	working   sync.WaitGroup // queries that wait for upstreams
	started   time.Time

	mu    sync.Mutex
	state applied     // guarded by mu; what Apply and MarkUncertain left
	bound []Listening // guarded by mu; set by Serve
}

// NewServer returns a server with an empty zone and the usual limits.
func NewServer() *Server {
	s := &Server{
		Forwarder: NewForwarder(),
		Trusted: []netip.Prefix{
			netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
		},
		RatePerSource: 5000,
		MaxForwards:   512,
		MaxConns:      256,
		IdleTimeout:   10 * time.Second,
		Log:           slog.Default(),
		limiter:       newLimiter(),
		started:       time.Now(),
	}
	s.count.forward = newForwardDurations()
	s.state.uncertain = "no zone applied yet"
	s.state.uncertainSince = s.started
	s.view.Store(compile(Zone{}))
	return s
}

// Sockets are what a server reads from. Serve closes them when it returns.
type Sockets struct {
	UDP []net.PacketConn // each a *net.UDPConn
	TCP []net.Listener   // each a *net.TCPListener
}

// drainFor is how long a reader goes on after it was told to stop, so that it empties the
// socket's buffer. What is left after that is for the next process, where there is one.
const drainFor = 20 * time.Millisecond

// Serve answers until ctx ends, then what is in the buffers and what waits for upstreams, and
// returns nil. Errors: a socket of the wrong kind, or one that cannot be read any more.
func (s *Server) Serve(ctx context.Context, sockets Sockets) error {
	udp, err := udpSockets(sockets.UDP)
	if err != nil {
		return err
	}
	tcp, err := tcpListeners(sockets.TCP)
	if err != nil {
		return err
	}
	s.setBound(udp, tcp)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var readers sync.WaitGroup
	run := func(read func() error) {
		readers.Go(func() {
			if err := read(); err != nil {
				fail(err)
			}
		})
	}
	for _, u := range udp {
		for range runtime.GOMAXPROCS(0) {
			run(func() error { return s.readUDP(u) })
		}
	}
	for _, l := range tcp {
		run(func() error { return s.accept(l) })
	}
	<-ctx.Done()
	err = context.Cause(ctx)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return errors.Join(err, s.drain(udp, tcp, &readers))
}

// drain stops reading, waits for every query that was read, and closes the sockets.
func (s *Server) drain(udp []*udpSocket, tcp []*net.TCPListener, readers *sync.WaitGroup) error {
	var errs []error
	end := time.Now().Add(drainFor)
	for _, u := range udp {
		errs = append(errs, u.conn.SetReadDeadline(end))
	}
	for _, l := range tcp {
		errs = append(errs, l.SetDeadline(end))
	}
	readers.Wait()
	s.conns.drain()
	s.conns.wait() // before the next: connections are what still adds to it
	s.working.Wait()
	for _, u := range udp {
		errs = append(errs, u.conn.Close())
	}
	for _, l := range tcp {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// later runs the waiting part of an answer elsewhere and sends the reply, or sends SERVFAIL at
// once if too much is waiting already.
func (s *Server) later(q query, work func() []byte, send func([]byte)) {
	from := q.from.Unmap()
	if !s.forwards.take(from, s.MaxForwards) {
		s.count.failed.Add(1)
		send(bare(q, dns.RcodeServerFailure))
		return
	}
	s.working.Go(func() {
		defer s.forwards.give(from)
		begun := time.Now()
		reply := work()
		s.count.forward.Add(time.Since(begun))
		send(reply)
	})
}

// Listening is an address that the server itself listens on.
type Listening struct {
	Network string         `json:"network"`
	Address netip.AddrPort `json:"address"`
}

func (s *Server) setBound(udp []*udpSocket, tcp []*net.TCPListener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound = nil
	for _, u := range udp {
		s.bound = append(s.bound, Listening{"udp", addrPort(u.conn.LocalAddr())})
	}
	for _, l := range tcp {
		s.bound = append(s.bound, Listening{"tcp", addrPort(l.Addr())})
	}
	bound := s.bound
	s.Forwarder.self = func(a netip.AddrPort) bool { return isBound(bound, a) }
}

// isBound says whether asking an address would be asking ourselves.
func isBound(bound []Listening, a netip.AddrPort) bool {
	for _, b := range bound {
		if b.Address.Port() != a.Port() {
			continue
		}
		if b.Address.Addr() == a.Addr().Unmap() || b.Address.Addr().IsUnspecified() && isOwn(a.Addr()) {
			return true
		}
	}
	return false
}

// isOwn says whether an address is one of this network namespace's.
func isOwn(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return true // better no upstream than a loop
	}
	for _, o := range own {
		if p, err := netip.ParsePrefix(o.String()); err == nil && p.Addr() == a.WithZone("").Unmap() {
			return true
		}
	}
	return false
}

func addrPort(a net.Addr) netip.AddrPort {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

func udpSockets(conns []net.PacketConn) ([]*udpSocket, error) {
	var out []*udpSocket
	for _, c := range conns {
		conn, ok := c.(*net.UDPConn)
		if !ok {
			return nil, fmt.Errorf("dns: %T at %v is no UDP socket", c, c.LocalAddr())
		}
		u, err := newUDPSocket(conn)
		if err != nil {
			return nil, fmt.Errorf("dns: udp %v: %w", c.LocalAddr(), err)
		}
		out = append(out, u)
	}
	return out, nil
}

func tcpListeners(listeners []net.Listener) ([]*net.TCPListener, error) {
	var out []*net.TCPListener
	for _, l := range listeners {
		t, ok := l.(*net.TCPListener)
		if !ok {
			return nil, fmt.Errorf("dns: %T at %v is no TCP listener", l, l.Addr())
		}
		out = append(out, t)
	}
	return out, nil
}
