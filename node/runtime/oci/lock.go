package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// The order of locks, to keep them free of deadlock: storeLock, then at most one stripe or indexLock.
const (
	// storeLock is shared by everything that adds to the store and exclusive for what removes.
	storeLock = "store"
	// indexLock covers one read-change-write of index.json.
	indexLock = "index"
	// openLock covers the clearing and making of work folders.
	openLock = "open"
)

// stripe is the lock of one blob or layer. There are 256, since a file per digest would have to
// be cleared up and cannot be without a race.
func stripe(d digest.Digest) string { return d.Encoded()[:2] }

// lockPoll is how often a lock held by another is tried: flock cannot wait for a context.
const lockPoll = 10 * time.Millisecond

// lock takes a flock of the store and returns its release. Two goroutines exclude each other like
// two programs do, since each call opens the file anew.
func (s *Store) lock(ctx context.Context, name string, exclusive bool) (func(), error) {
	f, err := os.OpenFile(s.path("locks", name), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, s.writeError(err, 0)
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("oci: locking %s: %w", f.Name(), err)
		}
		if err := sleep(ctx, lockPoll); err != nil {
			f.Close()
			return nil, err
		}
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
