package storage

import (
	"context"
	"io"
	"sync"

	"github.com/ployz/ployz/node/api"
)

// Late is a pool that may not be there yet, or not any more: each call opens it unless it is open. While it cannot
// be opened, each answers why.
type Late struct {
	// OpenPool opens the pool. Errors: volume.pool-unavailable, volume.pool-absent.
	OpenPool func(ctx context.Context) (Pool, error)

	mu   sync.Mutex // guards pool, and is held while it is opened
	pool Pool
}

var _ Pool = (*Late)(nil)

// Open opens the pool. Errors: volume.pool-unavailable, volume.pool-absent.
func (l *Late) Open(ctx context.Context) (Pool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pool != nil {
		return l.pool, nil
	}
	p, err := l.OpenPool(ctx)
	if err == nil {
		l.pool = p
	}
	return p, err
}

// Reopen has the next call open the pool anew, as after it was made another.
func (l *Late) Reopen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pool = nil
}

// through makes a call that has a result.
func through[T any](ctx context.Context, l *Late, call func(Pool) (T, error)) (none T, err error) {
	p, err := l.Open(ctx)
	if err != nil {
		return none, err
	}
	value, err := call(p)
	return value, l.gone(ctx, err)
}

// gone forgets a pool that is not there any more, as after an unmount, and says why it cannot be opened again.
func (l *Late) gone(ctx context.Context, err error) error {
	if api.CodeOf(err) != api.CodeVolumePoolUnavailable {
		return err
	}
	l.Reopen()
	if _, why := l.Open(ctx); why != nil {
		return why
	}
	return err
}

// tell makes a call that has none.
func tell(ctx context.Context, l *Late, call func(Pool) error) error {
	p, err := l.Open(ctx)
	if err != nil {
		return err
	}
	return l.gone(ctx, call(p))
}

// Capabilities implements Pool; a pool that is not there can do nothing.
func (l *Late) Capabilities() Capabilities {
	p, err := l.Open(context.Background())
	if err != nil {
		return Capabilities{}
	}
	return p.Capabilities()
}

// Usage implements Pool.
func (l *Late) Usage(ctx context.Context) (Usage, error) {
	return through(ctx, l, func(p Pool) (Usage, error) { return p.Usage(ctx) })
}

// Ensure implements Volumes.
func (l *Late) Ensure(ctx context.Context, spec Spec) (Volume, error) {
	return through(ctx, l, func(p Pool) (Volume, error) { return p.Ensure(ctx, spec) })
}

// Inspect implements Volumes.
func (l *Late) Inspect(ctx context.Context, id string) (Volume, error) {
	return through(ctx, l, func(p Pool) (Volume, error) { return p.Inspect(ctx, id) })
}

// List implements Volumes.
func (l *Late) List(ctx context.Context) ([]Volume, error) {
	return through(ctx, l, func(p Pool) ([]Volume, error) { return p.List(ctx) })
}

// Destroy implements Volumes.
func (l *Late) Destroy(ctx context.Context, id string) error {
	return tell(ctx, l, func(p Pool) error { return p.Destroy(ctx, id) })
}

// Retire implements Places.
func (l *Late) Retire(ctx context.Context, id string) error {
	return tell(ctx, l, func(p Pool) error { return p.Retire(ctx, id) })
}

// Restore implements Places.
func (l *Late) Restore(ctx context.Context, id string) error {
	return tell(ctx, l, func(p Pool) error { return p.Restore(ctx, id) })
}

// Swap implements Places.
func (l *Late) Swap(ctx context.Context, out, in string) error {
	return tell(ctx, l, func(p Pool) error { return p.Swap(ctx, out, in) })
}

// Snapshot implements Snapshots.
func (l *Late) Snapshot(ctx context.Context, name string, ids ...string) ([]Snapshot, error) {
	return through(ctx, l, func(p Pool) ([]Snapshot, error) { return p.Snapshot(ctx, name, ids...) })
}

// ListSnapshots implements Snapshots.
func (l *Late) ListSnapshots(ctx context.Context, id string) ([]Snapshot, error) {
	return through(ctx, l, func(p Pool) ([]Snapshot, error) { return p.ListSnapshots(ctx, id) })
}

// Hold implements Snapshots.
func (l *Late) Hold(ctx context.Context, id, snapshot, tag string) error {
	return tell(ctx, l, func(p Pool) error { return p.Hold(ctx, id, snapshot, tag) })
}

// Release implements Snapshots.
func (l *Late) Release(ctx context.Context, id, snapshot, tag string) error {
	return tell(ctx, l, func(p Pool) error { return p.Release(ctx, id, snapshot, tag) })
}

// RenameSnapshot implements Snapshots.
func (l *Late) RenameSnapshot(ctx context.Context, id, from, to string) error {
	return tell(ctx, l, func(p Pool) error { return p.RenameSnapshot(ctx, id, from, to) })
}

// Forget implements Snapshots.
func (l *Late) Forget(ctx context.Context, id, snapshot string) error {
	return tell(ctx, l, func(p Pool) error { return p.Forget(ctx, id, snapshot) })
}

// Clone implements Snapshots.
func (l *Late) Clone(ctx context.Context, id, snapshot string, spec Spec, kept bool) (Volume, error) {
	return through(ctx, l, func(p Pool) (Volume, error) { return p.Clone(ctx, id, snapshot, spec, kept) })
}

// Promote implements Snapshots.
func (l *Late) Promote(ctx context.Context, id string) error {
	return tell(ctx, l, func(p Pool) error { return p.Promote(ctx, id) })
}

// Estimate implements Streams.
func (l *Late) Estimate(ctx context.Context, from From) (int64, error) {
	return through(ctx, l, func(p Pool) (int64, error) { return p.Estimate(ctx, from) })
}

// Written implements Streams.
func (l *Late) Written(ctx context.Context, id, base string) (int64, error) {
	return through(ctx, l, func(p Pool) (int64, error) { return p.Written(ctx, id, base) })
}

// Send implements Streams.
func (l *Late) Send(ctx context.Context, from From, w io.Writer) error {
	return tell(ctx, l, func(p Pool) error { return p.Send(ctx, from, w) })
}

// Receive implements Streams.
func (l *Late) Receive(ctx context.Context, as Spec, r io.Reader) (Snapshot, error) {
	return through(ctx, l, func(p Pool) (Snapshot, error) { return p.Receive(ctx, as, r) })
}

// Partial implements Streams.
func (l *Late) Partial(ctx context.Context, id string) (string, error) {
	return through(ctx, l, func(p Pool) (string, error) { return p.Partial(ctx, id) })
}

// Abandon implements Streams.
func (l *Late) Abandon(ctx context.Context, id string) error {
	return tell(ctx, l, func(p Pool) error { return p.Abandon(ctx, id) })
}
