package storage

import (
	"io/fs"
	"regexp"
	"time"

	"github.com/ployz/ployz/node/api"
)

// Spec is what is asked of a volume.
type Spec struct {
	// ID is the volume's own, unlike any other in the cluster: lower-case letters and digits.
	ID string `json:"id"`
	// Namespace and Name are what operators call it; one live volume has them at a time.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// SizeBytes is the most that the volume may hold, without its snapshots; 0 is no limit.
	SizeBytes int64 `json:"sizeBytes,omitempty"`
	// Owner of the volume's root folder; nil leaves it to the workload.
	Owner *Owner `json:"owner,omitempty"`
	// Mode of the volume's root folder; 0 leaves it to the workload.
	Mode fs.FileMode `json:"mode,omitempty"`
}

// Owner is a user and a group by number, as inside the workload.
type Owner struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
}

// FullName is the name that operators read: "shop/data".
func (s Spec) FullName() string { return s.Namespace + "/" + s.Name }

// State is where in its life a volume is.
type State string

// The states of a volume; doc.go draws how they follow each other.
const (
	StateLive     State = "live"
	StateKept     State = "kept"
	StateIncoming State = "incoming"
)

// Volume is what is so now about one volume; never stored.
type Volume struct {
	Spec
	State State
	// Path is where the volume's root folder is on this machine; "" unless the volume is live.
	Path string
	// UsedBytes is what the volume refers to, and what its size limits; OwnBytes of it, at least, are shared with
	// no snapshot and no other volume. A backend may count them some seconds late.
	UsedBytes, OwnBytes int64
	// Origin is the snapshot that a clone began as; nil for others.
	Origin  *Origin
	Created time.Time
	// Problem is why the volume cannot be looked at; nil for a sound one. Where that is its mark, the Spec is what
	// the place where it lies is called, and every call about it answers this.
	Problem error
}

// Mark is what a backend writes beside a volume's data, or on it: who the volume is. Where it is missing
// there is no volume of ours.
type Mark struct {
	Spec
	Origin  *Origin   `json:"origin,omitempty"`
	Created time.Time `json:"created"`
}

// Origin is where a clone comes from.
type Origin struct {
	Volume   string `json:"volume"`
	Snapshot string `json:"snapshot"`
	GUID     string `json:"guid"`
}

// Snapshot is a volume as it was at one moment.
type Snapshot struct {
	// Volume is the ID of the volume that holds it.
	Volume string
	// Name is the snapshot's own among those of its volume.
	Name string
	// GUID is the same for every copy of this snapshot on any machine, and for no other.
	GUID    string
	Created time.Time
	// Holds are the tags that keep it from being forgotten, sorted.
	Holds []string
	// Clones are the IDs of the volumes that could not be without it, sorted.
	Clones []string
	// OwnBytes is what is free once it alone is forgotten; 0 also where the backend cannot tell.
	OwnBytes int64
}

// Usage is a pool's space. Sizes are limits, not reservations: their sum may be more than the pool has.
type Usage struct {
	Backend, Pool string
	// SizeBytes is what the pool can hold in all, FreeBytes what a volume could still write.
	SizeBytes, FreeBytes int64
	// PromisedBytes is the sum of the sizes of all volumes.
	PromisedBytes int64
}

// Capabilities is what differs between backends, and between versions of one.
type Capabilities struct {
	// Backend names the format of streams: one goes only between pools that agree.
	Backend string
	// OneMoment says that snapshots of several volumes are of one moment even while they are written. Where
	// it is false the caller stops the writers first.
	OneMoment bool
	// Resume says that a broken stream goes on where it broke; else it begins again at its base.
	Resume bool
	// ClonesDepend says that a snapshot cannot go before its clones do, or are promoted.
	ClonesDepend bool
}

var (
	idForm = regexp.MustCompile(`^[a-z0-9]{1,64}$`)
	// namespaces have no dot, so that namespace and name can be joined by one.
	namespaceForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	// A pool's folder stands in a unit file, and so has nothing in it that systemd would read otherwise.
	folderForm  = regexp.MustCompile(`^/[a-zA-Z0-9._@:/-]*$`)
	datasetForm = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.-]*(/[a-zA-Z0-9_.-]+)*$`)
	nameForm    = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,126}[a-zA-Z0-9])?$`)
)

// Check refuses a spec that no backend could keep. Errors: volume.invalid.
func (s Spec) Check() error {
	switch {
	case !idForm.MatchString(s.ID):
		return invalid("a volume's id is of lower-case letters and digits, not %q", s.ID)
	case !namespaceForm.MatchString(s.Namespace):
		return invalid("%q cannot be a namespace of volumes", s.Namespace)
	case !nameForm.MatchString(s.Name):
		return invalid("%q cannot be a volume's name: letters, digits, and - _ . between them", s.Name)
	case s.SizeBytes < 0:
		return invalid("a volume of %d bytes", s.SizeBytes)
	case s.SizeBytes > 0 && s.SizeBytes < MinSizeBytes:
		return invalid("a volume of %d bytes: the least is %d", s.SizeBytes, MinSizeBytes)
	case s.Owner != nil && (s.Owner.UID < 0 || s.Owner.GID < 0):
		return invalid("%d:%d is no owner", s.Owner.UID, s.Owner.GID)
	case s.Mode&^(fs.ModePerm|fs.ModeSticky|fs.ModeSetgid) != 0:
		return invalid("%v is no mode of a volume's folder", s.Mode)
	}
	return nil
}

// MinSizeBytes is the least size of a volume: a file system's own needs are a good part of less.
const MinSizeBytes = 1 << 20

// CheckName refuses what cannot name a snapshot or a hold's tag. Errors: volume.invalid.
func CheckName(what, name string) error {
	if !nameForm.MatchString(name) {
		return invalid("%q cannot be the name of a %s: letters, digits, and - _ . between them", name, what)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return api.Errorf(api.CodeVolumeInvalid, format, args...)
}

// FileName joins a volume's namespace and name to one name for a file or dataset.
func (s Spec) FileName() string { return s.Namespace + "." + s.Name }
