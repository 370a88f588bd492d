// Package api is the language that every surface speaks: requests, responses, events, outcomes
// and errors, as plain Go types with JSON shapes.
//
// It needs nothing but the standard library, so that a client can import it without pulling in
// the daemon. It never talks to anything: node/sdk does, over the socket or SSH.
package api
