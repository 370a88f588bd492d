package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/jackc/pgx/v5/stdlib"
)

// feed wakes everyone who follows the order book. It carries no orders: a woken follower reads
// the rows after the last one it has seen, so a lost or doubled wake-up costs nothing.
type feed struct {
	mu        sync.Mutex
	followers map[chan struct{}]struct{} // guarded by mu
}

func newFeed() *feed { return &feed{followers: map[chan struct{}]struct{}{}} }

func (f *feed) follow() (wake chan struct{}, leave func()) {
	wake = make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followers[wake] = struct{}{}
	return wake, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.followers, wake)
	}
}

func (f *feed) wakeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for wake := range f.followers {
		select {
		case wake <- struct{}{}:
		default: // it has not looked since the last time, and will see this too
		}
	}
}

// listen passes on the database's announcements until ctx ends. One connection does for all
// followers; when it breaks it is made anew, and everyone looks once for what was missed.
func (f *feed) listen(ctx context.Context, db *sql.DB) {
	for {
		err := f.listenOnce(ctx, db)
		if ctx.Err() != nil {
			return
		}
		slog.Warn("feed lost the database, trying again", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func (f *feed) listenOnce(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(driver any) error {
		pg := driver.(*stdlib.Conn).Conn()
		// The pool must not hand a connection that listens to somebody else.
		defer pg.Close(context.WithoutCancel(ctx))
		if _, err := pg.Exec(ctx, "LISTEN orders"); err != nil {
			return err
		}
		for {
			f.wakeAll()
			if _, err := pg.WaitForNotification(ctx); err != nil {
				return err
			}
		}
	})
}

// stream sends every order after number last, and then each new one, until the caller goes, the
// instance ends, or send fails. beat is called when nothing was sent for a while, so that
// proxies do not take silence for death.
func (s *shop) stream(ctx context.Context, last int64, send func(order) error, beat func() error) error {
	wake, leave := s.feed.follow()
	defer leave()
	pulse := time.NewTicker(15 * time.Second)
	defer pulse.Stop()
	for {
		orders, err := ordersAfter(ctx, s.db, last, 100)
		if err != nil {
			return err
		}
		for _, o := range orders {
			if err := send(o); err != nil {
				return err
			}
			last = o.ID
		}
		if len(orders) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ending:
			return nil
		case <-wake:
		case <-pulse.C:
			if err := beat(); err != nil {
				return err
			}
		}
	}
}

// startOfFeed is where a follower begins: after the order it names by ?after= or by the header
// with which a browser resumes, else after the last one there is.
func (s *shop) startOfFeed(r *http.Request) (int64, error) {
	resume := r.Header.Get("Last-Event-ID")
	if resume == "" {
		resume = r.URL.Query().Get("after")
	}
	if resume != "" {
		return strconv.ParseInt(resume, 10, 64)
	}
	var last int64
	err := s.db.QueryRowContext(r.Context(), "SELECT COALESCE(max(id), 0) FROM orders").Scan(&last)
	return last, err
}

func (s *shop) serverSentEvents(w http.ResponseWriter, r *http.Request) {
	last, err := s.startOfFeed(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "cannot start the feed: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	send := func(o order) error {
		text, err := json.Marshal(o)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "id: %d\nevent: order\ndata: %s\n\n", o.ID, text); err != nil {
			return err
		}
		return out.Flush()
	}
	beat := func() error {
		if _, err := fmt.Fprint(w, ": still here\n\n"); err != nil {
			return err
		}
		return out.Flush()
	}
	if err := beat(); err == nil {
		err = s.stream(r.Context(), last, send, beat)
		slog.Info("feed ended", "error", err)
	}
}

func (s *shop) webSocket(w http.ResponseWriter, r *http.Request) {
	last, err := s.startOfFeed(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "cannot start the feed: "+err.Error())
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		slog.Info("websocket refused", "error", err)
		return
	}
	defer conn.CloseNow()
	// Nothing is expected from the other side but its goodbye.
	ctx := conn.CloseRead(r.Context())
	send := func(o order) error { return wsjson.Write(ctx, conn, o) }
	beat := func() error { return conn.Ping(ctx) }
	if err := s.stream(ctx, last, send, beat); err == nil {
		conn.Close(websocket.StatusGoingAway, "this instance stops; connect again")
	}
}
