package main

import (
	"log/slog"
	"net/http"
	"time"
)

// logged writes one line for each request once it is answered. Probes are left out unless they
// fail: they would be most of the log.
func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		if r.URL.Path == "/healthz" && seen.status == http.StatusOK {
			return
		}
		slog.Info("request", "method", r.Method, "path", r.URL.Path, "status", seen.status,
			"ms", time.Since(started).Milliseconds(), "from", r.RemoteAddr, "for", r.Header.Get("X-Forwarded-For"))
	})
}

// statusWriter remembers the status. Unwrap lets the response controller and WebSocket's
// take-over reach the connection beneath.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is what http.ResponseController looks for.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
