package transfer

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// Desk is a machine's part in carrying volumes. It implements storage.Carrier; what arrives at the machine's door
// for it comes in by Answer.
type Desk struct {
	// Pool is the machine's; nil where it has none.
	Pool storage.Pool
	// Dial connects to the desk of the machine with that id, which Answer takes there.
	Dial func(ctx context.Context, machine, operation, volume string) (io.ReadWriteCloser, error)

	mu     sync.Mutex
	offers map[string]*offer // guarded by mu; by volume
}

var _ storage.Carrier = (*Desk)(nil)

// offer is one with what goes out by it.
type offer struct {
	storage.Offer
	ended context.Context
	end   context.CancelCauseFunc
}

func (d *Desk) pool() (storage.Pool, error) {
	if d.Pool == nil {
		return nil, api.Errorf(api.CodeVolumePoolUnavailable, "this machine has no pool for volumes").WithHint("ployzctl doctor")
	}
	return d.Pool, nil
}

// Offer implements storage.Carrier. An offer is only known in memory: one that is lost is made again, and one that
// nobody makes again is gone with the daemon.
func (d *Desk) Offer(ctx context.Context, o storage.Offer) error {
	pool, err := d.pool()
	if err != nil {
		return err
	}
	all, err := pool.ListSnapshots(ctx, o.Volume)
	if err != nil {
		return err
	}
	if _, err := choose(all, nil, o.Snapshot, o.Every); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if before := d.offers[o.Volume]; before != nil {
		if before.Offer == o {
			return nil
		}
		before.end(storage.NotOffered(o.Volume, "another offer took its place"))
	}
	if d.offers == nil {
		d.offers = map[string]*offer{}
	}
	ended, end := context.WithCancelCause(context.Background())
	d.offers[o.Volume] = &offer{Offer: o, ended: ended, end: end}
	return nil
}

// Withdraw implements storage.Carrier.
func (d *Desk) Withdraw(_ context.Context, operation, volume string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if o := d.offers[volume]; o != nil && o.Operation == operation {
		o.end(storage.NotOffered(volume, "the offer was withdrawn"))
		delete(d.offers, volume)
	}
	return nil
}

// Check refuses a machine to which a volume is not offered. Errors: volume.not-offered.
func (d *Desk) Check(machine, operation, volume string) error {
	_, err := d.find(machine, operation, volume)
	return err
}

func (d *Desk) find(machine, operation, volume string) (*offer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.offers[volume]
	switch {
	case o == nil:
		return nil, storage.NotOffered(volume, "nobody has offered it since ployzd started")
	case o.Operation != operation:
		return nil, storage.NotOffered(volume, fmt.Sprintf("it is, but by the operation %s", o.Operation))
	case o.To != machine:
		return nil, storage.NotOffered(volume, "it is, but to another machine")
	}
	return o, nil
}

// Answer sends what is offered to the machine at the other end of conn, and closes conn. Who that is, the caller has
// made sure of. Errors: volume.not-offered, and those of Send.
func (d *Desk) Answer(ctx context.Context, machine, operation, volume string, conn io.ReadWriteCloser) (storage.Carried, error) {
	o, err := d.find(machine, operation, volume)
	if err != nil {
		conn.Close()
		return storage.Carried{}, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(o.ended, func() { stop(context.Cause(o.ended)) })()
	return Send(ctx, conn, Outgoing{
		Pool: d.Pool, Volume: o.Volume, Snapshot: o.Snapshot, Every: o.Every, BytesPerSecond: o.BytesPerSecond, Unmeasured: o.Unmeasured,
	})
}

// Fetch implements storage.Carrier.
func (d *Desk) Fetch(ctx context.Context, f storage.Fetch, progress func(storage.Progress)) (storage.Carried, error) {
	pool, err := d.pool()
	if err != nil {
		return storage.Carried{}, err
	}
	if err := f.As.Check(); err != nil {
		return storage.Carried{}, err
	}
	conn, err := d.Dial(ctx, f.From, f.Operation, f.As.ID)
	if err != nil {
		return storage.Carried{}, err
	}
	return Receive(ctx, conn, Incoming{Pool: pool, As: f.As, Snapshot: f.Snapshot, Progress: progress})
}
