package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
)

// Carrier is one machine's part in carrying volumes from machine to machine. An operation has the machine that
// has a volume offer it, and then the one that is to have it fetch it.
type Carrier interface {
	// Offer lets one other machine fetch a volume's snapshot from this one, until Withdraw, another offer of
	// the volume, or the end of the daemon: it is safe to repeat, and to be repeated after a restart. The
	// caller holds the snapshot, and the base that the other machine has. Errors: volume.not-found,
	// volume.snapshot-not-found.
	Offer(ctx context.Context, o Offer) error
	// Withdraw ends an offer of the operation, and the stream that goes out by it; one that is gone is no error.
	Withdraw(ctx context.Context, operation, volume string) error
	// Fetch makes this machine have a snapshot that another one offers, as a kept volume, or finds that it
	// has it. Repeated after a break it goes on from the last snapshot that is whole, or from where it
	// broke if both pools can. progress (nil is nobody) is called from one goroutine. Carried tells what was
	// whole also where there is an error.
	//
	// Refused before anything moves: volume.not-offered, volume.stream-foreign, volume.no-space,
	// volume.name-taken, volume.not-kept, volume.base-missing (the copy here went another way), volume.in-use
	// (another stream of it arrives). Meanwhile: volume.transfer-cut (the other machine, or the link to it),
	// volume.stream-damaged, volume.no-space, and the other pool's own.
	Fetch(ctx context.Context, f Fetch, progress func(Progress)) (Carried, error)
	// SnapshotFor takes a snapshot of each volume as Snapshots.Snapshot does, and holds them for the operation.
	SnapshotFor(ctx context.Context, operation, name string, volumes ...string) ([]Snapshot, error)
	// WrittenFor is how much was written to a volume since a snapshot, as Streams.Written has it.
	WrittenFor(ctx context.Context, volume, base string) (int64, error)
	// ForgetFor ends what the operation offers and holds of a volume, and forgets the snapshots that SnapshotFor took for
	// it, here or where they came from, but for the one to keep ("" is none). A volume that is not here is no
	// error. Errors: volume.snapshot-needed (somebody else holds one; the others are gone).
	ForgetFor(ctx context.Context, operation, volume, keep string) error
}

// OperationSnapshot names a snapshot that an operation takes for itself: its nth.
func OperationSnapshot(operation string, n int) string {
	return fmt.Sprintf("%s%d", ofOperation(operation), n)
}

func ofOperation(operation string) string { return "op-" + operation + "-" }

// IsOperationSnapshot reports whether a snapshot is one that the operation took for itself.
func IsOperationSnapshot(operation, name string) bool {
	return strings.HasPrefix(name, ofOperation(operation))
}

// SnapshotOperation is the operation that took a snapshot for itself, or "".
func SnapshotOperation(name string) string {
	rest, found := strings.CutPrefix(name, "op-")
	end := strings.LastIndexByte(rest, '-')
	if !found || end < 0 {
		return ""
	}
	return rest[:end]
}

// NewestShared is the name of the last of a volume's own snapshots that another machine has, by GUIDs; "" where it has none.
func NewestShared(own []Snapshot, have []string) string {
	for _, s := range slices.Backward(own) {
		if slices.Contains(have, s.GUID) {
			return s.Name
		}
	}
	return ""
}

// Offer names what a machine may fetch from this one.
type Offer struct {
	// Operation is on whose behalf.
	Operation string `json:"operation"`
	// Volume and Snapshot are what is offered, To the id of the machine that may have it.
	Volume   string `json:"volume"`
	Snapshot string `json:"snapshot"`
	To       string `json:"to"`
	// Every sends each snapshot that follows what the other machine has, so that it could be rolled back there as
	// here; else it gets Snapshot alone.
	Every bool `json:"every,omitempty"`
	// BytesPerSecond is the most that is sent; 0 is no limit.
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"`
	// Unmeasured sends without an estimate of how much it is: where there is little, and somebody waits for it. That a
	// pool is too full for it then shows as it fills.
	Unmeasured bool `json:"unmeasured,omitempty"`
}

// Fetch names what a machine is to have.
type Fetch struct {
	Operation string `json:"operation"`
	// From is the id of the machine that offers it.
	From string `json:"from"`
	// As is the volume as it is to be here; its ID is the one that it has there.
	As Spec `json:"as"`
	// Snapshot is the one that is expected.
	Snapshot string `json:"snapshot"`
}

// Progress is how far a transfer is.
type Progress struct {
	// Bytes have passed, of about TotalBytes.
	Bytes      int64 `json:"bytes"`
	TotalBytes int64 `json:"totalBytes"`
	// BytesPerSecond is the rate of the last seconds, Left what the rest takes at it; 0 while that is not known.
	BytesPerSecond int64         `json:"bytesPerSecond,omitempty"`
	Left           time.Duration `json:"left,omitempty"`
}

// Carried is the evidence of a transfer: what both sides have agreed on.
type Carried struct {
	Volume string `json:"volume"`
	// Snapshot is the last that is whole on both sides, GUID the same on both; "" where none is yet.
	Snapshot string `json:"snapshot,omitempty"`
	GUID     string `json:"guid,omitempty"`
	// Streams are those that were sent now, in their order; none where everything was there.
	Streams []CarriedStream `json:"streams,omitempty"`
	// Bytes is the sum of them, Took the time from the go-ahead to the last agreement, and Flowing the part of it in
	// which bytes passed: the rest does not grow with them.
	Bytes   int64         `json:"bytes"`
	Took    time.Duration `json:"took"`
	Flowing time.Duration `json:"flowing"`
}

// CarriedStream is one snapshot's way.
type CarriedStream struct {
	Snapshot string `json:"snapshot"`
	GUID     string `json:"guid"`
	// BaseGUID is what it was sent on top of; "" in full.
	BaseGUID string        `json:"baseGuid,omitempty"`
	Bytes    int64         `json:"bytes"`
	Took     time.Duration `json:"took"`
	Flowing  time.Duration `json:"flowing"`
	// Resumed says that it went on with one that broke, and Bytes are only the rest.
	Resumed bool `json:"resumed,omitempty"`
}

// StreamForeign says that pools of two kinds cannot exchange streams, and what can.
func StreamForeign(from, to string) error {
	return api.Errorf(api.CodeVolumeStreamForeign, "a stream of %s cannot be received into a pool of %s", from, to).
		WithHint("choose a machine whose pool is of %s too (ployzctl volume ls), or copy the files into a volume there: ployzctl exec SERVICE -- tar -c FOLDER | ployzctl exec -i SERVICE -- tar -x -C /", from)
}

// TransferCut says that the other side of a transfer, or the link to it, is gone.
func TransferCut(cause error) error {
	return api.Errorf(api.CodeVolumeTransferCut, "the transfer broke off: %w", cause).Again().
		WithHint("what arrived whole stays; repeat the command, and it goes on from there")
}

// NotOffered says that a machine has no leave to fetch a volume.
func NotOffered(volume, why string) error {
	return api.Errorf(api.CodeVolumeNotOffered, "the volume %s is not offered: %s", volume, why).About(volume).Again().
		WithHint("repeat the command: the machine that has it forgets its offers when ployzd starts")
}

// CheckRoom refuses a transfer that the pool could not hold: the streams of about that many bytes, and the
// volume's size where it is not here yet. Errors: volume.no-space.
func CheckRoom(u Usage, as Spec, streamBytes int64, isHere bool) error {
	if streamBytes > u.FreeBytes {
		return noRoom(u, as, fmt.Sprintf("about %s would arrive", SizeText(streamBytes)))
	}
	if !isHere && as.SizeBytes > u.FreeBytes {
		return noRoom(u, as, fmt.Sprintf("it may grow to %s", SizeText(as.SizeBytes)))
	}
	return nil
}

// RanFull adds the sizes to a pool's own words when a transfer filled it.
func RanFull(u Usage, as Spec, arrived, expected int64, cause error) error {
	return noRoom(u, as, fmt.Sprintf("%s of about %s had arrived: %s", SizeText(arrived), SizeText(expected), api.AsError(cause).Message))
}

func noRoom(u Usage, as Spec, why string) error {
	return api.Errorf(api.CodeVolumeNoSpace, "%s, and the pool %s has %s free of %s", why, u.Pool, SizeText(u.FreeBytes), SizeText(u.SizeBytes)).
		About(as.FullName()).WithHint("destroy there what was removed (ployzctl volume prune), or choose another machine")
}
