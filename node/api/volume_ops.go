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
