package dns

import (
	"errors"
	"fmt"
	"strings"
)

// Why a part of a zone was rejected, or a query could not be forwarded; test with errors.Is.
var (
	ErrName       = errors.New("bad name")                                // not a lower-case host label
	ErrReserved   = errors.New("reserved name")                           // a namespace called "machine"
	ErrDuplicate  = errors.New("duplicate")                               // id, name or address twice in one part
	ErrAddress    = errors.New("bad address")                             // wrong family, outside the cluster, wrong namespace bits
	ErrPort       = errors.New("bad port")                                // number, name or protocol
	ErrID         = errors.New("bad id")                                  // zero or empty
	ErrExport     = errors.New("bad export")                              // of no service, or to nobody
	ErrTooLarge   = errors.New("too large")                               // more instances than one answer can hold
	ErrRegressed  = errors.New("sequence went back")                      // within one generation
	ErrClaimed    = errors.New("already taken by another namespace")      // name, id or address
	ErrNoUpstream = errors.New("no upstream resolver is configured")      // see Forwarder
	ErrUpstreams  = errors.New("no upstream resolver gave a good answer") // all failed or timed out
)

// PartError says why one part of a zone was rejected: a namespace, or what is not one. The
// rest of the zone is served, and of this part the last good view, if there was one.
type PartError struct {
	// Part is the namespace's name, or "" for what belongs to none: Machine, Self, Subnet6,
	// Prefixes, Machines and Locals.
	Part     string
	Sequence uint64 // of the rejected view; 0 for Part ""
	Field    string // where in the part, "services[0].instances[1].v6"
	Value    string // what was seen there
	Err      error  // one of the sentinels
}

func (e *PartError) Error() string {
	part := "zone"
	if e.Part != "" {
		part = fmt.Sprintf("namespace %q at sequence %d", e.Part, e.Sequence)
	}
	return fmt.Sprintf("dns: %s rejected: %s %q: %v", part, e.Field, e.Value, e.Err)
}

// Unwrap returns the sentinel.
func (e *PartError) Unwrap() error { return e.Err }

// RejectedError is what Server.Apply returns when parts of a zone were rejected.
type RejectedError struct{ Parts []*PartError }

func (e *RejectedError) Error() string {
	texts := make([]string, len(e.Parts))
	for i, p := range e.Parts {
		texts[i] = p.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the parts' errors.
func (e *RejectedError) Unwrap() []error {
	errs := make([]error, len(e.Parts))
	for i, p := range e.Parts {
		errs[i] = p
	}
	return errs
}
