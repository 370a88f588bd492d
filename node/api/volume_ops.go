package api

import "time"

// VolumeRequest names the live data set that has a name: "data", or "data.db-0" of scope slot.
type VolumeRequest struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// VolumeRestoreRequest names a kept data set of a namespace by its ID.
type VolumeRestoreRequest struct {
	Namespace string `json:"namespace"`
	ID        string `json:"id"`
}

// VolumeResult is the value of the outcome of an operation on one data set.
type VolumeResult struct {
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Machine   string `json:"machine"`
	// State is VolumeLive or VolumeKept.
	State string `json:"state"`
	// Snapshot is the one that the operation took, took away, or began a clone at; GUID is that snapshot's.
	Snapshot string `json:"snapshot,omitempty"`
	GUID     string `json:"guid,omitempty"`
	// Moment is when a snapshot was taken.
	Moment time.Time `json:"moment,omitzero"`
}

// VolumePruneRequest destroys kept data sets, snapshots that no commit needs any more, and copies of a namespace for
// good.
type VolumePruneRequest struct {
	Namespace string `json:"namespace"`
	// Machine, when set, is whose pool is pruned; "" is all.
	Machine string `json:"machine,omitempty"`
	// ID, when set, is the one that goes, whenever it was kept; why it cannot is then a refusal. With Machine it may be a
	// copy there, of a live one too.
	ID string `json:"id,omitempty"`
	// OlderThan leaves what was kept within this time, for this once; nil is what the namespace's Retention says.
	OlderThan *Duration `json:"olderThan,omitempty"`
	// KeepCommits is how many commits, the present one among them, keep the data that was live with them, for this once;
	// 0 is what the namespace's Retention says. Older ones can be gone back to without their data.
	KeepCommits int `json:"keepCommits,omitempty"`
}

// VolumePruneResult is the value of a volume.prune's outcome.
type VolumePruneResult struct {
	Destroyed []PrunedVolume `json:"destroyed"`
	// Stays are those that were looked at and left.
	Stays []PrunedVolume `json:"stays"`
	// Snapshots are those that were forgotten of data sets that stay.
	Snapshots []PrunedSnapshot `json:"snapshots"`
	// OwnBytes is the sum of what the destroyed shared with nothing else, and so the least that was freed.
	OwnBytes int64 `json:"ownBytes"`
}

// PrunedVolume is one data set, or a copy of one, that a prune decided about.
type PrunedVolume struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Machine string `json:"machine"`
	Copy    bool   `json:"copy,omitempty"`
	// UsedBytes is what it held when it was looked at.
	UsedBytes int64 `json:"usedBytes"`
	// Reason is why it goes, or stays.
	Reason string `json:"reason"`
}

// PrunedSnapshot is a snapshot that a prune decided to forget.
type PrunedSnapshot struct {
	// Volume is the data set's ID, Name its name.
	Volume   string `json:"volume"`
	Name     string `json:"name"`
	Machine  string `json:"machine"`
	Snapshot string `json:"snapshot"`
	// OwnBytes is what only it held; 0 also where the pool cannot tell.
	OwnBytes int64 `json:"ownBytes,omitempty"`
	// Reason is why it goes.
	Reason string `json:"reason"`
}

// VolumeSnapshotRequest takes or takes away a snapshot of a data set under the operator's own name for it.
type VolumeSnapshotRequest struct {
	Namespace string `json:"namespace"`
	// Name is the live data set's; of one that is taken away also the ID of a kept one.
	Name     string `json:"name"`
	Snapshot string `json:"snapshot"`
}

// VolumeCloneRequest makes a live data set that begins as a snapshot of another, on the same machine.
type VolumeCloneRequest struct {
	Namespace string `json:"namespace"`
	// Name is the live data set's, or the ID of a kept one.
	Name string `json:"name"`
	// Snapshot, when set, is where the clone begins; "" is now.
	Snapshot string `json:"snapshot,omitempty"`
	// As is the clone's name.
	As string `json:"as"`
}

// VolumeCreateRequest makes an empty data set before a deploy asks for it.
type VolumeCreateRequest struct {
	Namespace string `json:"namespace"`
	// Name is a volume's, or, for one of scope slot, with the slot's: "data.db-0".
	Name string `json:"name"`
	// Machine, when set, is where it comes; "" is where the most space is free.
	Machine   string `json:"machine,omitempty"`
	SizeBytes int64  `json:"sizeBytes,omitempty"`
	Owner     *Owner `json:"owner,omitempty"`
	Mode      uint32 `json:"mode,omitempty"`
}
