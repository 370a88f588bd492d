package api

import "time"

// PoolStatus is the pool of one machine as it is now: an observation.
type PoolStatus struct {
	Machine string `json:"machine,omitempty"`
	// State is "up", "down" (Error says why), or "absent" for a machine that was never given one.
	State string `json:"state"`
	// Backend is "btrfs" or "zfs", Pool the folder or dataset.
	Backend string `json:"backend,omitempty"`
	Pool    string `json:"pool,omitempty"`
	// SizeBytes is what the pool can hold in all, FreeBytes what volumes could still write, PromisedBytes the sum of
	// the sizes of all volumes, which may be more.
	SizeBytes     int64 `json:"sizeBytes"`
	FreeBytes     int64 `json:"freeBytes"`
	PromisedBytes int64 `json:"promisedBytes"`
	// Volumes counts the volumes by state.
	Volumes map[string]int `json:"volumes,omitempty"`
	Error   *Error         `json:"error,omitempty"`
}

// VolumeEntry is one data set of one machine as it is now: an observation.
type VolumeEntry struct {
	// ID is the data set's own; "" where its mark is damaged and does not tell it.
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Machine   string `json:"machine"`
	// State is "live", "kept", "incoming" or VolumeLost.
	State string `json:"state"`
	// Path is where its files are on the machine; "" unless it is live.
	Path string `json:"path,omitempty"`
	// SizeBytes is the most that it may hold, 0 without limit; UsedBytes what it holds, of which OwnBytes are shared
	// with no snapshot and no other volume.
	SizeBytes int64 `json:"sizeBytes,omitempty"`
	UsedBytes int64 `json:"usedBytes"`
	OwnBytes  int64 `json:"ownBytes"`
	// Origin is the snapshot that a clone began as.
	Origin  *SnapshotRef `json:"origin,omitempty"`
	Created time.Time    `json:"created,omitzero"`
	// Error is why it cannot be looked at, as when its mark is damaged or it is lost.
	Error *Error `json:"error,omitempty"`
	// Copy says that the volume itself is on another machine, and how this came here.
	Copy *VolumeCopy `json:"copy,omitempty"`
	// Unclaimed says that no fact accounts for it, and what can be done.
	Unclaimed *Error `json:"unclaimed,omitempty"`
}

// VolumeLost is the state of what a fact names and the machine that should have it has not, or does not say.
const VolumeLost = "lost"

// SnapshotRef names a snapshot of a volume.
type SnapshotRef struct {
	// Volume is the data set's ID.
	Volume   string `json:"volume"`
	Snapshot string `json:"snapshot"`
	GUID     string `json:"guid"`
}

// SnapshotEntry is a snapshot as it is now.
type SnapshotEntry struct {
	Name string `json:"name"`
	// GUID is the same for every copy of the snapshot on any machine, and for no other snapshot.
	GUID    string    `json:"guid"`
	Created time.Time `json:"created"`
	// Holds are the tags that keep it, Clones the IDs of the volumes that could not be without it.
	Holds  []string `json:"holds,omitempty"`
	Clones []string `json:"clones,omitempty"`
}

// VolumeList is what machines have.
type VolumeList struct {
	Volumes []VolumeEntry `json:"volumes"`
	Pools   []PoolStatus  `json:"pools"`
	// Uncertain says whose part is missing, or "".
	Uncertain string `json:"uncertain,omitempty"`
}

// VolumeDetail is one data set with its snapshots and its family.
type VolumeDetail struct {
	VolumeEntry
	Snapshots []SnapshotEntry `json:"snapshots"`
	// Family are the data sets that it descends from, that descend from it, and that share an ancestor with it; itself
	// too. An ancestor that no machine has any more is named by others' origins only.
	Family []VolumeEntry `json:"family"`
	// Copies are those in the pools of other machines.
	Copies []VolumeCopy `json:"copies,omitempty"`
	// Move is how it came to the machine that it lives on, if a commit moved it there.
	Move      *VolumeMove `json:"move,omitempty"`
	Uncertain string      `json:"uncertain,omitempty"`
}
