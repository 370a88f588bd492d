// Package overlaytest runs the userspace WireGuard device, the real program, for tests: in a network namespace
// that the test made, ended with the test.
package overlaytest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ployz/ployz/datapath/link/linktest"
)

// folder is where the program was built, "" while it was not.
var folder string

// program is built once per test binary, by the first test that needs it.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ployz-wireguard-")
	if err != nil {
		return "", err
	}
	folder = dir
	path := filepath.Join(dir, "ployz-wireguard")
	build := exec.Command(filepath.Join(runtime.GOROOT(), "bin", "go"), "build", "-o", path, "github.com/ployz/ployz/cmd/ployz-wireguard")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// Clean removes the program that was built, at the end of a TestMain.
func Clean() {
	if folder != "" {
		_ = os.RemoveAll(folder) // what is left is in the temporary folder
	}
}

var number atomic.Int32

// Name returns an interface name that no other test has: the sockets of all namespaces are in one folder.
func Name() string { return fmt.Sprintf("pt%d-%d", os.Getpid()%10_000_000, number.Add(1)) }

// Running is one ployz-wireguard.
type Running struct {
	t       testing.TB
	name    string
	command *exec.Cmd
	log     bytes.Buffer
	ended   chan error
}

// Start runs the device in the namespace and returns when it says that it is ready.
func Start(t testing.TB, n linktest.Netns, name string) *Running {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	p := &Running{t: t, name: name, ended: make(chan error, 1)}
	ready := listen(t)
	p.command = exec.Command(path, name)
	p.command.Env = append(os.Environ(), "NOTIFY_SOCKET="+ready.LocalAddr().String())
	p.command.Stderr = &p.log
	n.Run(t, p.command.Start)
	go func() { p.ended <- p.command.Wait() }()
	t.Cleanup(p.Kill)
	buffer := make([]byte, 100)
	if err := ready.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if got, err := ready.Read(buffer); err != nil || string(buffer[:got]) != "READY=1" {
		p.Kill()
		t.Fatalf("ployz-wireguard said %q, %v\n%s", buffer[:got], err, p.log.String())
	}
	return p
}

func listen(t testing.TB) *net.UnixConn {
	t.Helper()
	at := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Kill ends the process at once, as a crash would. The socket's file stays, so it is removed when the test ends.
func (p *Running) Kill() {
	_ = p.command.Process.Kill() // it may have ended
	p.wait()
	_ = os.Remove("/var/run/wireguard/" + p.name + ".sock")
}

// Crash is Kill, but leaves the socket's file behind.
func (p *Running) Crash() {
	_ = p.command.Process.Kill()
	p.wait()
}

// Freeze makes the process answer nobody, until the function that it returns is called.
func (p *Running) Freeze() (thaw func()) {
	p.t.Helper()
	signal := func(s syscall.Signal) {
		if err := p.command.Process.Signal(s); err != nil {
			p.t.Error(err)
		}
	}
	signal(syscall.SIGSTOP)
	return func() { signal(syscall.SIGCONT) }
}

// Stop ends the process as systemd does, and fails the test unless it ends well.
func (p *Running) Stop() {
	p.t.Helper()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Error(err)
	}
	if err := p.wait(); err != nil {
		p.t.Errorf("ployz-wireguard after SIGTERM: %v\n%s", err, p.log.String())
	}
}

func (p *Running) wait() error {
	err := <-p.ended
	p.ended <- err // for the next who asks
	return err
}
