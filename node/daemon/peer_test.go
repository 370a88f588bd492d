package daemon_test

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/daemon"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// TestPeerIsAskedOfTheKernel calls a socket that everybody may open, as root and as nobody: the surface
// itself tells them apart.
func TestPeerIsAskedOfTheKernel(t *testing.T) {
	testenv.Require(t, testenv.Root)
	socket := openSocket(t)
	for uid, want := range map[int]int{0: http.StatusOK, 65534: http.StatusForbidden} {
		conn, err := dialAs(socket, uid)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest(http.MethodGet, "http://ployzd/v1/version", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := req.Write(conn); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want {
			t.Errorf("uid %d got %s", uid, resp.Status)
		}
		resp.Body.Close()
		conn.Close()
	}
}

// openSocket serves with the surface's own admission on a socket of mode 0666.
func openSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ployz")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "d.sock")
	l, err := daemon.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(socket); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("the socket has %v %v, want 0660", st.Mode(), err)
	}
	if _, err := daemon.Listen(socket); api.CodeOf(err) != api.CodePortTaken {
		t.Errorf("a second daemon on the socket: %v", err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o755, socket: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	a := &daemon.API{Member: func() *daemon.Member { return nil }, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); a.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-done })
	return socket
}

// dialAs connects from a thread of that user; the thread ends with its goroutine, since it stays locked.
func dialAs(socket string, uid int) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if _, _, no := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); no != 0 {
			err = no
			return
		}
		var fd int
		if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		f := os.NewFile(uintptr(fd), socket)
		defer f.Close()
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err == nil {
			conn, err = net.FileConn(f)
		}
	}()
	<-done
	return conn, err
}
