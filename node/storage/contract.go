package storage

import (
	"context"
	"io"
)

// Pool keeps the volumes of one machine in one file system. Many goroutines may use one.
//
// Any call may answer volume.pool-unavailable (the pool is not there, or is not ours) and volume.pool-failed
// (the file system said what no other code says; the message has its words). A call about a volume or a
// snapshot that is not there answers volume.not-found or volume.snapshot-not-found.
type Pool interface {
	Volumes
	Places
	Snapshots
	Streams
	// Capabilities is what this pool can do, as probed when it was opened.
	Capabilities() Capabilities
	// Usage is the pool's space now.
	Usage(ctx context.Context) (Usage, error)
}

// Volumes makes, finds and destroys volumes.
type Volumes interface {
	// Ensure makes a live volume, or gives the one with this ID the size, owner and mode of the spec, and
	// makes sure that it is mounted. A volume that is not live is refused: Restore it. Errors:
	// volume.invalid, volume.name-taken, volume.no-space (the pool could never hold it), volume.shrink
	// (it holds more than that), volume.not-live.
	Ensure(ctx context.Context, spec Spec) (Volume, error)
	// Inspect observes one volume in any state.
	Inspect(ctx context.Context, id string) (Volume, error)
	// List observes every volume that carries our mark, by ID. One that cannot be looked at, or whose mark is
	// damaged, has a Problem, and stands in nobody's way.
	List(ctx context.Context) ([]Volume, error)
	// Destroy destroys a kept or incoming volume with its snapshots, for good; one that is gone is no
	// error. Errors: volume.not-kept, volume.in-use (it is mounted somewhere), volume.snapshot-needed
	// (a hold, or a clone, with their names).
	Destroy(ctx context.Context, id string) error
}

// Places is about which volume has a name. None of these looks at who uses a volume: the caller has stopped
// whoever writes, since a process that has a volume open goes on with that one, whatever it is called.
type Places interface {
	// Retire takes a live volume's name: it is kept, with its snapshots, until Restore or Destroy.
	// Errors: volume.in-use.
	Retire(ctx context.Context, id string) error
	// Restore gives a kept volume its name back. Errors: volume.name-taken.
	Restore(ctx context.Context, id string) error
	// Swap makes the live volume out kept and the kept volume in live, under the one name both have.
	// Once they have changed places it does nothing. Errors: volume.not-live, volume.not-kept, volume.invalid
	// (they have different names), volume.in-use.
	Swap(ctx context.Context, out, in string) error
}

// Snapshots is about moments of volumes, and volumes that begin at one.
type Snapshots interface {
	// Snapshot takes a snapshot of each of the volumes under one name: of all or of none, and of one moment
	// (see Capabilities.OneMoment). If all have it, it is not taken again. Errors: volume.invalid,
	// volume.snapshot-taken (some have it and some do not), volume.no-space.
	Snapshot(ctx context.Context, name string, ids ...string) ([]Snapshot, error)
	// ListSnapshots observes a volume's snapshots, oldest first.
	ListSnapshots(ctx context.Context, id string) ([]Snapshot, error)
	// Hold keeps a snapshot from being forgotten until the tag is released.
	Hold(ctx context.Context, id, snapshot, tag string) error
	// Release takes a tag away; one that is not there is no error.
	Release(ctx context.Context, id, snapshot, tag string) error
	// RenameSnapshot gives a snapshot another name. Its GUID, its holds and its place among the others stay. One that has
	// the new name already, and not the old one, is no error. No clone may have begun as it. Errors: volume.invalid,
	// volume.snapshot-taken (another one has the name).
	RenameSnapshot(ctx context.Context, id, from, to string) error
	// Forget destroys a snapshot; one that is gone is no error. Errors: volume.snapshot-needed.
	Forget(ctx context.Context, id, snapshot string) error
	// Clone makes a volume that begins as a snapshot: a live one, or, where kept is true, one that has no
	// name yet (for Swap). Its time does not depend on the size of the data. A volume that is there and
	// began as this snapshot is that clone. Errors: volume.invalid, volume.name-taken, volume.shrink.
	Clone(ctx context.Context, id, snapshot string, spec Spec, kept bool) (Volume, error)
	// Promote makes a clone a volume of its own, so that its origin may be destroyed. Where clones depend
	// on their origin, the snapshots up to and including it become the clone's.
	Promote(ctx context.Context, id string) error
}

// Streams carries volumes to other pools, snapshot by snapshot.
type Streams interface {
	// Estimate is the size in bytes of the stream that Send would write, within some per cent. Errors:
	// volume.stream-damaged (what From.Resume would go on with is the stream of another snapshot).
	Estimate(ctx context.Context, from From) (int64, error)
	// Written is about the size in bytes of the stream from the base if its snapshot were taken now, when all that is in
	// memory has been written out. Somebody may write meanwhile. Errors: volume.base-missing.
	Written(ctx context.Context, id, base string) (int64, error)
	// Send writes a header and the backend's own stream. Errors: volume.base-missing (this pool does not
	// have it), and the writer's.
	Send(ctx context.Context, from From, w io.Writer) error
	// Receive reads what Send wrote, until its end. The first stream makes a kept volume with the ID and
	// names of as; later ones add a snapshot to it. A stream whose snapshot is already here is read to
	// its end and nothing changes. A broken one leaves either nothing or what Partial tells.
	// Errors: volume.stream-foreign (another backend's), volume.base-missing (this pool does not have it,
	// or the volume was written since), volume.stream-damaged, volume.no-space, volume.name-taken (the ID
	// is another volume's).
	Receive(ctx context.Context, as Spec, r io.Reader) (Snapshot, error)
	// Partial is what From.Resume needs to go on with a broken stream; "" where there is none, or where
	// the pool cannot.
	Partial(ctx context.Context, id string) (string, error)
	// Abandon forgets a broken stream. A volume of which no stream was ever whole goes with it.
	Abandon(ctx context.Context, id string) error
}

// From says what a stream holds.
type From struct {
	// Volume and Snapshot are what arrives.
	Volume   string
	Snapshot string
	// Base is a snapshot of the same volume that the other side has; "" sends all.
	Base string
	// Resume is what the other side's Partial said; "" begins at the beginning.
	Resume string
}
