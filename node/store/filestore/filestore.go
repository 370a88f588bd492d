// Package filestore is the store of a machine that is not yet part of a cluster: the facts and
// the ledger of node/store in one journal file on the machine's own disk.
//
// Only machine.init uses it, for its lease, its open fact and its ledger, until the cluster's own
// store exists; CopyLog then carries the ledger over. It needs a file system with flock and a
// folder that exists. Every write is on the disk before it is acknowledged, so that a kill or a
// power cut at any moment leaves what was acknowledged, and at most one write more. It must never
// serve a cluster: there is no second copy, and the file only grows.
//
// Facts expire by the machine's wall clock, also across a restart.
package filestore

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// disk is what the store does to its open journal; tests break exactly one call of it.
type disk interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

// Store is an open journal and what it says. Its faces are Facts and Log.
type Store struct {
	clock func() time.Time

	mu sync.Mutex
	// All below is guarded by mu.
	journal  disk
	size     int64 // bytes of whole lines
	lines    int
	ended    error // set once nothing more can be said: closed, or the disk failed
	revision store.Revision
	facts    map[store.Key]fact
	records  []record
	acks     map[ackKey]ack
	moved    chan struct{} // closed and replaced whenever records grow or the store ends
}

// ackKey is a batch's ID, or with an operation a record's; ack is how it was answered.
type ackKey struct{ operation, id string }

type ack struct {
	revision store.Revision
	at       time.Time
}

// Open opens the journal at path, makes it if there is none, and keeps others out until Close.
// clock tells what has expired; nil is the real time. A last line that a power cut tore is
// dropped: it was never acknowledged. Errors: store.busy (another opener has it), store.damaged,
// store.unavailable (the file cannot be made, read or written).
func Open(path string, clock func() time.Time) (*Store, error) {
	if clock == nil {
		clock = time.Now
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, failed(path, err)
	}
	s := &Store{clock: clock, journal: file, facts: map[store.Key]fact{}, acks: map[ackKey]ack{}, moved: make(chan struct{})}
	if err := s.start(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return s, nil
}

func (s *Store) start(file *os.File) error {
	if err := lockFile(file); err != nil {
		return err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return failed(file.Name(), err)
	}
	if err := s.replay(file.Name(), text); err != nil {
		return err
	}
	if err := secure(file, s.size); err != nil {
		return failed(file.Name(), err)
	}
	return nil
}

func lockFile(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return api.Errorf(api.CodeStoreBusy, "another process has the journal open").About(file.Name()).Again().
			WithHint("ployzd holds it while it runs: systemctl status ployzd")
	}
	if err != nil {
		return failed(file.Name(), err)
	}
	return nil
}

// secure cuts a torn end off and puts the file and its name on the disk. Also a line that is
// whole may be there unsynced: its writer died before the answer.
func secure(file *os.File, size int64) error {
	if err := errors.Join(file.Truncate(size), file.Sync()); err != nil {
		return err
	}
	return durable.SyncFolder(filepath.Dir(file.Name()))
}

func failed(path string, cause error) error {
	return api.Errorf(api.CodeStoreUnavailable, "the journal of a machine without a cluster: %w", cause).About(path).
		WithHint("check the folder and its file system: findmnt --target %s", filepath.Dir(path))
}

// Facts returns the facts' face.
func (s *Store) Facts() store.Facts { return facts{s} }

// Log returns the ledger's face. Its revisions are its own.
func (s *Store) Log() store.Log { return ledger{s} }

// Close lets the next opener in. What is asked of the store or its feeds afterwards ends with
// store.unavailable.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.ended, os.ErrClosed) {
		return nil
	}
	s.endLocked(os.ErrClosed)
	return s.journal.Close()
}

func (s *Store) endLocked(why error) {
	s.ended = why
	s.wakeLocked()
}

func (s *Store) wakeLocked() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// lock takes the mutex, unless the caller's time or the store's is over.
func (s *Store) lock(ctx context.Context, what string) error {
	if err := ctx.Err(); err != nil {
		return store.Unavailable(what, err)
	}
	s.mu.Lock()
	if s.ended != nil {
		defer s.mu.Unlock()
		return store.Unavailable(what, s.ended)
	}
	return nil
}
