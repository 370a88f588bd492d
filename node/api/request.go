package api

import "net/netip"

import "encoding/json"

// Kinds of operations, as POST /v1/operations and the ledger name them. Each has the request
// struct named beside it.
const (
	KindDeploy       = "deploy"       // DeployRequest
	KindRollback     = "rollback"     // RollbackRequest
	KindScale        = "scale"        // ScaleRequest
	KindRestart      = "restart"      // ServiceRequest
	KindRemove       = "rm"           // NamespaceRequest
	KindClear        = "clear"        // NamespaceRequest
	KindSecretSet    = "secret.set"   // ValueRequest
	KindSecretRemove = "secret.rm"    // ValueRemoveRequest
	KindConfigSet    = "config.set"   // ValueRequest
	KindConfigRemove = "config.rm"    // ValueRemoveRequest
	KindRun          = "run"          // RunRequest
	KindImagePull    = "image.pull"   // ImagePullRequest
	KindImageRemove  = "image.rm"     // ImageRemoveRequest
	KindImagePrune   = "image.prune"  // ImagePruneRequest
	KindMachineInit  = "machine.init" // InitRequest

	KindMachineToken    = "machine.token"    // TokenRequest
	KindMachineJoin     = "machine.join"     // JoinRequest, on the machine that joins
	KindMachineAdmit    = "machine.admit"    // AdmitRequest, on the machine that gave the token
	KindMachineWithdraw = "machine.withdraw" // AdmitRequest, likewise
	KindMachineSet      = "machine.set"      // MachineSetRequest
	KindMachineUpdate   = "machine.update"   // MachineUpdateRequest
	KindMachineRemove   = "machine.remove"   // MachineRemoveRequest
	KindStoreRecover    = "store.recover"    // RecoverRequest
	KindStoreReform     = "store.reform"     // ReformRequest
	KindStoreRestore    = "store.restore"    // RestoreRequest
	KindStoreVoters     = "store.voters"     // VotersRequest
	KindStoreRepair     = "store.repair"     // RepairRequest

	KindVolumeRemove  = "volume.rm"      // VolumeRequest
	KindVolumeRestore = "volume.restore" // VolumeRestoreRequest
	KindVolumePrune   = "volume.prune"   // VolumePruneRequest

	KindVolumeSnapshot       = "volume.snapshot"    // VolumeSnapshotRequest
	KindVolumeSnapshotRemove = "volume.snapshot.rm" // VolumeSnapshotRequest
	KindVolumeClone          = "volume.clone"       // VolumeCloneRequest
	KindVolumeCreate         = "volume.create"      // VolumeCreateRequest
	KindVolumeSend           = "volume.send"        // VolumeSendRequest

	KindBranch       = "branch"    // BranchRequest
	KindBranchRemove = "branch.rm" // NamespaceRequest
	KindPromote      = "promote"   // PromoteRequest
	KindMigrate      = "migrate"   // MigrateRequest
)

// OperationRequest is the body of POST /v1/plans and POST /v1/operations.
type OperationRequest struct {
	Kind string `json:"kind"`
	// Request is the kind's own request struct. Unknown fields are refused.
	Request json.RawMessage `json:"request"`
	// Plan is the digest of a plan that was shown; the operation is refused when the world moved
	// since. "" takes whatever the plan is. A preview ignores it.
	Plan string `json:"plan,omitempty"`
}

// RegistryAuth is one registry's credentials. They travel with a request, over the socket, and are
// never stored.
type RegistryAuth struct {
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	Token    string `json:"token,omitempty"`
}

// DeployRequest makes a namespace what the spec asks for.
type DeployRequest struct {
	Spec Spec `json:"spec"`
	// Auths are registry credentials by registry name, as a reference begins with it.
	Auths map[string]RegistryAuth `json:"auths,omitempty"`
}

// NamespaceRequest names one namespace.
type NamespaceRequest struct {
	Namespace string `json:"namespace"`
}

// ServiceRequest names one service.
type ServiceRequest struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
}

// RollbackRequest goes back to a commit; To 0 is the one before the present.
type RollbackRequest struct {
	Namespace string `json:"namespace"`
	To        int    `json:"to,omitempty"`
	// WithData also gives each volume of that commit the data that it had when the commit was left: a clone of the
	// snapshot that the next commit took of it. The present data is kept.
	WithData bool `json:"withData,omitempty"`
}

// ScaleRequest sets a service's number of instances; 0 stops it and keeps it.
type ScaleRequest struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Replicas  int    `json:"replicas"`
}

// ValueRequest sets a named secret or config.
type ValueRequest struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Value     []byte `json:"value,omitempty"`
}

// ValueRemoveRequest takes a named secret or config away.
type ValueRemoveRequest struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// RunRequest runs a command once in a service's image, with its configuration, secrets and volumes.
type RunRequest struct {
	Namespace string   `json:"namespace"`
	Service   string   `json:"service"`
	Command   []string `json:"command"`
	// Env adds to the service's own environment.
	Env map[string]string `json:"env,omitempty"`
	// Deadline ends the run; 0 means 1 hour.
	Deadline Duration `json:"deadline,omitempty"`
	// Slot, such as "app-0", is whose volumes it gets, where the service mounts any of scope slot.
	Slot string `json:"slot,omitempty"`
	// WriteVolumes mounts volumes as the service does; without it all are read-only. What an instance writes is refused.
	WriteVolumes bool `json:"writeVolumes,omitempty"`
}

// RunResult is the value of a run's outcome.
type RunResult struct {
	Instance string `json:"instance"`
}

// ImagePullRequest fetches an image onto the machine, also when it has it already and the
// registry's tag has moved.
type ImagePullRequest struct {
	Reference string        `json:"reference"`
	Auth      *RegistryAuth `json:"auth,omitempty"`
}

// ImageRemoveRequest forgets a reference; the bytes go at the next prune.
type ImageRemoveRequest struct {
	Reference string `json:"reference"`
}

// ImagePruneRequest removes images that nothing uses and that were added more than OlderThan ago.
type ImagePruneRequest struct {
	OlderThan Duration `json:"olderThan,omitempty"`
}

// InitRequest founds a cluster on this machine. Empty fields are chosen: the host's name, "main",
// and the configuration's range of addresses.
type InitRequest struct {
	Name        string `json:"name,omitempty"`
	ClusterName string `json:"clusterName,omitempty"`
	CIDR        string `json:"cidr,omitempty"`
	PoolRequest
}

// PoolRequest says where a machine that becomes a member keeps its volumes.
type PoolRequest struct {
	// Pool is "loop" (a file of its own), "btrfs:FOLDER", "zfs:DATASET" or "none"; "" is what the machine's settings
	// say, else "loop" where the machine has what it takes, else "none".
	Pool string `json:"pool,omitempty"`
	// PoolBytes is the size of the file; 0 is half of what is free.
	PoolBytes int64 `json:"poolBytes,omitempty"`
}

// InitResult is the value of a machine.init's outcome.
type InitResult struct {
	Machine string       `json:"machine"`
	Cluster string       `json:"cluster"`
	Overlay netip.Addr   `json:"overlay"`
	Subnet4 netip.Prefix `json:"subnet4"`
	Subnet6 netip.Prefix `json:"subnet6"`
	// Pool says where the machine keeps volumes, in words.
	Pool string `json:"pool,omitempty"`
}
