package sdk

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/user"
	"syscall"

	"github.com/ployz/ployz/node/api"
)

// DialSocket connects to the daemon's socket on this machine. Errors: daemon.unreachable,
// daemon.permission-denied.
func DialSocket(ctx context.Context, path string) (net.Conn, error) { return dialSocket(ctx, path) }

func dialSocket(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, syscall.EACCES):
		return nil, api.Errorf(api.CodePermission, "user %s may not open the daemon's socket", whoAmI()).About(path).
			WithHint("sudo usermod -aG ployz %s, then log in again", whoAmI())
	case errors.Is(err, fs.ErrNotExist):
		return nil, unreachable(path, "its socket is not there", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, unreachable(path, "nobody listens on its socket", err)
	}
	return nil, unreachable(path, "its socket cannot be opened", err)
}

func unreachable(path, what string, cause error) error {
	return api.Errorf(api.CodeDaemonUnreachable, "ployzd does not answer: %s: %w", what, cause).About(path).Again().
		WithHint("systemctl start ployzd.socket ployzd; for another machine: --host ssh://root@HOST")
}

func whoAmI() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}
