// Command ployz-wireguard is the WireGuard device of a machine whose kernel has none: it makes a TUN device,
// carries its packets, and takes its configuration from the socket that wgctrl and wg speak to.
//
//	ployz-wireguard INTERFACE
//
// It decides nothing and keeps nothing: key, port and peers are put in by whoever puts them into a kernel's
// device, and are gone with the process. It tells systemd when the socket listens. It ends with status 0 on
// SIGTERM, and when its interface is deleted; with 1 on failure, with 2 on usage. It needs CAP_NET_ADMIN and /dev/net/tun.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

func main() {
	if len(os.Args) != 2 || os.Args[1] == "" || os.Args[1][0] == '-' {
		fmt.Fprintln(os.Stderr, "usage: ployz-wireguard INTERFACE")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := serve(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "ployz-wireguard:", err)
		os.Exit(1)
	}
}

// serve carries packets until ctx ends or the interface is deleted.
func serve(ctx context.Context, name string) error {
	queue, err := tun.CreateTUN(name, device.DefaultMTU)
	if err != nil {
		return fmt.Errorf("make the TUN device %s: %w", name, err)
	}
	dev := device.NewDevice(queue, &families{}, device.NewLogger(device.LogLevelError, ""))
	defer dev.Close()
	socket, err := listen(name)
	if err != nil {
		return fmt.Errorf("listen for the configuration of %s: %w", name, err)
	}
	failed := make(chan error, 1)
	go func() { failed <- answer(socket, dev) }()
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return errors.Join(err, socket.Close())
	}
	select {
	case <-ctx.Done():
	case <-dev.Wait():
	case err := <-failed:
		return fmt.Errorf("the socket for the configuration of %s: %w", name, err)
	}
	return socket.Close()
}

func listen(name string) (net.Listener, error) {
	file, err := ipc.UAPIOpen(name)
	if err != nil {
		return nil, err
	}
	return ipc.UAPIListen(name, file)
}

// answer returns when the socket is closed or its file is gone: without it nobody could configure the device.
func answer(socket net.Listener, dev *device.Device) error {
	for {
		caller, err := socket.Accept()
		if err != nil {
			return err
		}
		go dev.IpcHandle(caller)
	}
}
