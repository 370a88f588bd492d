// Command ployzd is the control plane of one machine. It can be stopped, killed and replaced at
// any time: nothing that serves needs it, and when it starts it adopts what runs.
//
// systemd starts it with its socket. It needs root. Exit status: 0 after SIGTERM, 1 on an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/ployz/ployz/node/daemon"
)

// version is set by the build.
var version = "devel"

func main() {
	settings := flag.String("config", daemon.SettingsPath, "settings file")
	socket := flag.String("socket", daemon.SocketPath, "API socket, where systemd passes none")
	show := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *show {
		fmt.Println("ployzd", version)
		return
	}
	if err := run(*settings, *socket); err != nil {
		fmt.Fprintln(os.Stderr, "ployzd:", err)
		os.Exit(1)
	}
}

func run(settingsPath, socket string) error {
	settings, err := daemon.LoadSettings(settingsPath)
	if err != nil {
		return err
	}
	level, err := settings.Level()
	if err != nil {
		return err
	}
	d := &daemon.Daemon{
		Settings: settings, Version: version, State: settings.DataDir, Run: "/run/ployz",
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return serve(ctx, d, socket)
}

// serve answers as the member it is before it adopts, so that `status` can say how that goes.
func serve(ctx context.Context, d *daemon.Daemon, socket string) error {
	if err := d.Wire(); err != nil {
		return err
	}
	listener, err := daemon.Listen(socket)
	if err != nil {
		return err
	}
	if err := d.Resume(); err != nil {
		d.Log.Error("joining the cluster again", "error", err) // status says it too
	}
	surface := d.API()
	served := make(chan error, 1)
	go func() { served <- surface.Serve(ctx, listener) }()
	if err := d.Adopt(ctx); err != nil {
		// What could not be adopted is left alone; the operator finds the reason in status and log.
		d.Log.Error("adoption", "error", err)
	}
	if _, err := systemd.SdNotify(false, systemd.SdNotifyReady); err != nil {
		d.Log.Warn("systemd was not told", "error", err)
	}
	err = <-served
	surface.Drain(context.Background())
	return errors.Join(err, d.Close())
}
