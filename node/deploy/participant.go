package deploy

import (
	"context"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// Fenced is what lets a participant refuse a coordinator that lost its lease.
type Fenced struct {
	Operation string
	Step      string
	Scope     string
	Fence     store.Revision
}

// Participant is one machine as a deploy sees it. Acting calls are safe to repeat; each returns
// operation.lease-lost when its fence is older than one the machine has seen.
type Participant interface {
	Keeper
	// Observe answers what is so on the machine now.
	Observe(ctx context.Context) (Observation, error)
	// Resolve finds the digest of a reference: from the machine's images, else from its
	// registry. It changes nothing. Errors: image.*.
	Resolve(ctx context.Context, q Query) (Resolved, error)
	// EnsureImage makes an image present. Errors: image.*.
	EnsureImage(ctx context.Context, by Fenced, reference string, pull runtime.Pull) error
	// Launch prepares, links and starts an instance and returns the addresses it got, the same
	// ones when called again. Errors: runtime.*, network.*, image.*.
	Launch(ctx context.Context, by Fenced, spec runtime.Spec) (runtime.Addresses, error)
	// Await waits until the instance is ready, or a job has ended well. Errors: deploy.not-ready
	// and deploy.job-failed, both with the last log lines.
	Await(ctx context.Context, spec runtime.Spec, probe *api.Probe) error
	// Act does one of the small things to an instance.
	Act(ctx context.Context, by Fenced, action Action) error
	// Applied reports what the machine's gateway and resolver serve of a namespace.
	Applied(ctx context.Context, namespace string) ([]Consumer, error)
}

// Keeper is a machine's pool of volumes as a deploy sees it.
type Keeper interface {
	// Stored answers what the pool has of a namespace now. That a machine has no pool is no error.
	Stored(ctx context.Context, namespace string) (Stored, error)
	// EnsureVolume makes a live volume, or gives the one with that id the size, owner and mode of the spec.
	// Errors: volume.*.
	EnsureVolume(ctx context.Context, by Fenced, spec storage.Spec) (storage.Volume, error)
	// SnapshotVolumes takes a snapshot of each of the volumes under one name, that of a commit anew where an operation that
	// did not come to its end took one, or gives the name to the one that has the moment already, and holds it by the
	// order's tag. What the order names as writers holds still meanwhile, by the machine's own doing; where one cannot,
	// nothing is snapshot, and all go on. Errors: volume.*.
	SnapshotVolumes(ctx context.Context, by Fenced, order SnapshotOrder) ([]storage.Snapshot, error)
	// ListSnapshots answers which snapshots volumes have now, oldest first, by volume. One that is not there has none.
	// Errors: volume.pool-unavailable, volume.pool-failed.
	ListSnapshots(ctx context.Context, ids []string) (map[string][]storage.Snapshot, error)
	// CloneVolume makes a volume that begins as a snapshot of another: a live one, or, where kept is true, one without
	// a name. Errors: volume.*.
	CloneVolume(ctx context.Context, by Fenced, order CloneOrder) (storage.Volume, error)
}

// SnapshotOrder says of which volumes of a machine a moment is kept.
type SnapshotOrder struct {
	// Name is the snapshots'; Of is what those are called that each of the volumes has of the moment already, "" where
	// they are to be taken.
	Name    string   `json:"name"`
	Of      string   `json:"of,omitempty"`
	Volumes []string `json:"volumes"`
	// Tag holds them.
	Tag string `json:"tag"`
	// Quiesce are the instances of the machine that write one of the volumes and have to hold still for the moment. One
	// that does not run by then is left alone.
	Quiesce []QuiesceInstance `json:"quiesce,omitempty"`
}

// QuiesceInstance says how one instance holds still.
type QuiesceInstance struct {
	Instance string `json:"instance"`
	// Mode is api.QuiesceFreeze, or api.QuiesceNone where there are only the commands.
	Mode string `json:"mode"`
	// Before and After are what runs inside, see api.Quiesce; Timeout bounds each.
	Before  []string     `json:"before,omitempty"`
	After   []string     `json:"after,omitempty"`
	Timeout api.Duration `json:"timeout,omitempty"`
}

// CloneOrder says which snapshot a new volume begins as, and what it is.
type CloneOrder struct {
	Volume   string       `json:"volume"`
	Snapshot string       `json:"snapshot"`
	As       storage.Spec `json:"as"`
	Kept     bool         `json:"kept,omitempty"`
}

// Stored is a pool's answer; never kept.
type Stored struct {
	// None is why the pool cannot be used; nil where it can.
	None    *api.Error
	Usage   storage.Usage
	Volumes []storage.Volume
	// OneMoment is the pool's capability of that name.
	OneMoment bool
}

// Action is one small thing done to an instance or a volume.
type Action struct {
	// Verb is "stop", "start", "retire" (stop, unlink, remove) of an instance, "publish" (make
	// Ports all that the namespace publishes on the machine), "fence" (do nothing but listen
	// to no older fence any more), or of a volume "retire-volume" (take its name, keep it), "restore-volume" (give the
	// name back), "swap-volume" (let it take the name of the live volume Out, which is kept), "swap-back-volume" (make
	// Out live again, however far that came), "destroy-volume" (for good, and only if the operation Maker made it),
	// "prune-volume" (for good, and only a kept one that no clone and no hold but that of commits needs), "drop-copy" (for
	// good, of a volume that lives on another machine, also if it has its name here, unless a clone needs it),
	// "prune-copy" (likewise, but none that has its name), "take-snapshot" (of Volume as Snapshot, held by Tag if there is
	// one), "forget-snapshot" (which gives that hold back), "prune-snapshots" (for good, of Volume those Snapshots that
	// commits and operations took and nobody else needs), "hold-snapshots" (each by its Holds) and "forget-operation" (end
	// what the operation Maker holds of Volumes, or of all where none are named, and forget the snapshots that it took for
	// itself unless somebody needs one). "settle" runs the commands of Quiesce, so that who writes has written out what it
	// keeps in memory.
	Verb      string
	Instance  string
	Namespace string
	Volume    string `json:",omitempty"`
	Maker     string `json:",omitempty"`
	Out       string `json:",omitempty"`
	// Snapshot, Tag and Volumes are for "forget-snapshots", too, which takes back what SnapshotVolumes took, and, with
	// As, for "unname-snapshots", which gives those back their names that it named.
	Volumes  []string `json:",omitempty"`
	Snapshot string   `json:",omitempty"`
	Tag      string   `json:",omitempty"`
	As       string   `json:",omitempty"`
	// Snapshots are for "prune-snapshots".
	Snapshots []string `json:",omitempty"`
	// Holds are tags by the snapshot of Volume that they are to hold.
	Holds map[string][]string `json:",omitempty"`
	// Quiesce are the instances that settle.
	Quiesce []QuiesceInstance `json:",omitempty"`
	// Ports are those to publish, by instance.
	Ports map[string][]api.Port
}

// Query asks for the image that a reference means.
type Query struct {
	Reference string                `json:"reference"`
	Auth      *runtime.RegistryAuth `json:"auth,omitempty"`
	// Here asks no registry: image.not-found where the machine itself does not know the name.
	Here bool `json:"here,omitempty"`
}

// Resolved is an image that a machine can run.
type Resolved struct {
	Digest  string
	Present bool
	// Named is when the name was given to a pushed image; zero where a registry decides.
	Named time.Time
}

// Observation is a machine's answer; never stored.
type Observation struct {
	Instances []runtime.Observation
	// Controllers are the cgroup controllers that this machine can enforce limits with.
	Controllers []string
	CPUs        float64
	MemoryBytes int64
	// Listening are the machine's own listeners, as "tcp/8080" with who holds them.
	Listening map[string]string
	// Keeps says that the machine has a pool for volumes.
	Keeps bool
}

// Consumer is a gateway's or resolver's own statement about one namespace.
type Consumer struct {
	Name string
	// Revision is the one it has applied; Err is why it could not be asked.
	Revision store.Revision
	Err      error
	// InFlight counts the requests and connections it still has open, by instance.
	InFlight map[string]int
}

// Participants finds machines by name.
type Participants interface {
	// Participant returns a machine, or deploy.machine-silent when it does not answer.
	Participant(ctx context.Context, machine string) (Participant, error)
}

// Sealer seals secrets to the cluster's machines.
type Sealer interface {
	// Seal encrypts a value to the given recipients.
	Seal(value []byte, recipients []string) ([]byte, error)
	// Reseal opens what was sealed to at least one machine that is still there, and seals it to the given
	// recipients. It also answers the value's fingerprint under a name of a namespace. Errors: deploy.secret-sealed
	// when no machine that answers can open it.
	Reseal(ctx context.Context, sealed []byte, recipients []string, namespace, name string) (again []byte, fingerprint string, err error)
	// Fingerprint tells values apart without revealing them: equal for equal values of the same
	// namespace and name.
	Fingerprint(namespace, name string, value []byte) string
}

// Kit is what every operation of this package needs from the composition root.
type Kit struct {
	Facts        store.Facts
	Participants Participants
	// Carriers are the same machines, as what carries volumes from one to another.
	Carriers Carriers
	Sealer   Sealer
	// Log is the ledger, which tells what operations that are over may have left; nil tells nothing.
	Log store.Log
	Now func() time.Time
	// Settle is how long after a routing switch an old instance still answers those who looked its
	// name up before: the resolver's TTL. 0 means 1.1 s.
	Settle time.Duration
	// ApplyDeadline bounds the wait for gateways and resolvers; 0 means 15 s.
	ApplyDeadline time.Duration
}
