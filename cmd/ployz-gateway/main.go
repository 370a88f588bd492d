// Command ployz-gateway is the HTTP and TCP gateway of a machine: it takes its sockets from
// systemd, serves the cluster's routes (datapath/gateway), and hands over to its own replacement
// without losing a request (datapath/listen).
//
// Routes come from the machine's edge (node/routing). What was served last is on disk, so it serves
// at once and without a store, and its status says how old that may be.
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
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// version is set by the build.
var version = "devel"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ployz-gateway:", err)
		os.Exit(1)
	}
}

func run() error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	p := &Program{Log: log, Server: &gateway.Server{Log: log}}
	table := flag.String("table", "", "serve this table file and no cluster's routes; POST /table on the status socket replaces it")
	var edge edgeOptions
	flag.StringVar(&edge.state, "state", "/var/lib/ployz", "folder of machine.json, keys and gateway/projection.json")
	flag.StringVar(&edge.seed, "seed", "", "file of the key for the edge; default is keys/gateway.seed in the state folder")
	flag.StringVar(&edge.url, "edge", "nats://"+natsconf.EdgeListen.String(), "the machine's edge")
	tlsDir := flag.String("tls", "/etc/ployz/tls", "folder of certificates: NAME.crt or NAME.pem with NAME.key")
	flag.StringVar(&p.HTTP, "http", ":80", "address for HTTP where no socket named http was passed; empty for none")
	flag.StringVar(&p.HTTPS, "https", ":443", "the same for HTTPS")
	flag.StringVar(&p.StatusPath, "status", "/run/ployz/gateway.sock", "Unix socket for GET /status and GET /routes")
	flag.DurationVar(&p.StopDeadline, "stop-deadline", 10*time.Second, "after SIGTERM, cut what is still open after this time")
	flag.DurationVar(&p.HandOverDeadline, "handover-deadline", 10*time.Minute, "after a hand-over, cut what is still open after this time")
	flag.DurationVar(&p.IdleGrace, "idle-grace", 3*time.Second, "after SIGTERM, how long an idle connection may send one more request")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see ployz-gateway -help", flag.Arg(0))
	}

	var err error
	if p.Sockets, err = listen.Inherit(); err != nil {
		return err
	}
	if *table != "" {
		p.Source = &fileSource{path: *table, server: p.Server}
		return p.Run(context.Background())
	}
	source := newRoutingSource(edge, *tlsDir, p.Server, log)
	source.siblings = func() map[int]string { return siblings(p.StatusPath) }
	p.Source = source
	p.Metrics = func(ctx context.Context) { source.metrics().Run(ctx, edge.place) }
	return p.Run(context.Background())
}
