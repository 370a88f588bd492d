package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// reasonHeader carries the reason of every answer that is the gateway's own and not an upstream's.
const reasonHeader = "Ployz-Reason"

// refusal is an answer of the gateway itself.
type refusal struct {
	status    int
	reason    string // the value of Ployz-Reason
	text      string
	namespace string
	service   string
	closes    bool // the connection, because what follows on it cannot be trusted
}

// The refusals. The reasons are part of the interface: tools match on them.
var (
	badFraming     = refusal{status: http.StatusBadRequest, reason: "bad-framing", text: "the request's framing is ambiguous", closes: true}
	badTarget      = refusal{status: http.StatusBadRequest, reason: "bad-target", text: "the gateway takes no CONNECT, no *, and no path with . or .. segments"}
	slowClient     = refusal{status: http.StatusRequestTimeout, reason: "slow-client", text: "the request's body stopped coming", closes: true}
	noRoute        = refusal{status: http.StatusNotFound, reason: "no-route", text: "no route for this hostname and path"}
	noUpstream     = refusal{status: http.StatusServiceUnavailable, reason: "no-upstream", text: "no instance is ready"}
	heldTooLong    = refusal{status: http.StatusServiceUnavailable, reason: "held-too-long", text: "no instance took over in time"}
	tooManyHeld    = refusal{status: http.StatusServiceUnavailable, reason: "too-many-held", text: "one instance takes over from another, and too many requests wait for it"}
	unreachable    = refusal{status: http.StatusBadGateway, reason: "upstream-unreachable", text: "no instance could be reached"}
	upstreamBroken = refusal{status: http.StatusBadGateway, reason: "upstream-broken", text: "the instance ended the connection without a response"}
	upstreamSlow   = refusal{status: http.StatusGatewayTimeout, reason: "upstream-timeout", text: "the instance did not respond in time"}
)

func (f refusal) with(detail string) refusal {
	f.text += ": " + detail
	return f
}

func (f refusal) of(r *httpRoute) refusal {
	f.namespace, f.service = r.namespace, r.Service
	return f
}

// refuse answers with f, as JSON where the client asks for it, else as a line of text.
func (s *Server) refuse(w *responseWriter, r *http.Request, f refusal) {
	s.counts.refused(f.reason)
	h := w.Header()
	h.Set(reasonHeader, f.reason)
	h.Set("Cache-Control", "no-store")
	if f.closes {
		h.Set("Connection", "close")
	}
	if f.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	body := f.plain()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if strings.Contains(r.Header.Get("Accept"), "json") {
		h.Set("Content-Type", "application/json")
		body = f.json()
	}
	w.WriteHeader(f.status)
	if r.Method != http.MethodHead {
		w.Write(body) // an error here means the client left
	}
}

func (f refusal) plain() []byte {
	where := ""
	if f.service != "" {
		where = fmt.Sprintf(" (service %s/%s)", f.namespace, f.service)
	}
	return fmt.Appendf(nil, "%d %s%s: %s\n", f.status, f.reason, where, f.text)
}

func (f refusal) json() []byte {
	b, err := json.Marshal(struct {
		Status    int    `json:"status"`
		Reason    string `json:"reason"`
		Message   string `json:"message"`
		Namespace string `json:"namespace,omitempty"`
		Service   string `json:"service,omitempty"`
	}{f.status, f.reason, f.text, f.namespace, f.service})
	if err != nil {
		return f.plain() // cannot happen: strings and an int
	}
	return append(b, '\n')
}
