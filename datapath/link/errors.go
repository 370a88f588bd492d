package link

import (
	"errors"
	"fmt"
)

// ErrNotFound says that an interface or a namespace is not there.
var ErrNotFound = errors.New("not found")

// ErrKernelLacks comes before the names of the modules that the kernel does not have.
var ErrKernelLacks = errors.New("this kernel lacks")

// Error is a change or a question that the kernel refused.
type Error struct {
	// Op is what was tried, in words, with its subject: "add address 10.0.0.1/24 to ployz0".
	Op string
	// Err is what the kernel said.
	Err error
}

// Error returns the attempt and the kernel's answer.
func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns what the kernel said.
func (e *Error) Unwrap() error { return e.Err }

// ConflictError says that what is wanted is held by something that is not ours, or is ours for
// another purpose. Nothing was changed about the thing found.
type ConflictError struct {
	// Thing is what was wanted: an interface name or an address.
	Thing string
	// Found describes what holds it.
	Found string
	// Hint is the next command for the operator.
	Hint string
}

// Error returns the thing, its holder and what to do about it.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s is taken by %s; %s", e.Thing, e.Found, e.Hint)
}
