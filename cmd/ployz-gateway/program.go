package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/ployz/ployz/datapath/gateway"
	"github.com/ployz/ployz/datapath/listen"
)

// Program is the gateway process; main fills it.
type Program struct {
	Log     *slog.Logger
	Sockets *listen.Sockets
	Server  *gateway.Server
	// Source applies tables to Server.
	Source Source

	HTTP, HTTPS string // addresses where no socket of the names http, https was passed; "" for none
	// StatusPath is the Unix socket of whoever serves. Each process also answers on the same with
	// ".PID" appended, from before it serves until it has drained, so that none is ever overlooked.
	StatusPath string

	StopDeadline     time.Duration // of the drain after SIGTERM
	HandOverDeadline time.Duration // of the drain after a hand-over
	IdleGrace        time.Duration // see gateway.DrainOptions; for SIGTERM

	// Metrics tells the process's figures, until it has handed over; nil tells none.
	Metrics func(ctx context.Context)

	succeeded atomic.Bool // a successor has taken over
}

// Source is where tables come from.
type Source interface {
	// Begin applies the first table (the last good view) before it returns, and goes on
	// applying until ctx ends, also while the process drains. An error means that there is
	// nothing to serve.
	Begin(ctx context.Context) error
	// Routes adds the source's own requests to those of the status socket.
	Routes(mux *http.ServeMux)
}

// lastRequests is how long requests may take that were accepted at the very end of a stop.
const lastRequests = 5 * time.Second

// Run serves until the process is told to stop or has handed over and drained.
func (p *Program) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	life := listen.NewLife(p.Sockets, p.Log)
	p.Server.ListenTCP = func(port uint16) ([]net.Listener, error) {
		return p.Sockets.Listen(portName(port), "tcp", fmt.Sprintf(":%d", port))
	}
	p.Server.CloseTCP = func(port uint16) { p.Sockets.Release(portName(port)) }
	p.Server.Predecessors = p.predecessors
	if err := p.Server.Start(); err != nil {
		return err
	}
	if err := p.Source.Begin(ctx); err != nil {
		return err
	}
	sweep(p.StatusPath)
	own, err := p.listenStatus(ownPath(p.StatusPath))
	if err != nil {
		return err
	}
	defer own.remove()
	served, err := p.serve(ctx)
	if err != nil {
		return err
	}
	status, err := p.listenStatus(p.StatusPath)
	if err != nil {
		return err
	}
	defer status.Close()
	telling, silence := context.WithCancel(ctx)
	defer silence()
	if p.Metrics != nil {
		go p.Metrics(telling)
	}
	if err := life.Ready("serving"); err != nil {
		return err
	}
	ending := life.Wait(ctx)
	if ending.HandedOver() {
		p.succeeded.Store(true)
		silence()
		status.Close() // whoever kept a connection open is to ask the successor
	}
	return p.end(ending, served)
}

func portName(port uint16) string { return fmt.Sprintf("tcp-%d", port) }

// serve starts accepting; the channel gets Serve's result.
func (p *Program) serve(ctx context.Context) (<-chan error, error) {
	var l gateway.Listeners
	var err error
	if p.HTTP != "" {
		if l.HTTP, err = p.Sockets.Listen("http", "tcp", p.HTTP); err != nil {
			return nil, err
		}
	}
	if p.HTTPS != "" {
		if l.HTTPS, err = p.Sockets.Listen("https", "tcp", p.HTTPS); err != nil {
			return nil, err
		}
	}
	served := make(chan error, 1)
	go func() { served <- p.Server.Serve(ctx, l) }()
	return served, nil
}

// end drains as the ending asks for.
func (p *Program) end(e listen.Ending, served <-chan error) error {
	options := gateway.DrainOptions{IdleGrace: p.IdleGrace, Last: lastRequests}
	if e.HandedOver() {
		p.Sockets.Close()
		// Idle connections may stay as long as they could have anyway.
		options = gateway.DrainOptions{Succeeded: true, IdleGrace: p.Server.Limits.Idle}
	}
	ctx, cancel := p.drainContext(e)
	defer cancel()
	cut := p.Server.Drain(ctx, options)
	p.Log.Info("drained", "cut", cut)
	return <-served
}

// drainContext ends at the deadline of the ending, or, when a stop comes during the drain of a
// hand-over, at the deadline of the stop.
func (p *Program) drainContext(e listen.Ending) (context.Context, context.CancelFunc) {
	if !e.HandedOver() {
		return context.WithTimeout(context.Background(), p.StopDeadline)
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.HandOverDeadline)
	go func() {
		select {
		case <-ctx.Done():
			return
		case <-e.Stop:
		}
		select {
		case <-ctx.Done():
		case <-time.After(p.StopDeadline):
			cancel()
		}
	}()
	return ctx, cancel
}
