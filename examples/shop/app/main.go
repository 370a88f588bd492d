package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// version is set when the image is built; see examples/build-images.sh.
var version = "dev"

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stdout, nil)).With("version", version))
	if err := run(os.Args[1:]); err != nil {
		slog.Error("failed", "error", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("shop-app", flag.ContinueOnError)
	configFile := flags.String("config", "/etc/shop/shop.toml", "configuration `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	verb := "serve"
	if flags.NArg() > 0 {
		verb = flags.Arg(0)
	}
	if verb == "version" {
		fmt.Println(version)
		return nil
	}
	cfg, err := loadConfig(*configFile)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return dispatch(ctx, verb, cfg)
}

func dispatch(ctx context.Context, verb string, cfg config) error {
	switch verb {
	case "serve":
		return serve(ctx, cfg)
	case "migrate":
		return runMigrate(ctx, cfg)
	case "mask":
		return runMask(ctx, cfg)
	case "healthcheck":
		return healthcheck(ctx, cfg)
	default:
		return fmt.Errorf("unknown command %q: it is serve, migrate, mask, healthcheck or version", verb)
	}
}

// reach opens the database once it answers. It waits a bounded time, since a first start and a restart look the same
// from here.
func reach(ctx context.Context, cfg config) (*sql.DB, error) {
	db := openDatabase(cfg)
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := waitForDatabase(wait, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func runMigrate(ctx context.Context, cfg config) error {
	db, err := reach(ctx, cfg)
	if err != nil {
		return err
	}
	defer db.Close()
	applied, err := migrate(ctx, db)
	for _, name := range applied {
		slog.Info("migration applied", "name", name)
	}
	if err != nil {
		return err
	}
	slog.Info("schema is up to date", "schema", schemaVersion(), "applied", len(applied))
	return nil
}

func serve(ctx context.Context, cfg config) error {
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return err
	}
	return serveOn(ctx, cfg, listener)
}

// serveOn answers until ctx ends, then stops in three steps: it says "not ready" while it still
// answers, so that whoever sends requests can look elsewhere; it takes no new connections and
// finishes what it has; it ends. A second signal does not make it faster: the runtime's own
// deadline does.
func serveOn(ctx context.Context, cfg config, listener net.Listener) error {
	db := openDatabase(cfg)
	defer db.Close()
	s := newShop(cfg, db)
	feedCtx, endFeeds := context.WithCancel(context.Background())
	defer endFeeds()
	go s.feed.listen(feedCtx, db)
	server := &http.Server{Handler: logged(s.routes()), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	slog.Info("serving", "listen", listener.Addr().String(), "instance", s.instance)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return s.stop(server)
	}
}

func (s *shop) stop(server *http.Server) error {
	slog.Info("stopping", "linger", s.cfg.Linger.String(), "drain", s.cfg.Drain.String())
	s.stopping.Store(true)
	time.Sleep(s.cfg.Linger.Duration)
	close(s.ending)
	deadline, cancel := context.WithTimeout(context.Background(), s.cfg.Drain.Duration)
	defer cancel()
	err := server.Shutdown(deadline)
	slog.Info("stopped", "all_answered", err == nil)
	return err
}

// healthcheck asks over HTTP, as a prober would, because the image has no shell and no curl.
func healthcheck(ctx context.Context, cfg config) error {
	_, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+port+"/healthz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New("not ready: " + response.Status)
	}
	return nil
}
