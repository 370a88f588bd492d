// Command ployz-dns is the resolver of a machine: it takes its sockets from systemd, answers
// for ployz.internal from the cluster's facts (datapath/dns), forwards the rest, and hands over to
// its own replacement without losing a query (datapath/listen).
//
// Facts come from the machine's edge (node/routing). What was served last is on disk, so it answers
// at once and without a store, and its status says how old that may be.
//
// SIGTERM answers what has been read and ends; SIGHUP hands over to the program now found at
// the same path.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"github.com/ployz/ployz/datapath/dns"
	"github.com/ployz/ployz/datapath/listen"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// version is set by the build.
var version = "devel"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ployz-dns:", err)
		os.Exit(1)
	}
}

func run() error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	p := &Program{Log: log, Server: dns.NewServer()}
	p.Server.Log = log
	zone := flag.String("zone", "", "serve this zone file and no cluster's facts")
	var edge edgeOptions
	flag.StringVar(&edge.state, "state", "/var/lib/ployz", "folder of machine.json, keys, workloads and dns/projection.json")
	flag.StringVar(&edge.seed, "seed", "", "file of the key for the edge; default is keys/dns.seed in the state folder")
	flag.StringVar(&edge.url, "edge", "nats://"+natsconf.EdgeListen.String(), "the machine's edge")
	flag.StringVar(&p.Address, "listen", "127.0.0.55:53", "address where no sockets named dns-udp, dns-tcp were passed")
	flag.StringVar(&p.StatusPath, "status", "/run/ployz/dns.sock", "Unix socket for GET /status and GET /zone")
	flag.Func("upstream", "resolver to forward to, ADDRESS[:PORT]; may be repeated", p.addUpstream)
	flag.StringVar(&p.Server.Forwarder.ResolvConf, "resolv-conf", "", "file with more upstreams; default is systemd-resolved's, else /etc/resolv.conf, where there is no -upstream")
	flag.DurationVar(&p.Server.Forwarder.Timeout, "upstream-timeout", p.Server.Forwarder.Timeout, "how long one upstream may take")
	flag.DurationVar(&p.Server.Forwarder.StaleFor, "stale-for", p.Server.Forwarder.StaleFor, "how long an expired answer may be served while no upstream answers")
	flag.IntVar(&p.Server.Forwarder.CacheBytes, "cache-bytes", p.Server.Forwarder.CacheBytes, "memory for answers of upstreams")
	flag.IntVar(&p.Server.RatePerSource, "rate", p.Server.RatePerSource, "queries per second and source, 0 for no cap")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see ployz-dns -help", flag.Arg(0))
	}
	if p.Server.Forwarder.ResolvConf == "" && len(p.Server.Forwarder.Upstreams) == 0 {
		p.Server.Forwarder.ResolvConf = systemResolvConf()
	}

	var err error
	if p.Sockets, err = listen.Inherit(); err != nil {
		return err
	}
	if *zone != "" {
		p.Source = &zoneFile{*zone, p.Server}
		return p.Run(context.Background())
	}
	source := newRoutingSource(edge, p.Server, log)
	p.Source = source
	p.Metrics = func(ctx context.Context) { source.metrics().Run(ctx, edge.place) }
	return p.Run(context.Background())
}

// addUpstream takes one -upstream flag.
func (p *Program) addUpstream(text string) error {
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		a, addrErr := netip.ParseAddr(strings.Trim(text, "[]"))
		if addrErr != nil {
			return fmt.Errorf("want ADDRESS or ADDRESS:PORT: %w", err)
		}
		at = netip.AddrPortFrom(a, 53)
	}
	p.Server.Forwarder.Upstreams = append(p.Server.Forwarder.Upstreams, at)
	return nil
}

// systemResolvConf prefers the file with the true upstreams of systemd-resolved to its stub.
func systemResolvConf() string {
	const resolved = "/run/systemd/resolve/resolv.conf"
	if _, err := os.Stat(resolved); err == nil {
		return resolved
	}
	return "/etc/resolv.conf"
}
