package deploy

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/storage"
)

// The verbs by which machines are had to carry volumes.
const (
	verbOfferVolume    = "volume.offer"
	verbWithdrawVolume = "volume.withdraw"
	verbFetchVolume    = "volume.fetch"
	verbSnapshotFor    = "volume.snapshot"
	verbWrittenFor     = "volume.written"
	verbForgetFor      = "volume.forget"
)

// Carrier is a machine's part in carrying volumes on behalf of an operation; it obeys no older fence than the newest
// that it has seen. Errors: operation.lease-lost, and those of storage.Carrier.
type Carrier interface {
	// OfferVolume lets another machine fetch a volume from this one. It is never remembered as done: whoever
	// repeats it has found that the machine forgot it.
	OfferVolume(ctx context.Context, by Fenced, o storage.Offer) error
	// WithdrawVolume ends the operation's offer of a volume.
	WithdrawVolume(ctx context.Context, by Fenced, volume string) error
	// FetchVolume has the machine fetch a volume from another one; it ends with ctx, and when another
	// coordinator takes the scope over. Repeat it after a volume.transfer-cut. From another machine an error comes
	// without what was carried before it.
	FetchVolume(ctx context.Context, by Fenced, f storage.Fetch, progress func(storage.Progress)) (storage.Carried, error)
	// SnapshotVolumes takes a snapshot of each, held for the operation.
	SnapshotVolumes(ctx context.Context, by Fenced, name string, volumes ...string) ([]storage.Snapshot, error)
	// WrittenVolume is how much was written to a volume since a snapshot. It changes nothing.
	WrittenVolume(ctx context.Context, volume, base string) (int64, error)
	// ForgetSnapshots ends the operation's offer of a volume, its holds on it, and its snapshots but for the one to keep.
	ForgetSnapshots(ctx context.Context, by Fenced, volume, keep string) error
}

// Carriers finds machines by name, as what carries volumes.
type Carriers interface {
	// Carrier returns a machine's part in carrying volumes. It does not ask whether the machine is there: what is asked
	// of the part does. Errors: deploy.machine-silent (no member has that name).
	Carrier(ctx context.Context, machine string) (Carrier, error)
}

// LocalCarrier is the part of the machine that this process runs on.
type LocalCarrier struct {
	Carrier storage.Carrier
	Fences  *coordination.Fences
}

var _ Carrier = LocalCarrier{}

// OfferVolume implements Carrier.
func (l LocalCarrier) OfferVolume(ctx context.Context, by Fenced, o storage.Offer) error {
	if err := l.Fences.Admit(by.Scope, by.Fence); err != nil {
		return err
	}
	o.Operation = by.Operation
	return l.Carrier.Offer(ctx, o)
}

// WithdrawVolume implements Carrier.
func (l LocalCarrier) WithdrawVolume(ctx context.Context, by Fenced, volume string) error {
	if err := l.Fences.Admit(by.Scope, by.Fence); err != nil {
		return err
	}
	return l.Carrier.Withdraw(ctx, by.Operation, volume)
}

// FetchVolume implements Carrier.
func (l LocalCarrier) FetchVolume(ctx context.Context, by Fenced, f storage.Fetch, progress func(storage.Progress)) (storage.Carried, error) {
	if err := l.Fences.Admit(by.Scope, by.Fence); err != nil {
		return storage.Carried{}, err
	}
	f.Operation = by.Operation
	return l.Carrier.Fetch(ctx, f, progress)
}

// SnapshotVolumes implements Carrier.
func (l LocalCarrier) SnapshotVolumes(ctx context.Context, by Fenced, name string, volumes ...string) ([]storage.Snapshot, error) {
	if err := l.Fences.Admit(by.Scope, by.Fence); err != nil {
		return nil, err
	}
	return l.Carrier.SnapshotFor(ctx, by.Operation, name, volumes...)
}

// WrittenVolume implements Carrier.
func (l LocalCarrier) WrittenVolume(ctx context.Context, volume, base string) (int64, error) {
	return l.Carrier.WrittenFor(ctx, volume, base)
}

// ForgetSnapshots implements Carrier.
func (l LocalCarrier) ForgetSnapshots(ctx context.Context, by Fenced, volume, keep string) error {
	if err := l.Fences.Admit(by.Scope, by.Fence); err != nil {
		return err
	}
	return l.Carrier.ForgetFor(ctx, by.Operation, volume, keep)
}

// RemoteCarrier is another machine's part, over the bus; ServeCarrier answers for it there. Besides what a Carrier
// returns: the errors of coordination.Caller.
type RemoteCarrier struct {
	// Machine is the machine's id.
	Machine string
	Caller  coordination.Caller
}

var _ Carrier = RemoteCarrier{}

// fetchTime is what a fetch gets where the caller has set no nearer end: a machine that is lost shows by its
// silence, long before.
const fetchTime = 7 * 24 * time.Hour

// OfferVolume implements Carrier.
func (r RemoteCarrier) OfferVolume(ctx context.Context, by Fenced, o storage.Offer) error {
	return r.remote().ask(ctx, by, verbOfferVolume, o, nil, nil)
}

// WithdrawVolume implements Carrier.
func (r RemoteCarrier) WithdrawVolume(ctx context.Context, by Fenced, volume string) error {
	return r.remote().ask(ctx, by, verbWithdrawVolume, volume, nil, nil)
}

// FetchVolume implements Carrier.
func (r RemoteCarrier) FetchVolume(ctx context.Context, by Fenced, f storage.Fetch, progress func(storage.Progress)) (storage.Carried, error) {
	ctx, stop := context.WithTimeout(ctx, fetchTime)
	defer stop()
	var got storage.Carried
	err := r.remote().ask(ctx, by, verbFetchVolume, f, &got, func(body json.RawMessage) {
		var p storage.Progress
		if json.Unmarshal(body, &p) == nil && progress != nil {
			progress(p)
		}
	})
	return got, err
}

// What travels where a call has more than one argument.
type (
	snapshotOrder struct {
		Name    string   `json:"name"`
		Volumes []string `json:"volumes"`
	}
	writtenSince struct {
		Volume string `json:"volume"`
		Base   string `json:"base"`
	}
	forgetOrder struct {
		Volume string `json:"volume"`
		Keep   string `json:"keep,omitempty"`
	}
)

// SnapshotVolumes implements Carrier.
func (r RemoteCarrier) SnapshotVolumes(ctx context.Context, by Fenced, name string, volumes ...string) (taken []storage.Snapshot, err error) {
	err = r.remote().ask(ctx, by, verbSnapshotFor, snapshotOrder{name, volumes}, &taken, nil)
	return taken, err
}

// WrittenVolume implements Carrier.
func (r RemoteCarrier) WrittenVolume(ctx context.Context, volume, base string) (bytes int64, err error) {
	err = r.remote().ask(ctx, Fenced{}, verbWrittenFor, writtenSince{volume, base}, &bytes, nil)
	return bytes, err
}

// ForgetSnapshots implements Carrier.
func (r RemoteCarrier) ForgetSnapshots(ctx context.Context, by Fenced, volume, keep string) error {
	return r.remote().ask(ctx, by, verbForgetFor, forgetOrder{volume, keep}, nil, nil)
}

func (r RemoteCarrier) remote() *Remote { return &Remote{Machine: r.Machine, Caller: r.Caller} }

// ServeCarrier is how a machine answers the commands of RemoteCarrier.
func ServeCarrier(c Carrier) map[string]coordination.Verb {
	return map[string]coordination.Verb{
		// These do not count as acting, since an acting command that is repeated is not done again: what a restarted
		// daemon forgot must be told anew. The fence is looked at all the same.
		verbOfferVolume: serve(false, func(ctx context.Context, by call, o storage.Offer) (nothing, error) {
			return nothing{}, c.OfferVolume(ctx, by.by, o)
		}),
		verbWithdrawVolume: serve(false, func(ctx context.Context, by call, volume string) (nothing, error) {
			return nothing{}, c.WithdrawVolume(ctx, by.by, volume)
		}),
		verbSnapshotFor: serve(true, func(ctx context.Context, by call, o snapshotOrder) ([]storage.Snapshot, error) {
			return c.SnapshotVolumes(ctx, by.by, o.Name, o.Volumes...)
		}),
		verbWrittenFor: serve(false, func(ctx context.Context, _ call, w writtenSince) (int64, error) {
			return c.WrittenVolume(ctx, w.Volume, w.Base)
		}),
		verbForgetFor: serve(true, func(ctx context.Context, by call, o forgetOrder) (nothing, error) {
			return nothing{}, c.ForgetSnapshots(ctx, by.by, o.Volume, o.Keep)
		}),
		verbFetchVolume: serve(true, func(ctx context.Context, by call, f storage.Fetch) (storage.Carried, error) {
			return c.FetchVolume(ctx, by.by, f, func(p storage.Progress) {
				if body, err := json.Marshal(p); err == nil {
					by.progress(body)
				}
			})
		}),
	}
}
