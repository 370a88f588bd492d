package main

import (
	"context"
	"errors"
	"io/fs"
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
}

// Source is where zones come from.
type Source interface {
	// Begin applies the first zone (the last good view) before it returns, and goes on
	// applying until ctx ends. An error means that the process should not start.
	Begin(ctx context.Context) error
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
	s := &http.Server{Handler: p.Server.StatusHandler(), ReadHeaderTimeout: 5 * time.Second}
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

// lastGood serves what the machine served last.
type lastGood struct{ server *dns.Server }

// Begin restores the last good zone. That there is none, or not a good one, keeps nobody from
// forwarding: the resolver starts, and its status says what it lacks.
func (l *lastGood) Begin(context.Context) error {
	if l.server.LastGood == "" {
		return nil
	}
	err := l.server.Restore()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.server.Log.Info("no last good zone yet", "path", l.server.LastGood)
	case err != nil:
		l.server.Log.Error("last good zone not restored whole", "error", err)
		l.server.MarkUncertain(err.Error())
	}
	return nil
}
