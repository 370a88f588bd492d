package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/ployz/ployz/datapath/dns"
	"github.com/ployz/ployz/datapath/listen"
	"github.com/ployz/ployz/datapath/state"
)

// Names of the sockets, as in FileDescriptorName= of the socket units.
const (
	socketUDP = "dns-udp"
	socketTCP = "dns-tcp"
)

// Program is the resolver process; main fills it.
type Program struct {
	Log     *slog.Logger
	Sockets *listen.Sockets
	Server  *dns.Server
	// Source applies zones to Server.
	Source Source

	Address    string // where no sockets were passed
	StatusPath string // Unix socket

	// Metrics tells the process's figures, until it stops reading queries; nil tells none.
	Metrics func(ctx context.Context)
}

// Source is where zones come from.
type Source interface {
	// Begin applies the first zone (the last good view) before it returns, and goes on
	// applying until ctx ends. An error means that the process should not start.
	Begin(ctx context.Context) error
	// Routes adds the source's own requests to those of the status socket, which it may replace.
	Routes(mux *http.ServeMux)
}

// Run serves until the process is told to stop or has handed over, and has answered what it
// had read.
func (p *Program) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	life := listen.NewLife(p.Sockets, p.Log)
	if err := p.Source.Begin(ctx); err != nil {
		return err
	}
	sockets, err := p.open()
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() {
		served <- p.Server.Serve(serving, sockets)
		cancel() // also when the sockets failed: then there is nothing to wait for
	}()
	status, err := p.serveStatus()
	if err != nil {
		return err
	}
	defer status.Close()
	if p.Metrics != nil {
		go p.Metrics(serving)
	}
	if err := life.Ready("serving"); err != nil {
		return err
	}
	life.Wait(ctx)
	stop()
	return <-served
}

func (p *Program) open() (dns.Sockets, error) {
	var s dns.Sockets
	var err error
	if s.UDP, err = p.Sockets.ListenPacket(socketUDP, "udp", p.Address); err != nil {
		return s, err
	}
	s.TCP, err = p.Sockets.Listen(socketTCP, "tcp", p.Address)
	return s, err
}

func (p *Program) serveStatus() (*http.Server, error) {
	l, err := dns.ListenStatus(p.StatusPath)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", p.Server.StatusHandler())
	p.Source.Routes(mux)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.Log.Error("status is not served any more", "error", err)
		}
	}()
	return s, nil
}

// zoneFile serves a zone from a file and nothing else. It is for tests and trials.
type zoneFile struct {
	path   string
	server *dns.Server
}

// Begin applies the file; a zone with a bad part is refused.
func (z *zoneFile) Begin(context.Context) error {
	var zone dns.Zone
	if err := state.Load(z.path, &zone); err != nil {
		return err
	}
	return z.server.Apply(zone)
}

// Routes implements Source; there is nothing to add.
func (z *zoneFile) Routes(*http.ServeMux) {}
