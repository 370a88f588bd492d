package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ServeHTTP answers one request: route, redirect, refuse or proxy.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.counts.requests.Add(1)
	out := &responseWriter{ResponseWriter: w, server: s, h2: r.ProtoMajor == 2, begun: time.Now()}
	defer out.done()
	if why, cut := r.Header[http.CanonicalHeaderKey(s.marker)]; cut {
		s.refuse(out, r, badFraming.with(strings.Join(why, "; ")))
		return
	}
	path := r.URL.EscapedPath()
	if r.Method == http.MethodConnect || path == "*" || dotted(path) {
		s.refuse(out, r, badTarget)
		return
	}
	host := canonicalHost(r.Host)
	route, covered := s.state.Load().index.find(host, path)
	if route == nil {
		s.refuse(out, r, noRoute.with("no route for "+host+path))
		return
	}
	if route.RedirectHTTPS && !isSecure(r) {
		http.Redirect(out, r, "https://"+host+r.URL.RequestURI(), http.StatusPermanentRedirect)
		return
	}
	s.proxy(out, r, route, covered)
}

func (s *Server) proxy(w *responseWriter, r *http.Request, route *httpRoute, covered int) {
	if route.StripPrefix && covered > 0 {
		r = r.WithContext(r.Context()) // shallow copy; URL is replaced, not changed
		r.URL = stripped(r.URL, covered)
	}
	if r.Body != nil && r.Body != http.NoBody {
		body := &clientBody{ReadCloser: r.Body, watch: w.newWatch(w.control().SetReadDeadline)}
		defer body.over.Store(true)
		r.Body = body
	}
	route.proxy.ServeHTTP(w, r)
}

// stripped returns u without the first covered bytes of its escaped path.
func stripped(u *url.URL, covered int) *url.URL {
	rest := u.EscapedPath()[covered:]
	if rest == "" {
		rest = "/"
	}
	v := *u
	v.RawPath = rest
	// It was a valid escaped path before, and no escape is cut in two at a segment border.
	v.Path, _ = url.PathUnescape(rest)
	return &v
}

// newProxy makes the proxy core of one route.
func (s *Server) newProxy(route *httpRoute) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:    rewrite,
		Transport:  &balancer{server: s, route: route, base: s.transports[route.Protocol], quick: s.quick[route.Protocol]},
		BufferPool: buffers{},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Del(reasonHeader) // only the gateway's own word may carry it
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { s.proxyError(w, r, route, err) },
		ErrorLog:     s.quiet,
	}
}

// rewrite makes the upstream's request: what the client said about itself is replaced by what
// is known. httputil has already removed hop-by-hop fields, Forwarded and X-Forwarded-*.
func rewrite(p *httputil.ProxyRequest) {
	p.Out.Host = p.In.Host
	p.Out.URL.RawQuery = p.In.URL.RawQuery // as it came, not as Go would repair it
	p.Out.URL.Scheme = "http"
	if p.Out.Body != nil {
		p.Out.Body = p.In.Body // without httputil's wrapper, which the first failed attempt closes
	}
	p.Out.Trailer = p.In.Trailer // the same map: its values come only after the body
	for name := range p.Out.Header {
		if strings.HasPrefix(name, "X-Forwarded-") {
			p.Out.Header.Del(name)
		}
	}
	p.SetXForwarded()
	if isSecure(p.In) {
		p.Out.Header.Set("X-Forwarded-Proto", "https")
	}
	p.Out.Header.Set("X-Real-Ip", p.Out.Header.Get("X-Forwarded-For"))
}

// proxyError answers for a request that got no response.
func (s *Server) proxyError(w http.ResponseWriter, r *http.Request, route *httpRoute, err error) {
	out := unwrapWriter(w)
	var bodyErr error
	if body, ok := r.Body.(*clientBody); ok {
		bodyErr = body.failure()
	}
	framing := bodyFraming(r)
	switch {
	case framing != nil:
		s.refuse(out, r, badFraming.with(framing.reason))
	case isTimeout(bodyErr):
		s.refuse(out, r, slowClient)
	case r.Context().Err() != nil || bodyErr != nil || errors.Is(err, errClientLeft):
		s.counts.clientGone.Add(1)
		w.WriteHeader(499) // nobody reads it
	case errors.Is(err, errNoUpstream):
		s.refuse(out, r, noUpstream.of(route))
	case errors.Is(err, errHeldTooLong):
		s.refuse(out, r, heldTooLong.of(route))
	case errors.Is(err, errTooManyHeld):
		s.refuse(out, r, tooManyHeld.of(route))
	case errors.Is(err, errRouteGone):
		s.refuse(out, r, noRoute.of(route))
	case isTimeout(err) && !isDialError(err):
		s.refuse(out, r, upstreamSlow.of(route).with(err.Error()))
	case isDialError(err):
		s.refuse(out, r, unreachable.of(route).with(err.Error()))
	default:
		s.refuse(out, r, upstreamBroken.of(route).with(err.Error()))
	}
}

// isVanished tells the kernel's word that a machine acknowledges nothing any more from a wait of our own for an
// upstream that may be busy.
func isVanished(err error) bool { return errors.Is(err, syscall.ETIMEDOUT) }

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// dialError marks a failure before any byte of the request was sent.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

func isDialError(err error) bool {
	var d *dialError
	return errors.As(err, &d)
}

// newTransports makes the connections to upstreams, shared by all routes of a protocol. With vanished, a machine
// that acknowledges nothing for so long is taken for gone; 0 leaves that to the kernel's many minutes.
func newTransports(l Limits, vanished time.Duration) map[Protocol]http.RoundTripper {
	dialer := &net.Dialer{Timeout: l.Dial}
	if vanished > 0 {
		dialer.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: vanished, Interval: time.Second, Count: 2}
		dialer.Control = func(_, _ string, conn syscall.RawConn) error {
			var set error
			err := conn.Control(func(fd uintptr) {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(vanished.Milliseconds()))
			})
			return errors.Join(err, set)
		}
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, &dialError{err}
		}
		return c, nil
	}
	base := func() *http.Transport {
		return &http.Transport{
			DialContext:           dial,
			DisableCompression:    true,
			MaxIdleConns:          4096,
			MaxIdleConnsPerHost:   256,
			ResponseHeaderTimeout: l.Response,
			// Below the shortest common keep-alive of servers (5 s), so that they do not close
			// a connection at the moment a request that cannot be repeated is written to it.
			IdleConnTimeout: 4 * time.Second,
		}
	}
	h2c := base()
	h2c.Protocols = new(http.Protocols)
	h2c.Protocols.SetUnencryptedHTTP2(true)
	return map[Protocol]http.RoundTripper{HTTP1: base(), H2C: h2c}
}

// buffers lends the copy buffers of all routes.
type buffers struct{}

var bufferPool = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (buffers) Get() []byte { return bufferPool.Get().(*[32 << 10]byte)[:] }

func (buffers) Put(b []byte) { bufferPool.Put((*[32 << 10]byte)(b)) }
