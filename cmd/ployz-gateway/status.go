package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
	mux := http.NewServeMux()
	mux.Handle("/", p.Server.StatusHandler())
	p.Source.Routes(mux)
	s := &statusSocket{&http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, path}
	go s.Serve(ln) // returns at Close
	return s, nil
}

// remove closes the socket and takes it away; only for a path that is this process's own.
func (s *statusSocket) remove() {
	s.Close()
	os.Remove(s.path) // the worst of a failure is a path that nobody answers at
}

// sweep removes what processes that were killed left behind: sockets that nobody answers at, and
// ones that never got their name.
func sweep(path string) {
	siblings(path)
	unnamed, err := filepath.Glob(path + "*.new-*")
	if err != nil {
		return
	}
	for _, file := range unnamed {
		// Whoever is just starting does not answer yet: only a process that is no more left it.
		pid, err := strconv.Atoi(file[strings.LastIndexByte(file, '-')+1:])
		if err == nil && pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			os.Remove(file) // the next one tries again
		}
	}
}

func ownPath(path string) string { return fmt.Sprintf("%s.%d", path, os.Getpid()) }

// predecessors are the other processes, as far as this one is not being replaced itself. For a
// moment of a hand-over the successor may be among them.
func (p *Program) predecessors() []int {
	if p.succeeded.Load() {
		return nil
	}
	var pids []int
	for pid := range siblings(p.StatusPath) {
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return pids
}

// siblings finds the other processes that serve or drain: their pids and own sockets. What a
// process that was killed left behind is removed.
func siblings(path string) map[int]string {
	found, err := filepath.Glob(path + ".*")
	if err != nil {
		return nil
	}
	alive := map[int]string{}
	for _, file := range found {
		pid, err := strconv.Atoi(strings.TrimPrefix(file, path+"."))
		if err != nil || pid == os.Getpid() {
			continue
		}
		c, err := net.DialTimeout("unix", file, time.Second)
		switch {
		case err == nil:
			c.Close()
			alive[pid] = file
		case errors.Is(err, syscall.ECONNREFUSED):
			os.Remove(file) // the next one tries again
		}
	}
	return alive
}
