package examples

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/ployz/ployz/node/nodetest/testenv"
)

// shopLab is the whole shop, running.
type shopLab struct {
	*lab
	secret string
	files  map[string]string // of the application's containers
	db     *container
	apps   []*container
	web    *container
}

// startShop starts the shop in the order in which Compose would.
func startShop(t *testing.T) *shopLab {
	testenv.Require(t, testenv.Root, testenv.Runc, testenv.ShopImages)
	s := &shopLab{lab: newLab(t)}
	s.secret = s.write("password", "it's a 'secret'\n")
	s.files = map[string]string{
		"/etc/shop/shop.toml":      filepath.Join(testenv.Repo(), "examples", "shop", "shop.toml"),
		"/run/secrets/db_password": s.secret,
	}
	s.db = s.unpack("db", "shop-db", nil, nil, map[string]string{"/run/secrets/db_password": s.secret}).start()
	s.zone.set("db", s.db.address)
	s.awaitDatabase()
	s.migrate("migrate-0", `"schema":3,"applied":3`)
	for _, id := range []string{"app-0", "app-1"} {
		s.apps = append(s.apps, s.startApp(id, "shop-app"))
	}
	s.zone.set("app", s.apps[0].address, s.apps[1].address)
	s.web = s.unpack("web", "shop-web", nil, nil, nil).start()
	s.await("web ready", 20*time.Second, func() error { return s.ok(s.web, "/healthz") }, s.web.output, s.apps[0].output)
	return s
}

func (s *shopLab) awaitDatabase() {
	s.t.Helper()
	s.await("database ready", 60*time.Second, func() error {
		if err := s.db.running(); err != nil {
			s.t.Fatal(err)
		}
		_, err := s.db.exec("pg_isready", "-q", "-h", "127.0.0.1", "-U", "shop", "-d", "shop")
		return err
	}, s.db.output)
}

func (s *shopLab) migrate(id, want string) {
	s.t.Helper()
	job := s.unpack(id, "shop-app", []string{"migrate"}, nil, s.files).start()
	if status := job.wait(40 * time.Second); status != 0 || !strings.Contains(job.output.String(), want) {
		s.t.Fatalf("migrate ended with %d, and its log lacks %s:\n%s\n%s", status, want, job.output, s.db.output)
	}
}

func (s *shopLab) startApp(id, image string) *container {
	s.t.Helper()
	app := s.unpack(id, image, nil, nil, s.files).start()
	s.await(id+" ready", 20*time.Second, func() error { return s.ok(app, "/healthz") }, app.output)
	if out, err := app.exec("/shop-app", "healthcheck"); err != nil {
		s.t.Errorf("the image's own health check: %v %s", err, out)
	}
	return app
}

func (s *shopLab) ok(c *container, path string) error {
	_, err := s.get(c, path)
	return err
}

// get returns the body of a 200.
func (s *shopLab) get(c *container, path string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.address+":8080"+path, nil)
	if err != nil {
		return "", err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, response.Status, body)
	}
	return string(body), err
}

// order places an order through nginx and returns which instance took it.
func (s *shopLab) order(customer string) (takenBy string) {
	s.t.Helper()
	text := fmt.Sprintf(`{"customer":%q,"sku":"lamp","quantity":1}`, customer)
	response, err := s.client.Post("http://"+s.web.address+":8080/api/orders", "application/json", strings.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	var o struct {
		TakenBy string `json:"taken_by"`
	}
	if err := json.NewDecoder(response.Body).Decode(&o); err != nil || response.StatusCode != http.StatusCreated {
		s.t.Fatalf("order: %s, %v", response.Status, err)
	}
	return o.TakenBy
}

func (s *shopLab) pageShows(wants ...string) {
	s.t.Helper()
	page, err := s.get(s.web, "/")
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.web.output)
	}
	for _, want := range wants {
		if !strings.Contains(page, want) {
			s.t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

func TestShopWorksAsAWhole(t *testing.T) {
	s := startShop(t)
	t.Run("rows written are rows read", s.testRows)
	t.Run("live feeds through nginx", s.testFeeds)
	t.Run("static files and logs", s.testStaticAndLogs)
	t.Run("new instances without a reload", s.testUpdate)
	t.Run("database restart keeps rows and takes a new password", s.testDatabaseRestart)
	t.Run("nobody without the password", s.testPassword)
	if status := s.web.stop("QUIT", 10*time.Second); status != 0 {
		t.Errorf("nginx ended with %d at SIGQUIT\n%s", status, s.web.output)
	}
	if status := s.db.stop("INT", 10*time.Second); status != 0 {
		t.Errorf("the database ended with %d at SIGINT\n%s", status, s.db.output)
	}
}

func (s *shopLab) testRows(t *testing.T) {
	takers := map[string]int{}
	for i := range 20 {
		takers[s.order(fmt.Sprint("customer-", i))]++
	}
	if len(takers) != 2 {
		t.Errorf("both instances should take orders: %v", takers)
	}
	s.pageShows("customer-0", "customer-19", "20 orders for 20 articles", "The Copper Kettle", "version <b id=\"version\">v1")
	s.migrate("migrate-1", `"schema":3,"applied":0`)
	s.pageShows("20 orders for 20 articles")
}

func (s *shopLab) testFeeds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	base := "http://" + s.web.address + ":8080"
	socket, _, err := websocket.Dial(ctx, base+"/api/socket?after=20", &websocket.DialOptions{HTTPClient: s.client})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/feed?after=20", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	s.order("follower")
	var o struct{ Customer string }
	if err := wsjson.Read(ctx, socket, &o); err != nil || o.Customer != "follower" {
		t.Errorf("WebSocket: %+v, %v", o, err)
	}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data: ") && strings.Contains(lines.Text(), "follower") {
			return
		}
	}
	t.Errorf("server-sent events ended without the order: %v\n%s\n%s", lines.Err(), s.apps, s.web.output)
}

func (s *shopLab) testStaticAndLogs(t *testing.T) {
	css, err := s.get(s.web, "/static/shop.css")
	if err != nil || !strings.Contains(css, "--accent") {
		t.Errorf("stylesheet: %v %s", err, css)
	}
	s.await("access log on standard output", 5*time.Second, func() error {
		if !strings.Contains(s.web.output.String(), `"path":"/static/shop.css","status":200`) {
			return errors.New("no such line")
		}
		return nil
	}, s.web.output)
}

// testUpdate replaces both instances while requests come in, as a deploy would: start the new
// one, change DNS, stop the old ones. nginx is not told.
func (s *shopLab) testUpdate(t *testing.T) {
	fresh := s.startApp("app-2", "shop-app")
	stop, failures := make(chan struct{}), make(chan []string)
	go func() {
		var failed []string
		for n := 0; ; n++ {
			select {
			case <-stop:
				failures <- append(failed, fmt.Sprint(n, " requests"))
				return
			default:
			}
			if err := s.ok(s.web, "/api/summary"); err != nil {
				failed = append(failed, err.Error())
			}
		}
	}()
	s.zone.set("app", fresh.address)
	for _, old := range s.apps {
		if status := old.stop("TERM", 25*time.Second); status != 0 {
			t.Errorf("%s ended with %d\n%s", old.id, status, old.output)
		}
	}
	close(stop)
	if failed := <-failures; len(failed) > 1 {
		t.Errorf("requests failed: %v", failed)
	} else {
		t.Log("none failed of", failed[0])
	}
	if taker := s.order("after the update"); taker != "app-2" {
		t.Errorf("taken by %s", taker)
	}
	s.apps = []*container{fresh}
}

func (s *shopLab) testDatabaseRestart(t *testing.T) {
	started := time.Now()
	if status := s.db.stop("TERM", 10*time.Second); status != 0 {
		t.Errorf("the database ended with %d at SIGTERM\n%s", status, s.db.output)
	}
	t.Logf("stopped in %v with clients connected", time.Since(started).Round(time.Millisecond))
	if err := s.ok(s.apps[0], "/healthz"); err == nil {
		t.Error("the application says it is ready without a database")
	}
	s.write("password", "another one")
	s.db.start()
	s.awaitDatabase()
	s.await("application ready again", 10*time.Second, func() error { return s.ok(s.web, "/healthz") }, s.apps[0].output, s.db.output)
	s.pageShows("customer-19", "after the update", "22 orders for 22 articles")
}

func (s *shopLab) testPassword(t *testing.T) {
	for _, role := range []string{"shop", "postgres"} {
		out, err := s.db.exec("env", "PGPASSWORD=wrong", "psql", "-h", s.db.address, "-U", role, "-d", "shop", "-c", "SELECT 1")
		if err == nil {
			t.Errorf("%s came in with a wrong password: %s", role, out)
		}
	}
	if out, err := s.db.exec("psql", "-U", "shop", "-Atc", "SELECT count(*) FROM orders"); err != nil || out != "22" {
		t.Errorf("psql inside: %q, %v", out, err)
	}
	if whole := s.db.output.String(); strings.Contains(whole, "secret'") || strings.Contains(whole, "another one") {
		t.Errorf("the password is in the log:\n%s", whole)
	}
}
