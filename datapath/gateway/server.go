package gateway

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// Server serves one Table at a time. Fill the fields, then call Start, Apply and Serve.
type Server struct {
	Log    *slog.Logger
	Limits Limits
	// H2C takes HTTP/2 with prior knowledge on plain listeners.
	H2C bool
	// ListenTCP returns the listeners of a TCP route's port. Apply calls it for ports that come
	// up, and what it returns is closed when the port's route is gone. Errors show in Status.
	ListenTCP func(port uint16) ([]net.Listener, error)
	// Predecessors returns the pids of gateways that still drain for this one; may be nil.
	Predecessors func() []int
	// CloseTCP is told of a port whose route is gone, after its listeners were closed; may be nil.
	CloseTCP func(port uint16)

	state    atomic.Pointer[state]
	certs    atomic.Pointer[certStore]
	upstream registry
	conns    *connSet
	counts   counters
	notes    notes
	draining atomic.Bool
	closed   atomic.Bool // nothing is accepted any more
	started  time.Time
	marker   string      // secret name of the field that sentry ends a bad request with
	quiet    *log.Logger // for what net/http has to say about single clients

	transports map[Protocol]http.RoundTripper
	quick      map[Protocol]http.RoundTripper // for requests without a body
	h1         *http.Server
	h1Conns    *handedListener
	h2         *http2.Server
	h2Base     *http.Server
	tls        *tls.Config

	applyMu sync.Mutex // one Apply at a time; guards ports
	ports   map[uint16]*port

	accepting sync.WaitGroup // the loops that accept HTTP connections
	listenMu  sync.Mutex
	open      []net.Listener // guarded by listenMu; HTTP listeners being accepted from
}

// Limits keep a slow or greedy client from holding things. Zero values mean the defaults.
type Limits struct {
	HeaderBytes int           // of a request's header section; 64 KiB
	Header      time.Duration // from a request's first byte to the end of its header, and for a TLS handshake; 10 s
	Idle        time.Duration // between requests of a connection; 75 s
	Stall       time.Duration // without a byte of progress in a body that is being sent; 60 s
	Connections int           // accepted at once, more wait in the kernel's queue; 16384
	Dial        time.Duration // to reach an upstream; 2 s
	Vanished    time.Duration // without any sign of an upstream's machine, until a request without a body is asked elsewhere; 3 s
	Response    time.Duration // from the end of a request to the upstream's response header; 120 s
	Hold        time.Duration // for a route that is on hold to get instances again; 30 s
	Held        int           // requests and connections that wait for such routes at once; 1000
}

func (l Limits) withDefaults() Limits {
	orInt := func(p *int, d int) {
		if *p == 0 {
			*p = d
		}
	}
	orTime := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
	}
	orInt(&l.HeaderBytes, 64<<10)
	orInt(&l.Connections, 16384)
	orInt(&l.Held, 1000)
	orTime(&l.Hold, 30*time.Second)
	orTime(&l.Header, 10*time.Second)
	orTime(&l.Idle, 75*time.Second)
	orTime(&l.Stall, 60*time.Second)
	orTime(&l.Dial, 2*time.Second)
	orTime(&l.Vanished, 3*time.Second)
	orTime(&l.Response, 120*time.Second)
	return l
}

// Start prepares the server with an empty table. Call it once, before anything else.
func (s *Server) Start() error {
	s.Limits = s.Limits.withDefaults()
	s.started = time.Now()
	s.counts.took = newRequestDurations()
	s.conns = newConnSet(s.Limits.Connections)
	s.ports = map[uint16]*port{}
	s.marker = "X-Ployz-Cut-" + strings.ToLower(rand.Text())
	s.transports, s.quick = newTransports(s.Limits, 0), newTransports(s.Limits, s.Limits.Vanished)
	s.quiet = slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)
	s.state.Store(s.compile(Table{}))
	s.certs.Store(&certStore{})
	s.tls = newTLSConfig(s.certificate)
	return s.startHTTP()
}

func (s *Server) startHTTP() error {
	s.h1Conns = newHandedListener()
	s.h1 = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.Limits.Header,
		IdleTimeout:       s.Limits.Idle,
		MaxHeaderBytes:    s.Limits.HeaderBytes,
		ErrorLog:          s.quiet,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ConnState:         noteState,
		ConnContext:       withConn,
	}
	s.h2 = &http2.Server{
		MaxConcurrentStreams: 250,
		IdleTimeout:          s.Limits.Idle,
		ReadIdleTimeout:      s.Limits.Stall,
		WriteByteTimeout:     s.Limits.Stall,
	}
	// The base is never served from: it carries limits, and its Shutdown says GOAWAY to every
	// HTTP/2 connection without touching any, which http.Server does not offer otherwise.
	s.h2Base = &http.Server{MaxHeaderBytes: s.Limits.HeaderBytes, ErrorLog: s.quiet, TLSConfig: &tls.Config{}}
	if err := http2.ConfigureServer(s.h2Base, s.h2); err != nil {
		return err
	}
	go s.h1.Serve(s.h1Conns) // returns at Close
	return nil
}

func noteState(c net.Conn, st http.ConnState) {
	k, ok := c.(*sentry)
	if !ok {
		return
	}
	k.tracked.note(st)
	if st == http.StateHijacked {
		k.open.Store(true)
	}
}

// Listeners are the HTTP sockets. TCP routes get theirs through Server.ListenTCP.
type Listeners struct {
	HTTP  []net.Listener
	HTTPS []net.Listener
}

// Serve accepts until Drain or Close, or until ctx ends, which only stops accepting. It returns
// nil, or the first listener's error.
func (s *Server) Serve(ctx context.Context, l Listeners) error {
	s.listenMu.Lock()
	s.open = append(append(s.open, l.HTTP...), l.HTTPS...)
	s.listenMu.Unlock()
	defer context.AfterFunc(ctx, s.stopHTTP)()

	errs := make(chan error, len(l.HTTP)+len(l.HTTPS))
	for _, ln := range l.HTTP {
		s.accepting.Go(func() { errs <- s.acceptLoop(ln, s.servePlain) })
	}
	for _, ln := range l.HTTPS {
		s.accepting.Go(func() { errs <- s.acceptLoop(ln, s.serveTLS) })
	}
	var first error
	for range len(l.HTTP) + len(l.HTTPS) {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (s *Server) acceptLoop(ln net.Listener, serve func(*tracked)) error {
	for {
		c, err := s.conns.accept(ln)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		c.note(http.StateNew)
		go serve(c)
	}
}

// isTemporary names the errors of accept that pass.
func isTemporary(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *Server) stopHTTP() {
	s.listenMu.Lock()
	defer s.listenMu.Unlock()
	for _, ln := range s.open {
		ln.Close()
	}
	s.open = nil
}

func (s *Server) servePlain(c *tracked) {
	if s.H2C {
		conn, isH2 := s.peekPreface(c)
		if isH2 {
			s.serveHTTP2(c, conn)
			return
		}
		s.serveHTTP1(c, conn)
		return
	}
	s.serveHTTP1(c, c)
}

// serveTLS does the handshake itself, since HTTP/2 and HTTP/1 go to different servers.
func (s *Server) serveTLS(c *tracked) {
	conn := tls.Server(c, s.tls)
	ctx, cancel := context.WithTimeout(context.Background(), s.Limits.Header)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		s.counts.handshakeFailures.Add(1)
		c.Close()
		return
	}
	if conn.ConnectionState().NegotiatedProtocol == http2.NextProtoTLS {
		s.serveHTTP2(c, conn)
		return
	}
	s.serveHTTP1(c, conn)
}

// serveHTTP1 is the seam for a faster path: nothing has been read from conn yet.
func (s *Server) serveHTTP1(c *tracked, conn net.Conn) {
	s.h1Conns.hand(&sentry{Conn: conn, tracked: c, marker: s.marker})
}

func (s *Server) serveHTTP2(c *tracked, conn net.Conn) {
	c.h2.Store(true)
	c.idleSince.Store(0)
	defer c.Close()
	s.h2.ServeConn(conn, &http2.ServeConnOpts{
		Context:    withConn(context.Background(), conn),
		BaseConfig: s.h2Base,
		Handler:    s,
	})
}

type connKey struct{}

// clientConn is what a request's context knows of its connection.
type clientConn struct {
	secure bool    // the client speaks TLS; sentry hides the *tls.Conn from net/http
	sentry *sentry // nil for HTTP/2
}

func withConn(ctx context.Context, c net.Conn) context.Context {
	k := &clientConn{}
	if guard, ok := c.(*sentry); ok {
		k.sentry, c = guard, guard.Conn
	}
	_, k.secure = c.(*tls.Conn)
	return context.WithValue(ctx, connKey{}, k)
}

func isSecure(r *http.Request) bool {
	k, ok := r.Context().Value(connKey{}).(*clientConn)
	return ok && k.secure
}

// bodyFraming returns why the request's body was cut, or nil.
func bodyFraming(r *http.Request) *framingError {
	k, ok := r.Context().Value(connKey{}).(*clientConn)
	if !ok || k.sentry == nil {
		return nil
	}
	return k.sentry.badBody.Load()
}
