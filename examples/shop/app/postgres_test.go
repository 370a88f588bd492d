package main

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ployz/ployz/node/nodetest/testenv"
)

// nobody is the user that the test's PostgreSQL runs as when the test is root, since PostgreSQL
// refuses to be root.
const nobody = 65534

// server is a real PostgreSQL on loopback, one for the whole package; each test has a database
// of its own in it.
type server struct {
	port      uint16
	password  string
	databases atomic.Int32
	running   *exec.Cmd
}

var shared *server

func TestMain(m *testing.M) {
	code := m.Run()
	if shared != nil {
		shared.stop()
	}
	os.Exit(code)
}

// testConfig returns the configuration for an empty database.
func testConfig(t *testing.T) config {
	t.Helper()
	testenv.Require(t, testenv.PostgreSQL)
	if shared == nil {
		shared = startServer(t)
	}
	name := fmt.Sprintf("shop%d", shared.databases.Add(1))
	cfg := defaultConfig()
	cfg.Database.Host, cfg.Database.Port = "127.0.0.1", shared.port
	cfg.Database.PasswordFile = shared.password
	cfg.Database.Name = "postgres"
	db := openDatabase(cfg)
	defer db.Close()
	exec1(t, db, "CREATE DATABASE "+name)
	cfg.Database.Name = name
	return cfg
}

// testDatabase returns the configuration of a migrated database, and a pool on it.
func testDatabase(t *testing.T) (config, *sql.DB) {
	t.Helper()
	cfg := testConfig(t)
	db := openDatabase(cfg)
	t.Cleanup(func() { db.Close() })
	if _, err := migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return cfg, db
}

func exec1(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func startServer(t *testing.T) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "shop-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	s := &server{port: freePort(t), password: filepath.Join(dir, "password")}
	if err := os.WriteFile(s.password, []byte("it's secret\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	initdb := command("initdb", "-D", data, "-U", "shop", "--pwfile", s.password, "--auth=scram-sha-256", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.running = command("postgres", "-D", data, "-h", "127.0.0.1", "-p", fmt.Sprint(s.port), "-k", "", "-F")
	var log strings.Builder
	s.running.Stderr = &log
	if err := s.running.Start(); err != nil {
		t.Fatal(err)
	}
	s.awaitAnswer(t, &log)
	return s
}

func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(testenv.PostgreSQLBin(), name), args...)
	cmd.Dir = "/"
	// The server must not outlive a test run that was killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return cmd
}

func (s *server) awaitAnswer(t *testing.T, log *strings.Builder) {
	t.Helper()
	cfg := defaultConfig()
	cfg.Database = databaseConfig{Host: "127.0.0.1", Port: s.port, User: "shop", Name: "postgres", PasswordFile: s.password}
	db := openDatabase(cfg)
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := waitForDatabase(ctx, db); err != nil {
		s.stop()
		t.Fatalf("%v\n%s", err, log)
	}
}

func (s *server) stop() {
	s.running.Process.Signal(syscall.SIGINT)
	s.running.Wait()
	os.RemoveAll(filepath.Dir(s.password))
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}
