package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// statusSocket is a served Unix socket.
type statusSocket struct {
	*http.Server
	path string
}

// listenStatus serves the status at path. The socket is put there by rename, so that a
// successor replaces it without a moment in which nobody answers.
func (p *Program) listenStatus(path string) (*statusSocket, error) {
	fresh := fmt.Sprintf("%s.new-%d", path, os.Getpid())
	if err := os.Remove(fresh); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	if err := os.Chmod(fresh, 0o660); err != nil {
		ln.Close()
		return nil, err
	}
	if err := os.Rename(fresh, path); err != nil {
		ln.Close()
		return nil, err
	}
	mux := p.Server.StatusHandler()
	p.Source.Routes(mux)
	s := &statusSocket{&http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, path}
	go s.Serve(ln) // returns at Close
	return s, nil
}

// remove closes the socket and takes it away; only for a path nobody else takes over.
func (s *statusSocket) remove() {
	s.Close()
	os.Remove(s.path) // the worst of a failure is a path that nobody answers at
}

func drainingPath(path string) string { return fmt.Sprintf("%s.%d", path, os.Getpid()) }

// predecessors finds the processes that drain, by their status sockets. One left by a process
// that was killed is not counted.
func predecessors(path string) []int {
	found, err := filepath.Glob(path + ".*")
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range found {
		pid, err := strconv.Atoi(strings.TrimPrefix(f, path+"."))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if c, err := net.DialTimeout("unix", f, time.Second); err == nil {
			c.Close()
			pids = append(pids, pid)
		}
	}
	return pids
}
