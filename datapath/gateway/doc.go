// Package gateway is the HTTP and TCP proxy that serves a Table it is handed.
//
// It knows hostnames, paths, ports, certificates and addresses. It does not know where a Table
// comes from: cmd/ployz-gateway follows the routing facts, or reads a file, and calls
// Server.Apply. A table that does not validate is refused as a whole with a *TableError, and
// the last good one goes on serving.
//
// A request meets, in this order: tracked (the accepted connection), TLS, sentry (refuses
// ambiguous HTTP/1 framing before anything interprets it), net/http or x/net/http2, Server's
// ServeHTTP (route, redirect, refuse), httputil.ReverseProxy, and the route's balancer, which
// picks an upstream and retries. The place where a faster HTTP/1.1 path is to be put is
// Server.serveHTTP1: it gets the connection with nothing read from it.
//
// What the gateway finds out about upstreams (a refused connection) is an observation: it
// decides who is asked next for a few seconds, in memory, and is never told to anyone as a fact.
//
// The package needs Linux for splice in TCP routes; nothing else. It must never import node,
// and never choose an upstream that the table marks as draining.
package gateway
