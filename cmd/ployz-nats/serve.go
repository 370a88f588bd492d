package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// readyWithin bounds the start: recovering a large store after a power cut takes seconds.
const readyWithin = 2 * time.Minute

// serve runs the server until a signal ends it: SIGTERM and SIGINT hand leadership over and stop,
// SIGUSR2 drains clients first (lame duck), SIGHUP reloads.
func serve(f settings) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR2, syscall.SIGHUP)
	s, err := start(&f)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { s.WaitForShutdown(); close(ended) }()
	if err := awaitReady(s, f.room, signals, ended); err != nil {
		s.Shutdown()
		return err
	}
	st := &status{path: f.status}
	st.started(f.role, s, f.room.short)
	go calm(ended)
	ctx, silence := context.WithCancel(context.Background())
	defer silence()
	go (&gauges{f.role, s, st}).tellMetrics(ctx, f.state)
	notify("READY=1\nSTATUS=" + st.line())
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ended:
			return st.remove()
		case <-look.C:
			if f.room.keep(s, f, st) {
				s.Noticef("JetStream is off for want of room: the server starts anew")
				go s.Shutdown()
			}
		case sig := <-signals:
			onSignal(sig, s, f, st)
		}
	}
}

// start also gives an edge its relay. The server may recover for a while before it takes even
// this process's own client, so that one is let in on the side.
func start(f *settings) (*server.Server, error) {
	tellSeldom()
	var err error
	if f.role == "edge" {
		if f.inner, err = newInner(natsconf.AccountStore); err != nil {
			return nil, err
		}
	}
	f.room = &room{role: f.role}
	opts, err := load(*f)
	if err != nil {
		return nil, err
	}
	electSoon(opts.Cluster.Host)
	f.room.begin(opts.StoreDir)
	f.room.hold(opts)
	if f.role == "core" {
		if _, err := ownFolder(opts); err != nil {
			return nil, err
		}
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, err
	}
	s.SetLoggerV2(newJournal(os.Stderr), opts.Debug, opts.Trace, false)
	s.Start()
	if f.role == "edge" {
		return s, startRelay(s, f.inner)
	}
	return s, nil
}

var errNotReady = errors.New("not ready in time")

// awaitReady waits for the listeners and JetStream. It does not wait for a leader: a lone core
// gets one only when its own edge connects, and the edge is a unit that starts on its own time.
//
// Out of room JetStream may be off again by now, which the look at the room deals with.
func awaitReady(s *server.Server, r *room, signals <-chan os.Signal, ended <-chan struct{}) error {
	deadline := time.Now().Add(readyWithin)
	for time.Now().Before(deadline) {
		select {
		case <-ended:
			return errors.New("the server stopped while it started; its last lines say why")
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				return fmt.Errorf("%s while starting", sig)
			}
		default:
		}
		if s.ReadyForConnections(50*time.Millisecond) && (s.JetStreamEnabled() || r.short) {
			return nil
		}
	}
	return errNotReady
}

func onSignal(sig os.Signal, s *server.Server, f settings, st *status) {
	s.Noticef("Got %s", sig)
	switch sig {
	case syscall.SIGHUP:
		st.reloaded(s, apply(s, f))
		notify("STATUS=" + st.line())
	case syscall.SIGUSR2:
		notify("STOPPING=1")
		go s.LameDuckShutdown()
	default:
		notify("STOPPING=1")
		go s.Shutdown()
	}
}

// apply loads the configuration again. A failure leaves the running one, and its digest, in place.
func apply(s *server.Server, f settings) error {
	opts, err := load(f)
	if err == nil {
		err = s.ReloadOptions(opts)
	}
	if err != nil {
		s.Errorf("Reload refused: %v", err)
	}
	return err
}

// notify tells systemd; outside of a unit there is nobody to tell, which is fine.
func notify(text string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if path[0] == '@' {
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		fmt.Fprintln(os.Stderr, "ployz-nats: telling systemd:", err)
		return
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(text)); err != nil {
		fmt.Fprintln(os.Stderr, "ployz-nats: telling systemd:", err)
	}
}
