package zfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"

	gozfs "github.com/mistifyio/go-zfs/v3"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// Backend is the name of this backend in headers, usage and refusals.
const Backend = "zfs"

// Pool is a dataset of a ZFS pool that holds volumes. It implements storage.Pool.
type Pool struct {
	// base is the dataset, mounts the folder that live volumes are mounted under.
	base, mounts string
	// mu is held while volumes change places. Streams do not hold it; receiving, guarded by it, has the
	// IDs of the volumes they arrive at.
	mu        sync.Mutex
	receiving map[string]bool

	seenMu sync.Mutex
	seen   map[string]string // guarded by seenMu; by ID, the dataset as which a volume was last seen, looked at before it is believed
}

var _ storage.Pool = (*Pool)(nil)

// Create makes the dataset POOL/ployz in a ZFS pool or below a dataset, for volumes that are mounted under a folder. One of ours
// is left as it is. Errors: volume.pool-unavailable (no such pool, or no OpenZFS 2), volume.not-ours.
func Create(ctx context.Context, pool, mounts string) (*Pool, error) {
	p := open(pool, mounts)
	if err := probe(ctx); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(mounts, 0o711); err != nil {
		return nil, typed(err)
	}
	if _, err := gozfs.GetDataset(p.base); err != nil {
		// Access times would be writes, and a volume that was written takes no increments.
		_, err := gozfs.CreateFilesystem(p.base, map[string]string{"mountpoint": "legacy", "atime": "off", "xattr": "sa", "compression": "lz4", poolProperty: "1"})
		if err != nil {
			return nil, p.unavailable(done(err))
		}
	}
	pic, err := p.look(ctx)
	if err != nil {
		return nil, err
	}
	if root, _ := pic.get(p.base); !root.own[poolProperty] {
		return nil, storage.NotOurs(p.base)
	}
	for _, place := range []string{liveDir, keptDir, incomingDir} {
		if _, there := pic.get(p.dataset(place)); !there {
			if _, err := gozfs.CreateFilesystem(p.dataset(place), map[string]string{"canmount": "off"}); err != nil {
				return nil, done(err)
			}
		}
	}
	return p, nil
}

// Open opens a pool that Create made. Errors: volume.pool-unavailable.
func Open(ctx context.Context, pool, mounts string) (*Pool, error) {
	p := open(pool, mounts)
	if err := probe(ctx); err != nil {
		return nil, err
	}
	pic, err := p.look(ctx)
	if err != nil {
		return nil, err
	}
	if root, _ := pic.get(p.base); !root.own[poolProperty] {
		return nil, p.unavailable(errors.New("it has no mark of ours"))
	}
	return p, nil
}

// MountAll mounts every live volume that is not mounted, as at boot. One that cannot be is named in the error, and
// the others are mounted all the same.
func (p *Pool) MountAll(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pic, err := p.look(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, f := range pic.volumes() {
		if f.state != storage.StateLive {
			continue
		}
		err := f.damaged
		if err == nil {
			err = p.mount(f.name, f.Spec)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", f.FullName(), err))
		}
	}
	return errors.Join(failed...)
}

// open knows the dataset by a pool or dataset above it, or by its own name.
func open(pool, mounts string) *Pool {
	return &Pool{base: strings.TrimSuffix(pool, "/ployz") + "/ployz", mounts: mounts, receiving: map[string]bool{}, seen: map[string]string{}}
}

// Look says whether there is OpenZFS 2 here with that pool or dataset. Errors: volume.pool-unavailable.
func Look(ctx context.Context, pool string) error {
	if err := probe(ctx); err != nil {
		return err
	}
	if _, err := gozfs.GetDataset(strings.TrimSuffix(pool, "/ployz")); err != nil {
		return open(pool, "").unavailable(done(err))
	}
	return nil
}

var version = regexp.MustCompile(`zfs-kmod-(\d+)\.`)

// probe refuses what is not OpenZFS 2 or later, whose resumable receive, snapshots of several datasets and
// properties this package relies on.
func probe(ctx context.Context) error {
	out, err := zfs(ctx, "version")
	if err != nil {
		return api.Errorf(api.CodeVolumePoolUnavailable, "this machine has no ZFS: %w", err).WithHint("install OpenZFS 2, or use Btrfs")
	}
	if m := version.FindStringSubmatch(out); m == nil || m[1] < "2" && len(m[1]) == 1 {
		return api.Errorf(api.CodeVolumePoolUnavailable, "OpenZFS 2 is needed; zfs version says %q", out).WithHint("install OpenZFS 2, or use Btrfs")
	}
	return nil
}

func (p *Pool) dataset(parts ...string) string {
	return strings.Join(append([]string{p.base}, parts...), "/")
}

func (p *Pool) unavailable(err error) error {
	return api.Errorf(api.CodeVolumePoolUnavailable, "the pool %s cannot be used: %w", p.base, err).
		WithHint("is it imported and sound? zpool status")
}

// Capabilities implements storage.Pool.
func (p *Pool) Capabilities() storage.Capabilities {
	return storage.Capabilities{Backend: Backend, OneMoment: true, Resume: true, ClonesDepend: true}
}

// Usage implements storage.Pool.
func (p *Pool) Usage(ctx context.Context) (storage.Usage, error) {
	pic, err := p.look(ctx)
	if err != nil {
		return storage.Usage{}, err
	}
	return p.usage(ctx, pic)
}

func (p *Pool) usage(ctx context.Context, pic picture) (storage.Usage, error) {
	pool, _, _ := strings.Cut(p.base, "/")
	out, err := zfs(ctx, "get", "-Hp", "-o", "value", "used,available", pool)
	if err != nil {
		return storage.Usage{}, p.unavailable(err)
	}
	used, available, _ := strings.Cut(strings.TrimSpace(out), "\n")
	u := storage.Usage{Backend: Backend, Pool: p.base}
	var e1, e2 error
	u.SizeBytes, e1 = strconv.ParseInt(used, 10, 64)
	u.FreeBytes, e2 = strconv.ParseInt(available, 10, 64)
	u.SizeBytes += u.FreeBytes
	if err := errors.Join(e1, e2); err != nil {
		return u, api.Errorf(api.CodeVolumePoolFailed, "zfs get printed %q", out)
	}
	for _, v := range pic.volumes() {
		u.PromisedBytes += v.SizeBytes
	}
	return u, nil
}
