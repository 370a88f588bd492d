package oci

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/oci/layer"
)

var _ runtime.Images = (*Store)(nil)

// Options configures a store. Only Root is required.
type Options struct {
	// Root is the store's folder; it is made if it is not there.
	Root string
	// Architecture and Variant are what images must run on, in Go's words; empty is this
	// program's own architecture and any variant every such machine runs.
	Architecture string
	Variant      string
	// Insecure lists registries ("registry.lan:5000") that may be spoken to in plain HTTP.
	// Loopback always may.
	Insecure []string
	// RootCAs verifies registries; nil means the system's.
	RootCAs *x509.CertPool
	// Parallel is how many layers of one pull download at once; 0 means 3.
	Parallel int
	// Limits bounds what one layer may unpack to.
	Limits layer.Limits
	// ReserveBytes of free space are never used up by a pull, import or unpack.
	ReserveBytes int64
	// StallTimeout is how long a registry may send nothing before the request is tried
	// again; 0 means a minute.
	StallTimeout time.Duration
	// RetryDelay is the pause before the first retry; it doubles. 0 means half a second.
	RetryDelay time.Duration
	// InUse says whether an instance uses the image with this manifest digest; nil means none is.
	InUse func(digest string) bool
}

// Store is one image store. It is safe for concurrent use, also by several programs.
type Store struct {
	opts    Options
	session string
	held    *os.File
}

// Open opens the store, makes its folders, and clears the work in progress of programs that died.
func Open(opts Options) (*Store, error) {
	s := &Store{opts: opts.filled()}
	if !filepath.IsAbs(opts.Root) {
		return nil, fmt.Errorf("oci: the store's root %q is not an absolute path", opts.Root)
	}
	for _, dir := range []string{"blobs/sha256", "layers", "tmp", "locks"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return nil, err
		}
	}
	// Alone, so that nobody takes a folder for a dead one between its making and its lock.
	unlock, err := s.lock(context.Background(), openLock, true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.sweep(); err != nil {
		return nil, err
	}
	return s, s.begin()
}

func (o Options) filled() Options {
	if o.Architecture == "" {
		o.Architecture = goruntime.GOARCH
	}
	if o.Parallel <= 0 {
		o.Parallel = 3
	}
	if o.StallTimeout == 0 {
		o.StallTimeout = time.Minute
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = 500 * time.Millisecond
	}
	if o.InUse == nil {
		o.InUse = func(string) bool { return false }
	}
	return o
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.opts.Root}, parts...)...)
}

// begin makes this store's own folder below tmp. Its lock file is held as long as the program lives,
// which is how a later Open tells work in progress from leavings.
func (s *Store) begin() error {
	dir, err := os.MkdirTemp(s.path("tmp"), "s")
	if err != nil {
		return err
	}
	s.session = dir
	s.held, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return unix.Flock(int(s.held.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

// sweep removes the folders below tmp whose owner is gone.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.path("tmp"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := s.path("tmp", e.Name())
		if alive(dir) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("oci: clearing what a dead pull left: %w", err)
		}
	}
	return nil
}

// alive says that somebody holds the folder's lock. A folder without one was left by a death
// before begin came to its end.
func alive(dir string) bool {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}

// Close ends the store's session and removes its work in progress.
func (s *Store) Close() error {
	if err := os.RemoveAll(s.session); err != nil {
		return err
	}
	return s.held.Close()
}
