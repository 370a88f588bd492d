// Package sdk is the typed Go client of the daemon's HTTP API, over the machine's Unix socket or over
// the operator's own ssh.
//
// It needs a running ployzd at the other end and nothing else. Every error is an *api.Error: the
// daemon's own, passed on unchanged, or daemon.unreachable and its kin, which say what to do next. It
// never retries a mutation: the answer to "did it happen?" is the operation's outcome.
package sdk
