// Command ployz-gateway is the HTTP and TCP gateway of a machine: it takes its sockets from
// systemd, serves a table of routes (datapath/gateway), and hands over to its own replacement
// without losing a request (datapath/listen).
//
// SIGTERM drains and ends; SIGHUP hands over to the program now found at the same path.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/ployz/ployz/datapath/gateway"
	"github.com/ployz/ployz/datapath/listen"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ployz-gateway:", err)
		os.Exit(1)
	}
}

func run() error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	p := &Program{Log: log, Server: &gateway.Server{Log: log}}
	table := flag.String("table", "", "serve this table file; POST /table on the status socket replaces it")
	flag.StringVar(&p.HTTP, "http", ":80", "address for HTTP where no socket named http was passed; empty for none")
	flag.StringVar(&p.HTTPS, "https", ":443", "the same for HTTPS")
	flag.StringVar(&p.StatusPath, "status", "/run/ployz/gateway.sock", "Unix socket for GET /status and GET /routes")
	flag.DurationVar(&p.StopDeadline, "stop-deadline", 10*time.Second, "after SIGTERM, cut what is still open after this time")
	flag.DurationVar(&p.HandOverDeadline, "handover-deadline", 10*time.Minute, "after a hand-over, cut what is still open after this time")
	flag.DurationVar(&p.IdleGrace, "idle-grace", 3*time.Second, "after SIGTERM, how long an idle connection may send one more request")
	flag.Parse()

	var err error
	if p.Sockets, err = listen.Inherit(); err != nil {
		return err
	}
	if *table == "" {
		return fmt.Errorf("no source of routes: give -table FILE")
	}
	p.Source = &fileSource{path: *table, server: p.Server}
	return p.Run(context.Background())
}
