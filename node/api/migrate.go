package api

import "time"

// MigrateRequest moves the volumes of a namespace, and with them who mounts them, to another machine.
type MigrateRequest struct {
	Namespace string `json:"namespace"`
	// Service, when set, is whose volumes move; "" is all of the namespace that are on From.
	Service string `json:"service,omitempty"`
	// From, when set, is the machine whose volumes move; "" is wherever those of the service are, which is one machine.
	From string `json:"from,omitempty"`
	// To is the machine that is to have them.
	To string `json:"to"`
	// MaxStop is the longest stop that is allowed; 0 takes the shortest that can be had.
	MaxStop Duration `json:"maxStop,omitempty"`
	// Hold lets the gateways hold requests to what is stopped, instead of refusing them.
	Hold bool `json:"hold,omitempty"`
	// BytesPerSecond is the most that is sent before the stop; 0 is no limit.
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"`
}

// VolumeMove is the evidence of one volume's way from one machine to another. It is in the commit.
type VolumeMove struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Snapshot is the last that both machines have, and GUID the same on both.
	Snapshot string `json:"snapshot"`
	GUID     string `json:"guid"`
	// Rounds are the streams, oldest first, the last one inside the stop; Bytes is their sum.
	Rounds []MoveRound `json:"rounds"`
	Bytes  int64       `json:"bytes"`
}

// MoveRound is one stream of a move, or one of each of several snapshots that went in one round.
type MoveRound struct {
	Bytes int64    `json:"bytes"`
	Took  Duration `json:"took"`
}

// MigrateResult is the value of a migrate's outcome.
type MigrateResult struct {
	Namespace string                `json:"namespace"`
	Volumes   map[string]VolumeMove `json:"volumes"`
	// StopStated is the stop as it was expected before it began, Stop as it was: from the first stop of a writer until
	// the new instances were ready and routed to.
	StopStated Duration `json:"stopStated"`
	Stop       Duration `json:"stop"`
	// StopParts are what Stop is the sum of.
	StopParts StopParts `json:"stopParts"`
	// Kept are the data sets that stay on the old machine, as copies, until a volume prune.
	Kept []string `json:"kept"`
}

// StopParts are the parts of a migration's stop.
type StopParts struct {
	// Stop is until the instances had ended, LastChanges until what they wrote last was on the other machine, Start what
	// the new ones took to start and become ready, and Rest what it took besides: to hand the volumes over, to snapshot, to
	// commit and to be routed to.
	Stop        Duration `json:"stop"`
	LastChanges Duration `json:"lastChanges"`
	Start       Duration `json:"start"`
	Rest        Duration `json:"rest"`
}

// VolumeCopy is a data set with the same ID in the pool of another machine: what a migration left or a send brought.
// Nothing mounts it.
type VolumeCopy struct {
	Machine string `json:"machine"`
	// Snapshot is the last that it has of the volume; GUID the snapshot's.
	Snapshot string `json:"snapshot"`
	GUID     string `json:"guid"`
	// Reason is CopyMoved or CopySent.
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	// Operation is what made it, or last brought it up to date.
	Operation string `json:"operation"`
}

// Why a volume has a copy.
const (
	CopyMoved = "moved" // it was there before a migration
	CopySent  = "sent"  // volume send brought it
)

// VolumeSendRequest brings a copy of a data set to another machine, or the one there up to date.
type VolumeSendRequest struct {
	Namespace string `json:"namespace"`
	// Name is the live data set's, or the ID of a kept one.
	Name           string `json:"name"`
	To             string `json:"to"`
	BytesPerSecond int64  `json:"bytesPerSecond,omitempty"`
}

// VolumeSendResult is the value of a volume.send's outcome.
type VolumeSendResult struct {
	ID   string     `json:"id"`
	Name string     `json:"name"`
	Copy VolumeCopy `json:"copy"`
	Move VolumeMove `json:"move"`
}
