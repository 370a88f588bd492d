package mempool

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ployz/ployz/node/storage"
)

// Backend is the name of this backend.
const Backend = "memory"

// SizeBytes is what a pool says that it can hold.
const SizeBytes = 1 << 40

// Pool implements storage.Pool in memory. Safe for concurrent use.
type Pool struct {
	root string
	// Users, when set, says who has a live or kept volume mounted; "" is nobody. It must be set before the first call.
	Users func(id string) string
	// ClonesDepend makes it like the file systems whose snapshots cannot go before what began as them. Set it before
	// the first call.
	ClonesDepend bool
	// Apart makes it like the file systems whose snapshots of several volumes are not of one moment. Likewise.
	Apart bool

	mu      sync.Mutex
	volumes map[string]*volume // guarded by mu
	used    map[string]int64   // guarded by mu
}

type volume struct {
	storage.Mark
	state     storage.State
	promoted  bool
	snapshots []*storage.Snapshot
	// text is what Write said; texts are that of the snapshots, by name.
	text  string
	texts map[string]string
}

var _ storage.Pool = (*Pool)(nil)

// New returns a pool without volumes. root is a folder for their files, or "" for none.
func New(root string) *Pool {
	return &Pool{root: root, volumes: map[string]*volume{}, used: map[string]int64{}}
}

// SetUsed says how much a volume holds, in a pool without a root.
func (p *Pool) SetUsed(id string, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[id] = bytes
}

// World is every volume and snapshot as text, sorted.
func (p *Pool) World() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lines []string
	for _, v := range p.volumes {
		lines = append(lines, fmt.Sprintf("volume %s %s %s size=%d owner=%v mode=%v", v.FullName(), v.ID, v.state, v.SizeBytes, v.Owner, v.Mode))
		for _, s := range v.snapshots {
			lines = append(lines, fmt.Sprintf("snapshot %s %s %s %v", v.FullName(), v.ID, s.Name, s.Holds))
		}
	}
	slices.Sort(lines)
	return lines
}

// Capabilities implements storage.Pool.
func (p *Pool) Capabilities() storage.Capabilities {
	return storage.Capabilities{Backend: Backend, OneMoment: !p.Apart, ClonesDepend: p.ClonesDepend}
}

// Usage implements storage.Pool.
func (p *Pool) Usage(context.Context) (storage.Usage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.usageLocked(), nil
}

func (p *Pool) usageLocked() storage.Usage {
	u := storage.Usage{Backend: Backend, Pool: "memory", SizeBytes: SizeBytes, FreeBytes: SizeBytes}
	for _, v := range p.volumes {
		u.PromisedBytes += v.SizeBytes
		u.FreeBytes -= p.usedLocked(v)
	}
	return u
}

func (p *Pool) findLocked(id string) (*volume, error) {
	if v := p.volumes[id]; v != nil {
		return v, nil
	}
	return nil, storage.NotFound("memory", id)
}

// liveLocked is the volume that has a name, or nil.
func (p *Pool) liveLocked(s storage.Spec) *volume {
	for _, v := range p.volumes {
		if v.state == storage.StateLive && v.FullName() == s.FullName() {
			return v
		}
	}
	return nil
}

func (p *Pool) observeLocked(v *volume) storage.Volume {
	o := storage.Volume{Spec: v.Spec, State: v.state, Origin: v.Origin, Created: v.Created, UsedBytes: p.usedLocked(v), OwnBytes: p.usedLocked(v)}
	if v.state == storage.StateLive {
		o.Path = p.livePath(v.Spec)
	}
	return o
}

// Ensure implements storage.Volumes.
func (p *Pool) Ensure(_ context.Context, spec storage.Spec) (storage.Volume, error) {
	if err := spec.Check(); err != nil {
		return storage.Volume{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := storage.CheckSpace(p.usageLocked(), spec); err != nil {
		return storage.Volume{}, err
	}
	v := p.volumes[spec.ID]
	if v == nil {
		return p.makeLocked(spec)
	}
	if err := storage.CheckState(v.Spec, v.state, storage.StateLive); err != nil {
		return storage.Volume{}, err
	}
	if v.FullName() != spec.FullName() {
		return storage.Volume{}, storage.NameTaken(v.Spec)
	}
	if err := storage.CheckShrink(spec, p.usedLocked(v)); err != nil {
		return storage.Volume{}, err
	}
	v.Spec = spec
	return p.observeLocked(v), p.own(spec)
}

func (p *Pool) makeLocked(spec storage.Spec) (storage.Volume, error) {
	if other := p.liveLocked(spec); other != nil {
		return storage.Volume{}, storage.NameTaken(other.Spec)
	}
	v := &volume{Mark: storage.Mark{Spec: spec, Created: time.Now().UTC()}, state: storage.StateLive}
	if err := p.makeFolder(p.folder(v)); err != nil {
		return storage.Volume{}, err
	}
	p.volumes[spec.ID] = v
	return p.observeLocked(v), p.own(spec)
}

// Inspect implements storage.Volumes.
func (p *Pool) Inspect(_ context.Context, id string) (storage.Volume, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.findLocked(id)
	if err != nil {
		return storage.Volume{}, err
	}
	return p.observeLocked(v), nil
}

// List implements storage.Volumes.
func (p *Pool) List(context.Context) ([]storage.Volume, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []storage.Volume
	for _, id := range slices.Sorted(maps.Keys(p.volumes)) {
		all = append(all, p.observeLocked(p.volumes[id]))
	}
	return all, nil
}

// Destroy implements storage.Volumes.
func (p *Pool) Destroy(_ context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.volumes[id]
	if v == nil {
		return nil
	}
	if v.state == storage.StateLive {
		return storage.CheckState(v.Spec, v.state, storage.StateKept)
	}
	if p.Users != nil {
		if by := p.Users(id); by != "" {
			return storage.InUse(v.Spec, by)
		}
	}
	for _, s := range v.snapshots {
		if one := p.seenLocked(s); len(one.Holds)+len(one.Clones) > 0 {
			return storage.SnapshotNeeded(one)
		}
	}
	delete(p.volumes, id)
	return p.removeFolders(v)
}
