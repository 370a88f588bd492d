package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ployz/ployz/metrics"
	"github.com/ployz/ployz/node/machine"
)

// version is set by the build.
var version = "devel"

// gauges tells a server's figures. The server is asked as the library it is: it listens for nobody who monitors.
type gauges struct {
	role string
	s    *server.Server
	st   *status
}

// tellMetrics answers at the overlay address of the machine whose state folder this is, until ctx ends.
func (g *gauges) tellMetrics(ctx context.Context, state string) {
	g.page().Run(ctx, func() (metrics.Place, error) {
		self, err := machine.LoadIdentity(state)
		return metrics.Place{Overlay: self.Overlay, Cluster: self.Prefix}, err
	})
}

func (g *gauges) page() *metrics.Page {
	program := metrics.Edge
	if g.role == "core" {
		program = metrics.Core
	}
	return &metrics.Page{Program: program, Version: version, Fill: g.tell, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
}

// tell fills a sheet. What the server cannot say is left out.
func (g *gauges) tell(sheet *metrics.Sheet) {
	now := g.st.report()
	sheet.Put("ployz_nats_config_info", 1, g.role, now.ConfigDigest)
	sheet.Put("ployz_nats_reloads_total", float64(now.Reloads-now.Refused), g.role, "taken")
	sheet.Put("ployz_nats_reloads_total", float64(now.Refused), g.role, "refused")
	if v, err := g.s.Varz(nil); err == nil {
		sheet.Put("ployz_nats_connections", float64(v.Connections), g.role)
		sheet.Put("ployz_nats_leafs", float64(v.Leafs), g.role)
		sheet.Put("ployz_nats_slow_consumers_total", float64(v.SlowConsumers), g.role)
		sheet.Put("ployz_nats_memory_bytes", float64(v.Mem), g.role)
	}
	info, err := g.s.Jsz(&server.JSzOptions{Accounts: true, Streams: true, Config: true})
	if err != nil {
		return
	}
	sheet.Put("ployz_nats_storage_bytes", float64(info.Store), g.role)
	if g.role == "core" {
		g.voters(sheet, info.Meta)
	}
	for _, account := range info.AccountDetails {
		for _, stream := range account.Streams {
			g.stream(sheet, stream)
		}
	}
}

func (g *gauges) voters(sheet *metrics.Sheet, meta *server.MetaClusterInfo) {
	sheet.Flag("ployz_nats_leader", g.s.JetStreamIsLeader(), g.role)
	if meta == nil {
		return
	}
	seen := 1
	for _, r := range meta.Replicas {
		if r.Current && !r.Offline {
			seen++
		}
	}
	sheet.Flag("ployz_nats_leader_known", meta.Leader != "", g.role)
	sheet.Put("ployz_nats_voters", float64(meta.Size), g.role)
	sheet.Put("ployz_nats_voters_seen", float64(seen), g.role)
}

func (g *gauges) stream(sheet *metrics.Sheet, d server.StreamDetail) {
	sheet.Put("ployz_nats_stream_messages", float64(d.State.Msgs), g.role, d.Name)
	sheet.Put("ployz_nats_stream_bytes", float64(d.State.Bytes), g.role, d.Name)
	sheet.Put("ployz_nats_stream_last_sequence", float64(d.State.LastSeq), g.role, d.Name)
	if g.role == "core" {
		sheet.Flag("ployz_nats_stream_leader", d.Cluster != nil && d.Cluster.Leader == g.s.Name(), g.role, d.Name)
		return
	}
	if d.Mirror == nil {
		return
	}
	sheet.Put("ployz_nats_mirror_lag", float64(d.Mirror.Lag), g.role, d.Name)
	if d.Mirror.Active >= 0 {
		sheet.Put("ployz_nats_mirror_active_seconds", d.Mirror.Active.Seconds(), g.role, d.Name)
	}
}
