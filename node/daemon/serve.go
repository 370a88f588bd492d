package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/ployz/ployz/node/api"
)

// SocketPath is where ployzd answers.
const SocketPath = "/run/ployz/ployzd.sock"

// Listen returns the socket that systemd opened for us, or opens path itself, for root and the
// group. A socket file that nobody listens on is replaced.
func Listen(path string) (net.Listener, error) {
	given, err := activation.Listeners()
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "reading the sockets that systemd passed: %w", err)
	}
	if len(given) > 0 && given[0] != nil {
		return given[0], nil
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, api.Errorf(api.CodePortTaken, "another daemon answers on it already").About(path).WithHint("systemctl status ployzd")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, api.Errorf(api.CodeInternal, "removing the old socket: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, api.Errorf(api.CodeInternal, "making the socket's folder: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "opening the socket: %w", err)
	}
	return l, openToGroup(path)
}

// openToGroup lets the group in where it exists; without it the socket is root's alone.
func openToGroup(path string) error {
	if group, err := user.LookupGroup(Group); err == nil {
		gid, err := strconv.Atoi(group.Gid)
		if err == nil {
			err = os.Chown(path, -1, gid)
		}
		if err != nil {
			return api.Errorf(api.CodeInternal, "giving the socket to the group %s: %w", Group, err)
		}
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return api.Errorf(api.CodeInternal, "setting the socket's mode: %w", err)
	}
	return nil
}

// headerTimeout is what a client gets for the head of its request.
const headerTimeout = 10 * time.Second

// Serve answers on l until ctx ends. Open requests then get a moment to finish; operations are the
// business of Drain.
func (a *API) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           a.Handler(),
		ConnContext:       withPeer,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(a.Log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return api.Errorf(api.CodeInternal, "the socket: %w", err)
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if server.Shutdown(bounded) != nil {
		return server.Close() // followers of logs and events never end by themselves
	}
	return nil
}

// Drain refuses new operations and waits for the running ones. When ctx ends first it cancels
// them, which rolls them back, and waits for that.
func (a *API) Drain(ctx context.Context) {
	a.running.mu.Lock()
	a.running.stopping = true
	a.running.mu.Unlock()
	done := make(chan struct{})
	go func() { a.running.all.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		a.running.cancelAll(api.Errorf(api.CodeCancelled, "the daemon is stopping").Again().WithHint("repeat it once the daemon is back"))
		<-done
	}
}
