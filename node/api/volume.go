package api

import "time"

// Volume is what a namespace asks for under one name: a data set that its instances mount, or one for each slot.
type Volume struct {
	// SizeBytes is the most that a data set may hold; 0 is no limit.
	SizeBytes int64 `json:"sizeBytes,omitempty"`
	// Owner of a data set's root folder; nil leaves it to the workload.
	Owner *Owner `json:"owner,omitempty"`
	// Mode are the permission bits of a data set's root folder, 01000 and 02000 among them; 0 leaves it to the workload.
	Mode uint32 `json:"mode,omitempty"`
	// Scope is ScopeNamespace ("" means it too): one data set for all who mount it, on one machine; or ScopeSlot: one
	// for each slot, called "<volume>.<slot>", such as "data.db-0".
	Scope string `json:"scope,omitempty"`
}

// The scopes of a volume.
const (
	ScopeNamespace = "namespace"
	ScopeSlot      = "slot"
)

// PerSlot says that each slot has a data set of its own.
func (v Volume) PerSlot() bool { return v.Scope == ScopeSlot }

// Owner is a user and a group by number, as inside the workload.
type Owner struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
}

// Mount places a volume of the spec into a service's instances.
type Mount struct {
	// Volume is its name in Spec.Volumes.
	Volume string `json:"volume"`
	Target string `json:"target"`
	// ReadOnly instances do not count as writers: an update may start them beside the old.
	ReadOnly bool `json:"readOnly,omitempty"`
}

// Quiesce is how a service comes to a moment at which its volumes are snapshot, while it goes on running. What a
// snapshot without it shows is as after a power cut. It is for the snapshots of commits and of a branch's origin.
type Quiesce struct {
	// Mode is QuiesceFreeze, QuiesceStop or QuiesceNone. Unset is QuiesceFreeze where there are commands, or where the
	// machine has several volumes of the namespace in a pool that cannot snapshot them in one moment (Btrfs), and else
	// QuiesceNone: a snapshot is of one moment by itself. A branch stops nothing of what it copies: there QuiesceStop is
	// QuiesceFreeze.
	Mode string `json:"mode,omitempty"`
	// Before runs inside the instance before the moment, and After after it, also if Before failed; one that does not
	// end with 0 refuses the snapshot. Neither runs with a shell, nor where the instance is stopped. Both may run again:
	// where a machine's daemon dies in between, After runs only after the next Before.
	Before []string `json:"before,omitempty"`
	After  []string `json:"after,omitempty"`
	// Timeout bounds each of them; 0 means 10 s.
	Timeout Duration `json:"timeout,omitempty"`
}

// How an instance that writes is had to hold still.
const (
	QuiesceFreeze = "freeze" // its processes stand still for the moment
	QuiesceStop   = "stop"   // it ends and is started again
	QuiesceNone   = "none"   // it goes on writing
)

// Retention is what a namespace keeps of its past, until a volume prune.
type Retention struct {
	// Commits is how many commits, the present one among them, can be gone back to with their data; 0 means
	// DefaultKeepCommits.
	Commits int `json:"commits,omitempty"`
	// Volumes is how long a data set that lost its name is kept at least; 0 means DefaultKeepVolumes.
	Volumes Duration `json:"volumes,omitempty"`
}

// What a namespace keeps of its past where its spec does not say.
const (
	DefaultKeepCommits = 10
	DefaultKeepVolumes = Duration(7 * 24 * time.Hour)
	// MaxKeepCommits is the most that can be asked for.
	MaxKeepCommits = 1000
)

// VolumeFact is the intent about one data set: that it is, where, and who made it so. What is so now, such as how much
// it holds, is asked of the machine.
type VolumeFact struct {
	// ID is the data set's own, unlike any other in the cluster; every copy of it keeps it.
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	// Name is the data set's: "data", or "data.db-0" of scope slot.
	Name string `json:"name"`
	// Machine is the name of the machine that has it, as slots have it; Backend the file system there.
	Machine   string `json:"machine"`
	Backend   string `json:"backend,omitempty"`
	SizeBytes int64  `json:"sizeBytes,omitempty"`
	Owner     *Owner `json:"owner,omitempty"`
	Mode      uint32 `json:"mode,omitempty"`
	Scope     string `json:"scope,omitempty"`
	// State is VolumeLive or VolumeKept.
	State string `json:"state"`
	// Origin is the snapshot that it began as; nil for one that began empty.
	Origin  *VolumeOrigin `json:"origin,omitempty"`
	Created time.Time     `json:"created"`
	// Kept is since when it has no name; zero while live. KeptBy is the commit's operation that took it, if one did.
	Kept   time.Time `json:"kept,omitzero"`
	KeptBy string    `json:"keptBy,omitempty"`
	// Operation is the last one that wrote the fact.
	Operation string `json:"operation"`
	// Copies are those in the pools of other machines, by machine's name in order.
	Copies []VolumeCopy `json:"copies,omitempty"`
}

// The states of a volume as intended. One live data set has a name; kept ones wait to be restored or pruned.
const (
	VolumeLive = "live"
	VolumeKept = "kept"
)

// VolumeOrigin is where a clone comes from.
type VolumeOrigin struct {
	Volume   string `json:"volume"`
	Snapshot string `json:"snapshot"`
	GUID     string `json:"guid"`
}

// CommitVolume is a data set that was live with a commit, and the snapshot taken at the quiesced moment before it.
type CommitVolume struct {
	ID      string `json:"id"`
	Machine string `json:"machine"`
	// Snapshot and GUID are empty where none was taken.
	Snapshot string `json:"snapshot,omitempty"`
	GUID     string `json:"guid,omitempty"`
	// Of is the data set that the snapshot is of, where that is not this one but the one that had the name until then:
	// a rollback with data let this one take its place. Its snapshot is the data as the commit before this one left it.
	Of string `json:"of,omitempty"`
	// Move is how it came to this machine, where this commit moved it.
	Move *VolumeMove `json:"move,omitempty"`
}

// SnapshotOf is the id of the data set that the snapshot is of.
func (v CommitVolume) SnapshotOf() string {
	if v.Of != "" {
		return v.Of
	}
	return v.ID
}
