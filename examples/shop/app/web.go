package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// shop is one serving instance. Nothing in it is a truth about the order book.
type shop struct {
	cfg      config
	db       *sql.DB
	feed     *feed
	instance string
	started  time.Time
	// stopping is set when the instance should get no more requests, though it answers them.
	stopping atomic.Bool
	// ending is closed when the feeds must end, since they never would by themselves.
	ending chan struct{}
}

func newShop(cfg config, db *sql.DB) *shop {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	return &shop{cfg: cfg, db: db, feed: newFeed(), instance: name, started: time.Now(), ending: make(chan struct{})}
}

func (s *shop) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /version", s.versionJSON)
	mux.HandleFunc("GET /slow", s.slow)
	mux.HandleFunc("GET /api/products", s.products)
	mux.HandleFunc("GET /api/summary", s.summary)
	mux.HandleFunc("GET /api/orders", s.orders)
	mux.HandleFunc("POST /api/orders", s.newOrder)
	mux.HandleFunc("GET /api/orders/{id}", s.order)
	mux.HandleFunc("GET /api/feed", s.serverSentEvents)
	mux.HandleFunc("GET /api/socket", s.webSocket)
	return http.MaxBytesHandler(mux, 64<<10)
}

// healthz answers 200 only if a request sent here now would be served: the database answers, its
// schema is new enough, and the instance is not about to stop.
func (s *shop) healthz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	err := schemaReady(ctx, s.db)
	if s.stopping.Load() {
		err = errors.New("stopping")
	}
	if err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (s *shop) versionJSON(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"version": version, "instance": s.instance, "schema": schemaVersion(), "started": s.started.UTC(),
	})
}

// slow answers after ms milliseconds, at most a minute: for watching what a stop, an update or a
// restarted proxy does to a request that is under way.
func (s *shop) slow(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.Atoi(r.URL.Query().Get("ms"))
	if err != nil || ms < 0 || ms > 60_000 {
		refuse(w, http.StatusBadRequest, "ms must be a number from 0 to 60000")
		return
	}
	select {
	case <-r.Context().Done():
	case <-time.After(time.Duration(ms) * time.Millisecond):
		writeJSON(w, http.StatusOK, map[string]any{"slept_ms": ms, "instance": s.instance, "version": version})
	}
}

func (s *shop) products(w http.ResponseWriter, r *http.Request) {
	products, err := allProducts(r.Context(), s.db)
	s.answer(w, products, err)
}

func (s *shop) summary(w http.ResponseWriter, r *http.Request) {
	sum, err := sumUp(r.Context(), s.db)
	s.answer(w, sum, err)
}

// orders lists by ?after=ID&limit=N, oldest first; without after, the latest, newest first.
func (s *shop) orders(w http.ResponseWriter, r *http.Request) {
	limit, err := number(r, "limit", 50)
	if err != nil || limit < 1 || limit > 1000 {
		refuse(w, http.StatusBadRequest, "limit must be a number from 1 to 1000")
		return
	}
	if !r.URL.Query().Has("after") {
		orders, err := latestOrders(r.Context(), s.db, int(limit))
		s.answer(w, orders, err)
		return
	}
	after, err := number(r, "after", 0)
	if err != nil {
		refuse(w, http.StatusBadRequest, "after must be an order's number")
		return
	}
	orders, err := ordersAfter(r.Context(), s.db, after, int(limit))
	s.answer(w, orders, err)
}

func (s *shop) order(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		refuse(w, http.StatusBadRequest, "an order's id is a number")
		return
	}
	o, err := orderByID(r.Context(), s.db, id)
	s.answer(w, o, err)
}

// newOrder takes JSON, or the page's form, which it sends back to the page.
func (s *shop) newOrder(w http.ResponseWriter, r *http.Request) {
	request, fromPage, err := readOrder(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	o, fresh, err := takeOrder(r.Context(), s.db, request, s.instance)
	switch {
	case err != nil:
		s.answer(w, nil, err)
	case fromPage:
		http.Redirect(w, r, "/", http.StatusSeeOther)
	case fresh:
		w.Header().Set("Location", fmt.Sprintf("/api/orders/%d", o.ID))
		writeJSON(w, http.StatusCreated, o)
	default:
		writeJSON(w, http.StatusOK, o)
	}
}

func readOrder(r *http.Request) (request orderRequest, fromPage bool, err error) {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		err = decoder.Decode(&request)
	} else {
		fromPage = true
		request.Customer, request.SKU = r.FormValue("customer"), r.FormValue("sku")
		request.Quantity, err = strconv.Atoi(r.FormValue("quantity"))
	}
	request.Customer = strings.TrimSpace(request.Customer)
	switch {
	case err != nil:
		return request, fromPage, fmt.Errorf("unreadable order: %w", err)
	case request.Customer == "" || len(request.Customer) > 200:
		return request, fromPage, errors.New("customer must be 1 to 200 bytes")
	case request.Quantity < 1 || request.Quantity > 1000:
		return request, fromPage, errors.New("quantity must be 1 to 1000")
	}
	return request, fromPage, nil
}

// number reads a query parameter, or gives what it is without one.
func number(r *http.Request, name string, without int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return without, nil
	}
	return strconv.ParseInt(text, 10, 64)
}

// answer writes v as JSON, or err with the status that fits it.
func (s *shop) answer(w http.ResponseWriter, v any, err error) {
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, v)
	case errors.Is(err, errNoSuchOrder):
		refuse(w, http.StatusNotFound, err.Error())
	case errors.Is(err, errNoSuchProduct), errors.Is(err, errOutOfStock):
		refuse(w, http.StatusConflict, err.Error())
	case errors.Is(err, context.Canceled):
		// The caller went away: there is nobody to tell.
	default:
		slog.Error("database", "error", err)
		refuse(w, http.StatusServiceUnavailable, "the database does not answer")
	}
}

func refuse(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]string{"error": message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		slog.Warn("answer not written", "error", err)
	}
}
