package daemon

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// maxRequestBytes bounds a request's JSON.
const maxRequestBytes = 8 << 20

// statusOf is the HTTP status of an error: what a client without our types can go by.
func statusOf(e *api.Error) int {
	switch e.Code {
	case api.CodeInternal:
		return http.StatusInternalServerError
	case api.CodeBadRequest, api.CodeUnknownOperation:
		return http.StatusBadRequest
	case api.CodePermission:
		return http.StatusForbidden
	case api.CodeNotInitialised, api.CodeStoreUnavailable, api.CodeDaemonStopping:
		return http.StatusServiceUnavailable
	case api.CodeScopeBusy, api.CodeConflict, api.CodePlanStale, api.CodeInterrupted, api.CodeNotRunningOp:
		return http.StatusConflict
	}
	if strings.HasSuffix(string(e.Code), "not-found") {
		return http.StatusNotFound
	}
	return http.StatusUnprocessableEntity
}

func writeError(w http.ResponseWriter, err error) {
	e := api.AsError(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf(e))
	json.NewEncoder(w).Encode(map[string]*api.Error{"error": e}) // a client that is gone is no error of ours
}

func writeJSON(w http.ResponseWriter, value any, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(value) // as above
}

// readJSON reads a request's body strictly: what is not understood is refused, never ignored.
func readJSON(r io.Reader, into any) error {
	dec := json.NewDecoder(io.LimitReader(r, maxRequestBytes))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		return nil
	}
	var typed *api.Error
	if errors.As(err, &typed) {
		return typed
	}
	e := api.Errorf(api.CodeBadRequest, "the request cannot be read: %w", err)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		e = api.Errorf(api.CodeBadRequest, "a %s is not what belongs there", wrong.Value).About(wrong.Field)
	}
	return e.WithHint("the client may be of another version than the daemon: ployzctl version")
}

// lines is an answer of newline-delimited JSON. The status is sent with the first line, so that a
// stream that fails at once is an ordinary error.
type lines struct {
	w       http.ResponseWriter
	started bool
	// last renders an error as the stream's own last line; nil drops the connection.
	last func(*api.Error) any
}

// start sends the status and what was written so far.
func (l *lines) start() error {
	if !l.started {
		l.started = true
		l.w.Header().Set("Content-Type", "application/x-ndjson")
		l.w.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(l.w).Flush()
}

func (l *lines) write(value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return api.Errorf(api.CodeInternal, "encoding a line: %w", err)
	}
	if !l.started {
		if err := l.start(); err != nil {
			return err
		}
	}
	if _, err := l.w.Write(append(text, '\n')); err != nil {
		return err
	}
	return l.start()
}

func (l *lines) fail(err error) {
	switch {
	case !l.started:
		writeError(l.w, err)
	case l.last != nil:
		l.write(l.last(api.AsError(err))) // the last line of a client that may be gone
	}
}
