package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// report is the content of the status file: what runs, as opposed to what is on disk. After a
// failed reload the digest is the old one, and that is how drift is seen.
type report struct {
	PID          int       `json:"pid"`
	Role         string    `json:"role"`
	ServerID     string    `json:"server_id"`
	ServerName   string    `json:"server_name"`
	Version      string    `json:"version"`
	ConfigDigest string    `json:"config_digest"`
	Started      time.Time `json:"started"`
	Reloads      int       `json:"reloads"`
	Refused      int       `json:"refused,omitempty"` // of the reloads
	ReloadError  string    `json:"reload_error,omitempty"`
	// NoRoom says that the server holds still until there is room on its disk.
	NoRoom bool `json:"no_room,omitempty"`
}

// status keeps the file current. Without a path it only remembers.
type status struct {
	path string
	mu   sync.Mutex
	now  report
}

func (s *status) started(role string, srv *server.Server, noRoom bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = report{PID: os.Getpid(), Role: role, ServerID: srv.ID(), ServerName: srv.Name(), Version: server.VERSION, Started: time.Now().UTC()}
	s.now.ConfigDigest, s.now.NoRoom = digest(srv), noRoom
	s.writeLocked(srv)
}

func (s *status) reloaded(srv *server.Server, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Reloads++
	s.now.ReloadError, s.now.ConfigDigest = "", digest(srv)
	if err != nil {
		s.now.Refused++
		s.now.ReloadError = err.Error()
	}
	s.writeLocked(srv)
}

func (s *status) room(srv *server.Server, short bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.NoRoom = short
	s.writeLocked(srv)
}

// digest is that of the configuration in use, as the server itself reports it.
func digest(srv *server.Server) string {
	v, err := srv.Varz(nil)
	if err != nil {
		return ""
	}
	return v.ConfigDigest
}

func (s *status) report() report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *status) line() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := fmt.Sprintf("%s %s, config %s", s.now.Role, s.now.ServerName, s.now.ConfigDigest)
	if s.now.NoRoom {
		out += ", holds still for want of room"
	}
	if s.now.ReloadError != "" {
		out += ", the last reload was refused"
	}
	return out
}

// writeLocked replaces the file whole. It lives on a tmpfs, so there is nothing to sync.
func (s *status) writeLocked(srv *server.Server) {
	if s.path == "" {
		return
	}
	text, err := json.MarshalIndent(s.now, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(s.path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(s.path+".new", append(text, '\n'), 0o644)
	}
	if err == nil {
		err = os.Rename(s.path+".new", s.path)
	}
	if err != nil {
		srv.Errorf("Writing the status file: %v", err)
	}
}

func (s *status) remove() error {
	if s.path == "" {
		return nil
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func readReport(path string) (report, error) {
	var r report
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, err
}
