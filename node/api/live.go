package api

import (
	"net/netip"
	"time"
)

// Service states that `service ls` shows beside the runtime's own.
const (
	// InstanceUnknown is the state of an instance whose machine was not asked.
	InstanceUnknown = "unknown"
	// InstanceGone is the state of an instance that a commit names and its machine lacks.
	InstanceGone = "gone"
)

// ServiceStatus is one service of a namespace: what was committed, and what runs of it now.
type ServiceStatus struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	// Commit is the number of the namespace's present commit.
	Commit    int              `json:"commit"`
	Image     string           `json:"image"`
	Digest    string           `json:"digest,omitempty"`
	Job       bool             `json:"job,omitempty"`
	Wanted    int              `json:"wanted"`
	Ready     int              `json:"ready"`
	Routes    []Route          `json:"routes,omitempty"`
	Ports     []Port           `json:"ports,omitempty"`
	Instances []InstanceStatus `json:"instances"`
}

// InstanceStatus is one instance.
type InstanceStatus struct {
	ID      string `json:"id"`
	Slot    string `json:"slot"`
	Machine string `json:"machine"`
	Unit    string `json:"unit"`
	// Addresses are the instance's own, IPv4 first.
	Addresses []netip.Addr `json:"addresses"`
	// Ready says that it is committed and runs: what the gateway sends requests to.
	Ready    bool      `json:"ready"`
	State    string    `json:"state"`
	Revision string    `json:"revision,omitempty"`
	PID      int       `json:"pid,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Restarts int       `json:"restarts,omitempty"`
	// ExitCode is set for an instance that ended.
	ExitCode *int     `json:"exitCode,omitempty"`
	Drift    []string `json:"drift,omitempty"`
}

// ServiceList is the answer of GET /v1/services.
type ServiceList struct {
	Services []ServiceStatus `json:"services"`
	// Uncertain says why the list may be out of date or incomplete; "" when it is current.
	Uncertain string `json:"uncertain,omitempty"`
}

// ValueSummary is one named secret or config; a secret's value is not part of any answer.
type ValueSummary struct {
	Name        string    `json:"name"`
	Fingerprint string    `json:"fingerprint"`
	Bytes       int       `json:"bytes,omitempty"`
	Written     time.Time `json:"written"`
	Operation   string    `json:"operation,omitempty"`
}

// LogLine is one line that an instance wrote.
type LogLine struct {
	Time      time.Time `json:"time"`
	Namespace string    `json:"namespace"`
	Service   string    `json:"service"`
	Instance  string    `json:"instance"`
	// Stream is "stdout" or "stderr", or "" where the journal cannot tell.
	Stream  string `json:"stream,omitempty"`
	Message string `json:"message"`
	// Error, on the last line of a stream only, says why the stream ended early.
	Error *Error `json:"error,omitempty"`
}

// InstanceStats are one instance's counters since its start, and its present use. A counter that
// the kernel does not keep is -1.
type InstanceStats struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Instance  string `json:"instance"`
	// CPUNanos is time spent on CPUs, in nanoseconds.
	CPUNanos    int64 `json:"cpuNanos"`
	MemoryBytes int64 `json:"memoryBytes"`
	PIDs        int64 `json:"pids"`
	ReadBytes   int64 `json:"readBytes"`
	WriteBytes  int64 `json:"writeBytes"`
	RxBytes     int64 `json:"rxBytes"`
	TxBytes     int64 `json:"txBytes"`
}

// StatsList is the answer to `stats`.
type StatsList struct {
	Instances []InstanceStats `json:"instances"`
	// Uncertain says which machines did not answer; "" when all did.
	Uncertain string `json:"uncertain,omitempty"`
}

// ImageEntry is one line of `image ls`.
type ImageEntry struct {
	References []string  `json:"references"`
	Digest     string    `json:"digest"`
	Bytes      int64     `json:"bytes"`
	Created    time.Time `json:"created,omitzero"`
	Added      time.Time `json:"added,omitzero"`
	InUse      bool      `json:"inUse"`
}

// MissingBlobs is the body of POST /v1/images/missing (what the client has) and of its answer (what
// the machine lacks). Digests are "sha256:…".
type MissingBlobs struct {
	Digests []string `json:"digests"`
}

// ImportEvent is one line of the answer of POST /v1/images/import: progress of a part, and last
// either the image or an error.
type ImportEvent struct {
	Part  string      `json:"part,omitempty"`
	Done  int64       `json:"done,omitempty"`
	Total int64       `json:"total,omitempty"`
	Image *ImageEntry `json:"image,omitempty"`
	Error *Error      `json:"error,omitempty"`
}

// PrunePlan is what a prune would remove, or has removed.
type PrunePlan struct {
	// Images go with all their names.
	Images []PrunedImage `json:"images"`
	// Blobs (digests) and Layers (folder names) belong to no image that stays.
	Blobs  []PrunedPart `json:"blobs"`
	Layers []PrunedPart `json:"layers"`
	// Bytes is what the file system gets back, about: sizes of blobs and of unpacked files.
	Bytes int64 `json:"bytes"`
}

// PrunedImage is one image of a prune.
type PrunedImage struct {
	Digest     string    `json:"digest"`
	References []string  `json:"references"`
	Added      time.Time `json:"added"`
}

// PrunedPart is one blob (its digest) or layer (its folder) of a prune.
type PrunedPart struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// ClusterEvent is one line of GET /v1/events: an operation's entry, or a namespace's routing view
// that was published.
type ClusterEvent struct {
	Time time.Time `json:"time"`
	// Type is "operation", "routing" or "error"; after an error nothing follows.
	Type      string        `json:"type"`
	Operation *Event        `json:"operation,omitempty"`
	Routing   *RoutingEvent `json:"routing,omitempty"`
	Error     *Error        `json:"error,omitempty"`
}

// RoutingEvent says that a namespace's routing view changed.
type RoutingEvent struct {
	Namespace string `json:"namespace"`
	Commit    string `json:"commit,omitempty"`
	Operation string `json:"operation,omitempty"`
	Revision  uint64 `json:"revision"`
	// Instances counts the upstreams; Removed says that the namespace is no longer served.
	Instances int  `json:"instances"`
	Removed   bool `json:"removed,omitempty"`
}
