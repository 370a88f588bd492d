package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// balancer sends a request to one of a route's upstreams, and to another where that is safe.
type balancer struct {
	server *Server
	route  *httpRoute
	base   http.RoundTripper
	// quick has connections that tell soon when an upstream's machine is gone. Sending a body over one could
	// end because the upstream takes its time with it, so it is for requests without.
	quick http.RoundTripper
}

// RoundTrip returns the first response, or the last failure. The upstream counts as in flight
// until the response's body is closed.
func (b *balancer) RoundTrip(req *http.Request) (*http.Response, error) {
	var tried []*upstream
	var last error
	base := b.base
	if safe(req) && req.Header.Get("Upgrade") == "" {
		base = b.quick
	}
	for len(tried) < maxAttempts {
		u, err := b.server.acquire(b.route.httpPool, tried)
		if errors.Is(err, errOnHold) { // here nothing was sent, or nothing that may not be sent again
			if err := b.server.await(req.Context(), b.route.httpPool, requestLeft(req.Context())); err != nil {
				return nil, err
			}
			tried, last = nil, nil
			continue
		}
		if err != nil {
			if last != nil {
				return nil, last
			}
			return nil, err
		}
		resp, err := base.RoundTrip(addressed(req, u.address))
		if err == nil {
			u.noteSuccess()
			resp.Body = held(resp.Body, u)
			return resp, nil
		}
		u.inFlight.Add(-1)
		if req.Context().Err() != nil {
			return nil, err // the client left; that says nothing about the upstream
		}
		last, tried = err, append(tried, u)
		if isDialError(err) || isVanished(err) {
			b.server.counts.connectFailures.Add(1)
			u.noteFailure(time.Now())
		}
		if !repeatable(req, err) {
			return nil, err
		}
		b.server.counts.retries.Add(1)
	}
	return nil, last
}

// addressed is a copy of req for one upstream.
func addressed(req *http.Request, address string) *http.Request {
	out := req.WithContext(req.Context())
	out.URL = new(url.URL)
	*out.URL = *req.URL
	out.URL.Host = address
	return out
}

// repeatable says whether another upstream may be asked: always where nothing was sent, and
// after that only what is safe by definition and has no body. A response header that does not
// come in time is not asked for elsewhere: the first may still be working on it.
func repeatable(req *http.Request, err error) bool {
	if body, ok := req.Body.(*clientBody); ok && body.begun.Load() {
		return false
	}
	if isDialError(err) {
		return true
	}
	return safe(req) && (!isTimeout(err) || isVanished(err))
}

// safe says whether asking twice is asking once: by definition of the method, and without a body.
func safe(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return req.Body == nil || req.Body == http.NoBody
	}
	return false
}

// held wraps a body so that closing it ends the upstream's being in flight. A body that can be
// written to (101 Switching Protocols) stays so.
func held(body io.ReadCloser, u *upstream) io.ReadCloser {
	h := &heldBody{ReadCloser: body, upstream: u}
	if w, ok := body.(io.ReadWriteCloser); ok {
		return &heldStream{heldBody: h, Writer: w}
	}
	return h
}

type heldBody struct {
	io.ReadCloser
	upstream *upstream
	once     sync.Once
}

func (b *heldBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(func() { b.upstream.inFlight.Add(-1) })
	return err
}

type heldStream struct {
	*heldBody
	io.Writer
}

// CloseWrite passes the end of the client's side of an upgraded connection on.
func (b *heldStream) CloseWrite() error {
	if h, ok := b.Writer.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}
