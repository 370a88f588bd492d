// Package daemon is ployzd: the HTTP surface on the Unix socket, the dispatch of requests to
// operations, the adoption at startup, and, in wire.go alone, the choice of every backend.
//
// The surface knows no backend. What a request needs is in two structs that the composition root
// fills: API, which a machine always has, and Member, which it has once it is part of a cluster.
// Mutations run detached from the connection that asked for them: a client that goes away changes
// nothing, only an explicit cancel does.
//
// Errors are api.Error in JSON with a fitting status. An operation that was refused is no error of
// the request: its outcome is the last line of the stream, like any other.
package daemon
