package api

import (
	"errors"
	"fmt"
)

// Code names one way in which something can go wrong, as `domain.reason`. The table in
// codes.go lists every one; clients may switch on them, so a code never changes its meaning.
type Code string

// Error is the one shape in which a failure reaches an operator: over the socket, on the bus
// and under --json. It is made once, where the refusal is decided, and passed on unchanged.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Subject is the thing the error is about, with its place where it has one:
	// "shop/web", "compose.yaml:14: services.web.ports".
	Subject string `json:"subject,omitempty"`
	// Operation and Step are filled in by the runner when the error ends a step.
	Operation string `json:"operation,omitempty"`
	Step      string `json:"step,omitempty"`
	// Retryable says that the same request may succeed later without any change to it.
	Retryable bool `json:"retryable,omitempty"`
	// Hint is the next command, or the next thing to look at.
	Hint string `json:"hint,omitempty"`
	// Log are the last lines that the thing itself wrote, where they explain the error.
	Log []string `json:"log,omitempty"`
	// Details are further errors of the same refusal: every unmet requirement, say.
	Details []*Error `json:"details,omitempty"`

	cause error
}

// Errorf makes an error with a code and a message. A %w verb keeps the cause for errors.Is. Durations are Rounded.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, rounded(args)...)
	return &Error{Code: code, Message: err.Error(), cause: errors.Unwrap(err)}
}

// About returns the error with its subject set.
func (e *Error) About(subject string) *Error { e.Subject = subject; return e }

// WithHint returns the error with the next command or place to look at. Durations are Rounded.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, rounded(args)...)
	return e
}

// Again returns the error marked as one that may pass when simply tried again.
func (e *Error) Again() *Error { e.Retryable = true; return e }

// Error is the one-line form: subject, message, code.
func (e *Error) Error() string {
	if e.Subject != "" {
		return fmt.Sprintf("%s: %s (%s)", e.Subject, e.Message, e.Code)
	}
	return fmt.Sprintf("%s (%s)", e.Message, e.Code)
}

// Unwrap returns what caused the error on this machine; it does not travel over the wire.
func (e *Error) Unwrap() error { return e.cause }

// Is reports equality by code, so that errors.Is(err, &api.Error{Code: c}) works across the wire.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// CodeOf returns the code of the first *Error in the chain, or CodeInternal for any other
// error and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// AsError returns err as an *Error; anything untyped becomes internal.error with its text,
// which is how a missing type shows up in tests instead of vanishing.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeInternal, Message: err.Error(), cause: err}
}
