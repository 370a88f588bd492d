package btrfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// Backend is the name of this backend in headers, usage and refusals.
const Backend = "btrfs"

// Pool is a folder of a Btrfs file system that holds volumes. It implements storage.Pool.
type Pool struct {
	root string
	// mu is held while volumes change places. Streams do not hold it; receiving, guarded by it, has the
	// IDs of the volumes they arrive at.
	mu        sync.Mutex
	receiving map[string]bool
	lately    lately
}

var _ storage.Pool = (*Pool)(nil)

type poolFile struct {
	Version int `json:"version"`
}

// Create makes a pool of an empty folder of a Btrfs file system. A pool of ours is left as it is. Errors:
// volume.pool-unavailable (no Btrfs), volume.not-ours (the folder holds something).
func Create(root string) (*Pool, error) {
	if err := isBtrfs(root); err != nil {
		return nil, err
	}
	var mark poolFile
	if ok, err := readMark(root, poolMark, &mark); ok || err != nil {
		return open(root), err
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, open(root).unavailable(err)
	}
	for _, e := range entries {
		if e.Name() != liveDir && e.Name() != keptDir && e.Name() != incomingDir {
			return nil, storage.NotOurs(filepath.Join(root, e.Name()))
		}
	}
	for _, dir := range []string{liveDir, keptDir, incomingDir} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o711); err != nil {
			return nil, typed(err)
		}
	}
	if err := writeMark(root, poolMark, poolFile{Version: 1}); err != nil {
		return nil, err
	}
	return open(root), nil
}

// Open opens a pool that Create made. Errors: volume.pool-unavailable.
func Open(root string) (*Pool, error) {
	if err := isBtrfs(root); err != nil {
		return nil, err
	}
	var mark poolFile
	if ok, err := readMark(root, poolMark, &mark); !ok || err != nil {
		return nil, errors.Join(open(root).unavailable(errors.New("it has no mark of ours")), err)
	}
	return open(root), nil
}

func open(root string) *Pool { return &Pool{root: root, receiving: map[string]bool{}} }

// Look says whether a folder is on a Btrfs, with or without a pool. Errors: volume.pool-unavailable.
func Look(root string) error { return isBtrfs(root) }

func isBtrfs(root string) error {
	var st unix.Statfs_t
	err := unix.Statfs(root, &st)
	if err == nil && st.Type != unix.BTRFS_SUPER_MAGIC {
		err = errors.New("it is no Btrfs file system")
	}
	if err != nil {
		return open(root).unavailable(err)
	}
	return nil
}

func (p *Pool) unavailable(err error) error {
	return api.Errorf(api.CodeVolumePoolUnavailable, "the pool %s cannot be used: %w", p.root, err).
		WithHint("is it mounted? findmnt %s", p.root)
}

func (p *Pool) path(parts ...string) string {
	return filepath.Join(append([]string{p.root}, parts...)...)
}

// Capabilities implements storage.Pool. Btrfs has one snapshot at a time, and its streams begin at their
// beginning; clones own what they share.
func (p *Pool) Capabilities() storage.Capabilities { return storage.Capabilities{Backend: Backend} }

// Usage implements storage.Pool.
func (p *Pool) Usage(context.Context) (storage.Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(p.root, &st); err != nil {
		return storage.Usage{}, p.unavailable(err)
	}
	volumes, err := p.all()
	u := storage.Usage{Backend: Backend, Pool: p.root, SizeBytes: int64(st.Blocks) * st.Bsize, FreeBytes: int64(st.Bavail) * st.Bsize}
	for _, v := range volumes {
		u.PromisedBytes += v.SizeBytes
	}
	return u, err
}
