package api

import (
	"net/netip"
	"time"
)

// States that a part of a machine can be in.
const (
	StateUp        = "up"
	StateDown      = "down"
	StateUncertain = "uncertain" // it serves, but perhaps from a view that is out of date
	StateDegraded  = "degraded"
	StateAbsent    = "absent" // the machine is not part of a cluster yet
)

// Status is what one machine says about itself: an observation, made when it was asked.
type Status struct {
	Machine   MachineStatus   `json:"machine"`
	Cluster   ClusterStatus   `json:"cluster"`
	Daemon    DaemonStatus    `json:"daemon"`
	Store     StoreStatus     `json:"store"`
	Gateway   ServingStatus   `json:"gateway"`
	DNS       ServingStatus   `json:"dns"`
	Workloads WorkloadsStatus `json:"workloads"`
	Pool      PoolStatus      `json:"pool"`
	// Notes are plain sentences: what may be lost next, and what to do about it.
	Notes []string `json:"notes"`
}

// MachineStatus says which machine answers.
type MachineStatus struct {
	Name string `json:"name"`
	ID   string `json:"id,omitempty"`
	// Addresses are the machine's own; the overlay address is the first.
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// Subnets are what instances on it get addresses from.
	Subnets []netip.Prefix `json:"subnets,omitempty"`
	Kernel  string         `json:"kernel,omitempty"`
}

// ClusterStatus says what the machine is part of; empty before `ployzctl init`.
type ClusterStatus struct {
	Name       string   `json:"name,omitempty"`
	ID         string   `json:"id,omitempty"`
	Generation uint64   `json:"generation,omitempty"`
	Machines   int      `json:"machines,omitempty"`
	Voters     []string `json:"voters,omitempty"`
}

// DaemonStatus is the control plane's word on itself.
type DaemonStatus struct {
	State   string    `json:"state"`
	PID     int       `json:"pid,omitempty"`
	Version string    `json:"version,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	// Adopted lists what the daemon found when it started, and what it did about it.
	Adopted []Adoption `json:"adopted,omitempty"`
	// AdoptionTook is the time from its start until everything was looked at.
	AdoptionTook Duration `json:"adoptionTook,omitempty"`
}

// Adoption is one unit's verdict at the daemon's start.
type Adoption struct {
	Unit string `json:"unit"`
	// Verdict is "adopt", "leave", "create", "replace" or "recreate".
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons,omitempty"`
	Error   *Error   `json:"error,omitempty"`
}

// StoreStatus is the store as this machine sees it.
type StoreStatus struct {
	State string `json:"state"`
	Why   string `json:"why,omitempty"`
	// Sequence is the last revision that the machine's mirror holds.
	Sequence   uint64 `json:"sequence,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
	// Age is the time since the mirror last heard from its origin.
	Age       Duration     `json:"age,omitempty"`
	Uncertain bool         `json:"uncertain,omitempty"`
	Units     []UnitStatus `json:"units,omitempty"`
	Room      *StoreRoom   `json:"room,omitempty"`
}

// StoreRoom is what is free on the disk of a machine's part of the store.
type StoreRoom struct {
	Path      string `json:"path"`
	FreeBytes int64  `json:"freeBytes"`
	// NeedsBytes is what must be free, or be free again, for the machine's part of the store to take writes.
	NeedsBytes int64 `json:"needsBytes"`
	// State is RoomEnough, RoomLow or RoomFull: nothing more is written there until there is room.
	State string `json:"state"`
}

// States of a StoreRoom.
const (
	RoomEnough = "enough"
	RoomLow    = "low"
	RoomFull   = "full"
)

// ServingStatus is a gateway's or resolver's word on what it serves.
type ServingStatus struct {
	State string `json:"state"`
	Why   string `json:"why,omitempty"`
	// Sequence is the revision of the routing view that is served.
	Sequence uint64 `json:"sequence,omitempty"`
	// Age is the time since that view was last known to be current.
	Age       Duration  `json:"age,omitempty"`
	Uncertain bool      `json:"uncertain,omitempty"`
	PID       int       `json:"pid,omitempty"`
	Version   string    `json:"version,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	// Listen are the addresses it answers on, as "10.101.0.1:53".
	Listen []string `json:"listen,omitempty"`
	// Rejected are namespaces whose last event was refused; the view before it is served.
	Rejected []string `json:"rejected,omitempty"`
}

// UnitStatus is one unit in systemd's words.
type UnitStatus struct {
	Unit  string    `json:"unit"`
	State string    `json:"state"`
	PID   int       `json:"pid,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

// WorkloadsStatus counts the machine's instances and lists those that are not as recorded.
type WorkloadsStatus struct {
	Count   int     `json:"count"`
	Running int     `json:"running"`
	Drift   []Drift `json:"drift"`
}

// Drift is one thing that is not what it should be.
type Drift struct {
	Subject string   `json:"subject"`
	Reasons []string `json:"reasons"`
}

// Version says which program answers.
type Version struct {
	Version string `json:"version"`
	Go      string `json:"go,omitempty"`
	// API is the version of the HTTP interface, "v1".
	API string `json:"api,omitempty"`
}

// Check is one thing that `doctor` looked at.
type Check struct {
	Name string `json:"name"`
	// Result is "ok", "warning", "failed" or "skipped".
	Result string `json:"result"`
	// Seen is the value found.
	Seen string `json:"seen,omitempty"`
	// Error says what is wrong and what to do, for everything but "ok".
	Error *Error `json:"error,omitempty"`
}

// Results of a Check.
const (
	CheckOK      = "ok"
	CheckWarning = "warning"
	CheckFailed  = "failed"
	CheckSkipped = "skipped"
)
