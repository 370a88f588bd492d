package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

func TestMigrateIsSafeToRepeatAndToRunAtOnce(t *testing.T) {
	db := openDatabase(testConfig(t))
	defer db.Close()
	counts := make(chan int, 4)
	for range cap(counts) {
		go func() {
			applied, err := migrate(t.Context(), db)
			if err != nil {
				t.Error(err)
			}
			counts <- len(applied)
		}()
	}
	total := 0
	for range cap(counts) {
		total += <-counts
	}
	if total != schemaVersion() {
		t.Errorf("four at once applied %d migrations together, want %d", total, schemaVersion())
	}
	if applied, err := migrate(t.Context(), db); err != nil || len(applied) != 0 {
		t.Errorf("migrating again applied %v, %v", applied, err)
	}
}

func TestMigrateRefusesAnEditedMigration(t *testing.T) {
	_, db := testDatabase(t)
	exec1(t, db, "UPDATE schema_migrations SET sum = 'other' WHERE number = 2")
	_, err := migrate(t.Context(), db)
	if err == nil || !strings.Contains(err.Error(), "0002_orders differs") {
		t.Errorf("migrate over an edited migration: %v", err)
	}
}

func TestReadyOnlyWithSchemaAndDatabase(t *testing.T) {
	cfg := testConfig(t)
	db := openDatabase(cfg)
	s := newShop(cfg, db)
	if got := get(t, s, "/healthz"); got.Code != http.StatusServiceUnavailable {
		t.Errorf("without a schema: %d %s", got.Code, got.Body)
	}
	if _, err := migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "/healthz"); got.Code != http.StatusOK {
		t.Errorf("with the schema: %d %s", got.Code, got.Body)
	}
	exec1(t, db, "INSERT INTO schema_migrations VALUES (999, 'of a later version', '')")
	if got := get(t, s, "/healthz"); got.Code != http.StatusOK {
		t.Errorf("with a later schema: %d %s", got.Code, got.Body)
	}
	exec1(t, db, "DELETE FROM schema_migrations WHERE number >= 3")
	if got := get(t, s, "/healthz"); !strings.Contains(got.Body.String(), "the schema is at 2, this program needs 3") {
		t.Errorf("with an older schema: %d %s", got.Code, got.Body)
	}
	db.Close()
	if got := get(t, s, "/healthz"); got.Code != http.StatusServiceUnavailable {
		t.Errorf("without a database: %d %s", got.Code, got.Body)
	}
}

func TestOrdersAndStockAddUp(t *testing.T) {
	cfg, db := testDatabase(t)
	s := newShop(cfg, db)
	// The clock is one of a kind: of many who want it at once, one gets it.
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[int]int{}
	for i := range 8 {
		wg.Go(func() {
			got := post(t, s, orderRequest{Customer: fmt.Sprint("c", i), SKU: "clock", Quantity: 1})
			mu.Lock()
			defer mu.Unlock()
			seen[got.Code]++
		})
	}
	wg.Wait()
	if seen[http.StatusCreated] != 1 || seen[http.StatusConflict] != 7 {
		t.Errorf("eight orders of one clock: %v", seen)
	}
	post(t, s, orderRequest{Customer: "ada", SKU: "lamp", Quantity: 3})
	sum := decode[summary](t, get(t, s, "/api/summary"))
	if want := (summary{Orders: 2, Ordered: 4, Stock: 299_997, Received: 300_001, Balanced: true}); sum != want {
		t.Errorf("summary %+v, want %+v", sum, want)
	}
}

func TestRepeatedRequestFindsItsFirstOrder(t *testing.T) {
	cfg, db := testDatabase(t)
	s := newShop(cfg, db)
	request := orderRequest{RequestKey: "k1", Customer: "ada", SKU: "stool", Quantity: 2}
	first, second := post(t, s, request), post(t, s, request)
	if first.Code != http.StatusCreated || second.Code != http.StatusOK {
		t.Errorf("statuses %d and %d, want 201 and 200", first.Code, second.Code)
	}
	a, b := decode[order](t, first), decode[order](t, second)
	if a != b {
		t.Errorf("the repeated request gave %+v, not %+v", b, a)
	}
	if read := decode[order](t, get(t, s, fmt.Sprintf("/api/orders/%d", a.ID))); read != a {
		t.Errorf("read back %+v, wrote %+v", read, a)
	}
}

// A masked database has no names, tells customers apart as before, and masking it again changes nothing.
func TestMaskTakesTheNames(t *testing.T) {
	cfg, db := testDatabase(t)
	s := newShop(cfg, db)
	for i, name := range []string{"zoe", "ada", "zoe"} {
		post(t, s, orderRequest{RequestKey: fmt.Sprint("k", i), Customer: name, SKU: "lamp", Quantity: 1})
	}
	for range 2 {
		if n, err := mask(t.Context(), db); err != nil || n != 3 {
			t.Fatalf("masked %d orders, %v", n, err)
		}
		for id, want := range map[int]string{1: "customer 1", 2: "customer 2", 3: "customer 1"} {
			if got := decode[order](t, get(t, s, fmt.Sprint("/api/orders/", id))).Customer; got != want {
				t.Errorf("order %d is of %q, want %q", id, got, want)
			}
		}
	}
	var keys int
	if err := db.QueryRow("SELECT count(request_key) FROM orders").Scan(&keys); err != nil || keys != 0 {
		t.Errorf("%d request keys are left, %v", keys, err)
	}
}

func TestBadRequests(t *testing.T) {
	cfg, db := testDatabase(t)
	s := newShop(cfg, db)
	for path, want := range map[string]int{
		"/api/orders/nine": 400, "/api/orders/99": 404, "/api/orders?limit=0": 400,
		"/api/orders?after=x": 400, "/slow?ms=soon": 400, "/nowhere": 404, "/api/feed?after=x": 400,
	} {
		if got := get(t, s, path); got.Code != want {
			t.Errorf("GET %s: %d, want %d", path, got.Code, want)
		}
	}
	for _, r := range []orderRequest{
		{Customer: " ", SKU: "lamp", Quantity: 1}, {Customer: "a", SKU: "lamp"}, {Customer: "a", SKU: "lamp", Quantity: -4},
	} {
		if got := post(t, s, r); got.Code != http.StatusBadRequest {
			t.Errorf("POST %+v: %d", r, got.Code)
		}
	}
	if got := post(t, s, orderRequest{Customer: "a", SKU: "unicorn", Quantity: 1}); got.Code != http.StatusConflict {
		t.Errorf("an unknown article: %d", got.Code)
	}
}

func TestPageShowsRowsAndEscapesThem(t *testing.T) {
	cfg, db := testDatabase(t)
	s := newShop(cfg, db)
	post(t, s, orderRequest{Customer: "<b>eve</b>", SKU: "lamp", Quantity: 1})
	body := get(t, s, "/").Body.String()
	for _, want := range []string{"&lt;b&gt;eve", "Copper kettle", "1 orders for 1 articles", `data-version="dev"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q:\n%s", want, body)
		}
	}
}

// An order taken by one instance shows up in the feeds of another, and a follower that comes
// back gets what it missed.
func TestFeedsFollowOtherInstances(t *testing.T) {
	cfg, db := testDatabase(t)
	taker := newShop(cfg, db)
	shower := newShop(cfg, db)
	go shower.feed.listen(t.Context(), db)
	server := httptest.NewServer(shower.routes())
	defer server.Close()
	defer close(shower.ending)

	events := followEvents(t, server.URL, "")
	socket, _, err := websocket.Dial(t.Context(), server.URL+"/api/socket?after=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	for i := range 3 {
		post(t, taker, orderRequest{Customer: fmt.Sprint("c", i), SKU: "lamp", Quantity: 1})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for i := range 3 {
		if got := nextEvent(t, events).Customer; got != fmt.Sprint("c", i) {
			t.Errorf("event %d is of %q", i, got)
		}
		var o order
		if err := wsjson.Read(ctx, socket, &o); err != nil || o.Customer != fmt.Sprint("c", i) {
			t.Errorf("message %d is %+v, %v", i, o, err)
		}
	}
	if got := nextEvent(t, followEvents(t, server.URL, "2")).ID; got != 3 {
		t.Errorf("resumed after 2 with %d", got)
	}
}

func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	cfg, _ := testDatabase(t)
	cfg.Linger.Duration = 300 * time.Millisecond
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + listener.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serveOn(ctx, cfg, listener) }()
	await(t, "ready", func() bool { return status(base+"/healthz") == http.StatusOK })

	events := followEvents(t, base, "")
	slow := make(chan int, 1)
	go func() { slow <- status(base + "/slow?ms=1000") }()
	stopped := time.Now()
	stop()
	await(t, "not ready while it lingers", func() bool { return status(base+"/healthz") == http.StatusServiceUnavailable })
	if got := status(base + "/api/summary"); got != http.StatusOK {
		t.Errorf("a request while it lingers: %d", got)
	}
	if got := <-slow; got != http.StatusOK {
		t.Errorf("the slow request ended with %d", got)
	}
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
	if took := time.Since(stopped); took > 5*time.Second {
		t.Errorf("the open feed held up the stop: %v", took)
	}
	if line, err := events.ReadString('\n'); err == nil && !strings.HasPrefix(line, ":") && line != "\n" {
		t.Errorf("the feed went on: %q", line)
	}
}

func TestConfigRefusesUnknownKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "shop.toml")
	if err := os.WriteFile(file, []byte("[database]\nhots = \"db\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadConfig(file); err == nil || !strings.Contains(err.Error(), `"database.hots"`) {
		t.Errorf("unknown key: %v", err)
	}
	cfg, err := loadConfig("../shop.toml")
	if err != nil || cfg.Linger.Duration != 1500*time.Millisecond || cfg.Database.Host != "db" {
		t.Errorf("the example's own file: %+v, %v", cfg, err)
	}
	if _, err := loadConfig(file + ".not"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func get(t *testing.T, s *shop, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	logged(s.routes()).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w
}

func post(t *testing.T, s *shop, r orderRequest) *httptest.ResponseRecorder {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/orders", strings.NewReader(string(text)))
	request.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.routes().ServeHTTP(w, request)
	return w
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder) (v T) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return v
}

// status returns the status of a GET, or 0 if there was no answer.
func status(url string) int {
	response, err := http.Get(url)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return 0
	}
	return response.StatusCode
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func followEvents(t *testing.T, base, after string) *bufio.Reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/feed", nil)
	if err != nil {
		t.Fatal(err)
	}
	if after != "" {
		request.Header.Set("Last-Event-ID", after)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return bufio.NewReader(response.Body)
}

func nextEvent(t *testing.T, events *bufio.Reader) (o order) {
	t.Helper()
	for {
		line, err := events.ReadString('\n')
		if err != nil {
			t.Fatalf("feed: %v", err)
		}
		if text, isData := strings.CutPrefix(line, "data: "); isData {
			if err := json.Unmarshal([]byte(text), &o); err != nil {
				t.Fatal(err)
			}
			return o
		}
	}
}
