package api

// CodeInternal is the code of an error that nobody gave a type: a defect of ours.
const CodeInternal Code = "internal.error"

// Codes of requests and of the connection to the daemon.
const (
	CodeBadRequest        Code = "request.malformed"
	CodeUnknownOperation  Code = "request.unknown-operation"
	CodeNotFound          Code = "request.not-found"
	CodeDaemonUnreachable Code = "daemon.unreachable"
	CodePermission        Code = "daemon.permission-denied"
	CodeDaemonStopping    Code = "daemon.stopping"
	CodeNotRunningOp      Code = "operation.not-running"
	CodeNotResolvable     Code = "operation.not-resolvable"
	CodeRemote            Code = "daemon.remote-failed"
	CodeContextAbsent     Code = "context.not-found"
	CodeContextInvalid    Code = "context.invalid"
	CodeUsage             Code = "request.usage"
)

// Codes of machines and their membership (node/machine).
const (
	CodeNotInitialised Code = "machine.not-initialised"
)

// Codes of the operation form (node/operation).
const (
	CodePlanStale       Code = "operation.plan-stale"
	CodeScopeBusy       Code = "operation.scope-busy"
	CodeUnmet           Code = "operation.requirements-unmet"
	CodeInterrupted     Code = "operation.interrupted"
	CodeUncertain       Code = "operation.uncertain"
	CodeConflict        Code = "operation.conflict"
	CodeLedgerDown      Code = "operation.ledger-unavailable"
	CodeStepFailed      Code = "operation.step-failed"
	CodeCancelled       Code = "operation.cancelled"
	CodeUndoFailed      Code = "operation.undo-failed"
	CodeOperationAbsent Code = "operation.not-found"
	CodeLeaseLost       Code = "operation.lease-lost"
)

// Codes of commands to machines (node/coordination).
const (
	CodeParticipantAbsent  Code = "participant.absent"
	CodeParticipantSilent  Code = "participant.silent"
	CodeParticipantRefused Code = "participant.refused"
)

// Codes of the store (node/store).
const (
	CodeStoreUnavailable Code = "store.unavailable"
	CodeStoreConflict    Code = "store.conflict"
	CodeStoreUncertain   Code = "store.uncertain"
	CodeStoreSettings    Code = "store.unsafe-settings"
	CodeStoreFull        Code = "store.full"
	CodeStoreNotFound    Code = "store.not-found"
	CodeStoreTooLarge    Code = "store.too-large"
	CodeStoreBusy        Code = "store.busy"
	CodeStoreDamaged     Code = "store.damaged"
	CodeStoreDiskFull    Code = "store.disk-full"
	CodeStoreUnreadable  Code = "store.fact-unreadable"
	CodeStoreReadable    Code = "store.fact-readable"
	CodeStoreNoCopy      Code = "store.no-copy"
	CodeStoreFactNeeded  Code = "store.fact-needed"

	CodeStoreNoQuorum        Code = "store.no-quorum"
	CodeStoreWouldLoseQuorum Code = "store.would-lose-quorum"
	CodeStoreChangeInFlight  Code = "store.change-in-flight"
	CodeStoreStillHonoured   Code = "store.key-still-honoured"
	CodeStoreNotRescuable    Code = "store.not-rescuable"
	CodeStoreBackupDamaged   Code = "store.backup-damaged"
	CodeStoreBackupForeign   Code = "store.backup-foreign"
)

// Codes of images (node/runtime/oci).
const (
	CodeImageBadReference Code = "image.bad-reference"
	CodeImageNotFound     Code = "image.not-found"
	CodeImageUnauthorized Code = "image.unauthorized"
	CodeRegistryDown      Code = "image.registry-unreachable"
	CodeDigestMismatch    Code = "image.digest-mismatch"
	CodeLayerCorrupt      Code = "image.layer-corrupt"
	CodeLayerEscape       Code = "image.layer-escape"
	CodeImageTooLarge     Code = "image.layer-too-large"
	CodeImageDiskFull     Code = "image.disk-full"
	CodeImageNoPlatform   Code = "image.no-platform"
	CodeImageInUse        Code = "image.in-use"
	CodeImageMedia        Code = "image.unsupported-media"
	CodeImageBadArchive   Code = "image.bad-archive"
	CodeImageNoUser       Code = "image.no-user"
	CodeImageStoreBusy    Code = "image.store-busy"
	CodeImageDamaged      Code = "image.damaged"
)

// Codes of the runtime (node/runtime).
const (
	CodeRuntimeNotFound    Code = "runtime.not-found"
	CodeRuntimeConflict    Code = "runtime.conflict"
	CodeRuntimeInvalid     Code = "runtime.invalid-spec"
	CodeRuntimeUnsupported Code = "runtime.unsupported"
	CodeControllerMissing  Code = "runtime.controller-missing"
	CodeRuntimeDiskFull    Code = "runtime.disk-full"
	CodeStartFailed        Code = "runtime.start-failed"
	CodeStopFailed         Code = "runtime.stop-failed"
	CodeRuntimeBusy        Code = "runtime.busy"
	CodeNotRunning         Code = "runtime.not-running"
	CodeExecFailed         Code = "runtime.exec-failed"
	CodeFreezeFailed       Code = "runtime.freeze-failed"
	CodeCommandAbsent      Code = "runtime.command-not-found"
	CodeCommandUnusable    Code = "runtime.command-not-executable"
	CodeLogsFailed         Code = "runtime.logs-failed"
	CodeRuntimeDamaged     Code = "runtime.damaged"
)

// Codes of volumes (node/storage).
const (
	CodeVolumeInvalid          Code = "volume.invalid"
	CodeVolumeNotFound         Code = "volume.not-found"
	CodeVolumeNameTaken        Code = "volume.name-taken"
	CodeVolumeNotOurs          Code = "volume.not-ours"
	CodeVolumeNoSpace          Code = "volume.no-space"
	CodeVolumeShrink           Code = "volume.shrink"
	CodeVolumeUnenforced       Code = "volume.size-unenforced"
	CodeVolumeInUse            Code = "volume.in-use"
	CodeVolumeUnclaimed        Code = "volume.unclaimed"
	CodeVolumeNotLive          Code = "volume.not-live"
	CodeVolumeNotKept          Code = "volume.not-kept"
	CodeVolumeSnapshotNotFound Code = "volume.snapshot-not-found"
	CodeVolumeSnapshotTaken    Code = "volume.snapshot-taken"
	CodeVolumeSnapshotNeeded   Code = "volume.snapshot-needed"
	CodeVolumeBaseMissing      Code = "volume.base-missing"
	CodeVolumeStreamForeign    Code = "volume.stream-foreign"
	CodeVolumeStreamDamaged    Code = "volume.stream-damaged"
	CodeVolumePoolUnavailable  Code = "volume.pool-unavailable"
	CodeVolumePoolFailed       Code = "volume.pool-failed"
	CodeVolumePoolAbsent       Code = "volume.pool-absent"
	CodeVolumeTransferCut      Code = "volume.transfer-cut"
	CodeVolumeNotOffered       Code = "volume.not-offered"
	CodeVolumeNotConverging    Code = "volume.not-converging"
	CodeVolumeScope            Code = "volume.scope-changed"
	CodeVolumeSpread           Code = "volume.several-machines"
	CodeVolumeLineage          Code = "volume.lineage"
	CodeVolumeQuiesce          Code = "volume.quiesce-failed"
	CodeVolumeCopied           Code = "volume.copied"
	CodeVolumeSlot             Code = "volume.which-slot"
	CodeVolumeThere            Code = "volume.already-there"
)

// Codes of branches.
const (
	CodeBranchExists  Code = "branch.namespace-taken"
	CodeBranchAbsent  Code = "branch.not-a-branch"
	CodeBranchSecrets Code = "branch.secrets-undecided"
	CodeBranchHosts   Code = "branch.hostname-invalid"
	CodePromoteUnlike Code = "branch.not-promotable"
)

// Codes of supervised services (node/services).
const (
	CodeSupervisorDown Code = "service.supervisor-unavailable"
	CodeServiceAbsent  Code = "service.not-found"
	CodeServiceForeign Code = "service.not-ours"
	CodeServiceFailed  Code = "service.start-failed"
	CodeServiceReload  Code = "service.reload-failed"
	CodeServiceStop    Code = "service.stop-failed"
)

// Codes of the machine's network (datapath, adapted in node/daemon).
const (
	CodePortTaken Code = "network.port-taken"
	// CodeNetworkFailed is a link, address or firewall rule that the kernel refused.
	CodeNetworkFailed Code = "network.failed"
)

// Codes of the overlay (node/mesh).
const (
	CodeMeshInvalid  Code = "mesh.invalid"
	CodeMeshKey      Code = "mesh.key-damaged"
	CodeMeshState    Code = "mesh.state-damaged"
	CodeMeshNoDevice Code = "mesh.device-absent"
	CodeMeshDevice   Code = "mesh.device-failed"
	CodeMeshNoAnswer Code = "mesh.no-answer"
)

// Codes of routing events (node/routing).
const (
	CodeRoutingBadEvent Code = "routing.bad-event"
)

// Codes of deploys (node/deploy).
const (
	CodeSpecInvalid      Code = "deploy.spec-invalid"
	CodeDependencyCycle  Code = "deploy.dependency-cycle"
	CodeNoMachine        Code = "deploy.no-eligible-machine"
	CodeHostnameTaken    Code = "deploy.hostname-taken"
	CodePublishedTaken   Code = "deploy.port-taken"
	CodeSecretAbsent     Code = "deploy.secret-missing"
	CodeConfigAbsent     Code = "deploy.config-missing"
	CodeSecretSealed     Code = "deploy.secret-sealed"
	CodeNotReady         Code = "deploy.not-ready"
	CodeJobFailed        Code = "deploy.job-failed"
	CodeNotApplied       Code = "deploy.route-not-applied"
	CodeNamespaceAbsent  Code = "deploy.namespace-not-found"
	CodeNoSuchService    Code = "deploy.service-not-found"
	CodeCommitAbsent     Code = "deploy.commit-not-found"
	CodeMachineSilent    Code = "deploy.machine-silent"
	CodeControllerAbsent Code = "deploy.limit-not-enforceable"
)

// Codes of Compose files (node/deploy/compose).
const (
	CodeComposeUnreadable  Code = "compose.unreadable"
	CodeComposeSyntax      Code = "compose.syntax"
	CodeComposeUnknown     Code = "compose.unknown-key"
	CodeComposeUnsupported Code = "compose.unsupported-key"
	CodeComposeValue       Code = "compose.bad-value"
	CodeComposeName        Code = "compose.bad-name"
	CodeComposeVariable    Code = "compose.variable-unset"
	CodeComposeFile        Code = "compose.file-missing"
	CodeComposeInvalid     Code = "compose.invalid"
)

// Codes of labs (ployzctl dev).
const (
	CodeDevHost      Code = "dev.host-unfit"
	CodeDevName      Code = "dev.bad-name"
	CodeDevOptions   Code = "dev.bad-options"
	CodeDevNoLab     Code = "dev.no-such-lab"
	CodeDevNoMachine Code = "dev.no-such-machine"
	CodeDevOff       Code = "dev.machine-off"
	CodeDevBroken    Code = "dev.broken-state"
	CodeDevBoot      Code = "dev.boot-failed"
	CodeDevInstall   Code = "dev.install-failed"
	CodeDevLeftovers Code = "dev.leftovers"
)

// Codes of machines and membership (node/machine).
const (
	CodeMachineInitialised Code = "machine.already-initialised"
	CodeMachineDamaged     Code = "machine.identity-damaged"
	CodeMachineUnfit       Code = "machine.unfit"
	CodeMachinePortTaken   Code = "machine.port-taken"
	CodeMachineAbsent      Code = "machine.not-found"
	CodeMachineNameTaken   Code = "machine.name-taken"
	CodeMachineKeyTaken    Code = "machine.key-taken"
	CodeMachineNoSubnet    Code = "machine.no-subnet-left"
	CodeMachineVersion     Code = "machine.version-unfit"
	CodeMachineClock       Code = "machine.clock-off"
	CodeMachineHolds       Code = "machine.holds-instances"
	CodeMachineLeaving     Code = "machine.leaving"
	CodeMachineLast        Code = "machine.last-one"
	CodeMachineNotFollowed Code = "machine.not-followed"
	CodeMachineRelay       Code = "machine.relay-unfit"
	CodeMachineNotBegun    Code = "machine.update-not-begun"
	CodePackageInvalid     Code = "package.invalid"
	CodePackageAbsent      Code = "package.not-found"
	CodePackageUnfit       Code = "package.unfit"
	CodePackageFailed      Code = "package.install-failed"
	CodeTokenInvalid       Code = "token.invalid"
	CodeTokenUsed          Code = "token.used-or-expired"
	CodeTokenUnreachable   Code = "token.cluster-unreachable"
	CodeBadSettings        Code = "daemon.bad-settings"
	CodeServingSilent      Code = "serving.silent"
)

// CodeDoc explains one code to an operator.
type CodeDoc struct {
	Code    Code
	Meaning string
}

// Codes is the table of every code, in the order `ployzctl help errors` prints it.
func Codes() []CodeDoc {
	return []CodeDoc{
		{CodeInternal, "a defect of ours: please report it with the operation's id"},

		{CodeBadRequest, "the request could not be read; the message says where"},
		{CodeUnknownOperation, "no operation of that kind"},
		{CodeNotFound, "nothing of that name"},
		{CodeDaemonUnreachable, "ployzd does not answer on its socket"},
		{CodePermission, "the caller is neither root nor in the group ployz"},
		{CodeDaemonStopping, "the daemon is stopping and takes no new operation"},
		{CodeRemote, "the far machine could not be reached through ssh"},
		{CodeContextAbsent, "no context of that name"},
		{CodeContextInvalid, "the file of contexts, or a context in it, cannot be read"},
		{CodeUsage, "the command line cannot be understood"},
		{CodeNotRunningOp, "the operation is not running on this machine, so it cannot be cancelled here"},
		{CodeNotResolvable, "the operation left nothing that could be cleared by itself; the hint says what to do"},

		{CodeNotInitialised, "the machine is not part of a cluster yet"},

		{CodePlanStale, "the world moved since the plan was shown; look at the new plan"},
		{CodeScopeBusy, "another operation holds the scope"},
		{CodeUnmet, "at least one requirement is unmet; each is listed with its hint"},
		{CodeInterrupted, "an operation on this scope was interrupted and must be dealt with first"},
		{CodeUncertain, "the commit was sent and no answer came: neither success nor failure"},
		{CodeConflict, "another operation committed first"},
		{CodeLedgerDown, "the ledger could not be written, so the step did not act"},
		{CodeStepFailed, "a step failed; what was done before it was undone"},
		{CodeCancelled, "the operation was cancelled by its caller"},
		{CodeUndoFailed, "an undo failed; the leftovers are listed with the command that clears them"},
		{CodeOperationAbsent, "no operation with that id"},
		{CodeLeaseLost, "the coordinator lost its lease on the scope; nothing was committed"},

		{CodeParticipantAbsent, "nobody on the machine listens for commands; nothing was delivered, so nothing was done"},
		{CodeParticipantSilent, "the machine gave no answer in time; whether it acted is not known"},
		{CodeParticipantRefused, "the machine does not take the command: changed on the way, too old, for another machine, or from nobody who may command"},

		{CodeStoreUnavailable, "the store does not answer; the write was not sent"},
		{CodeStoreConflict, "a guarded fact changed since it was read"},
		{CodeStoreUncertain, "the store took the write but no answer came in time"},
		{CodeStoreSettings, "the store runs with settings under which committed facts can be lost"},
		{CodeStoreFull, "the store refuses new facts because it is full"},
		{CodeStoreDiskFull, "a machine's disk has too little room for the store; the message says which, and how much it has"},
		{CodeStoreUnreadable, "a fact is there and is not what its key promises; the subject is its key, and what does not need it goes on"},
		{CodeStoreReadable, "the fact can be read, and only one that cannot is repaired"},
		{CodeStoreNoCopy, "nothing is there from which a fact that cannot be read could be put back; the hint says where else to look"},
		{CodeStoreFactNeeded, "a fact that cannot be read is not removed, since too much would go with it; the hint says what to do instead"},
		{CodeStoreNotFound, "no such fact"},
		{CodeStoreTooLarge, "a fact is larger than the store takes"},
		{CodeStoreBusy, "another process has the store's journal open"},
		{CodeStoreDamaged, "the store's journal is damaged elsewhere than at its torn end; the subject says where"},

		{CodeStoreNoQuorum, "too few of the store's voters are there, so nothing can be written; the message names the missing"},
		{CodeStoreWouldLoseQuorum, "without that voter too few would be there to go on; the message names who is missing already"},
		{CodeStoreChangeInFlight, "the store's copies are being made or moved, or one is behind; wait and repeat"},
		{CodeStoreStillHonoured, "a voter could not be told of a revoked key, or let it in again; the message names it"},
		{CodeStoreNotRescuable, "the store is not in the state that a rescue is for; the message says why"},
		{CodeStoreBackupDamaged, "the backup is cut short or was changed: its digest is not that of its content"},
		{CodeStoreBackupForeign, "the backup is of another cluster, or not a backup of this version"},

		{CodeMachineInitialised, "the machine already belongs to a cluster"},
		{CodeMachineDamaged, "the file that says who this machine is cannot be read"},
		{CodeMachineUnfit, "the machine lacks something that Ployz needs; the message says what"},
		{CodeServingSilent, "the machine's gateway or resolver does not answer on its status socket"},
		{CodeBadSettings, "/etc/ployz/config.toml has something in it that cannot be"},
		{CodeMachinePortTaken, "another program holds a port that Ployz serves on"},
		{CodeMachineAbsent, "the cluster has no machine of that name"},
		{CodeMachineNameTaken, "another machine of the cluster has that name"},
		{CodeMachineKeyTaken, "another machine of the cluster has that key or endpoint"},
		{CodeMachineNoSubnet, "every subnet of the cluster's range belongs to a machine"},
		{CodeMachineVersion, "the machine's version is too old or too new for the cluster"},
		{CodeMachineClock, "the machine's clock and the cluster's are too far apart"},
		{CodeMachineHolds, "the machine still holds instances; the message lists them"},
		{CodeMachineLeaving, "the machine was removed, or is about to be, while the operation ran"},
		{CodeMachineLast, "the cluster's last machine cannot be removed"},
		{CodeMachineNotFollowed, "a machine has not taken the change of membership in time"},
		{CodeMachineRelay, "a machine that cannot be the relay of another, or that cannot go since it is"},
		{CodeMachineNotBegun, "a machine was not updated, since another one's update failed before"},
		{CodePackageInvalid, "the file is no package of Ployz"},
		{CodePackageAbsent, "the machine that is asked does not hold that package"},
		{CodePackageUnfit, "the package is not for such a machine; the message says why"},
		{CodePackageFailed, "the package could not be installed, or the machine does not run it afterwards"},
		{CodeTokenInvalid, "the token was cut short, mistyped or changed"},
		{CodeTokenUsed, "the token was used, has run out or was never given by this cluster"},
		{CodeTokenUnreachable, "the machine that gave the token does not answer over WireGuard; the message says which way is closed"},

		{CodeMeshInvalid, "a key, a peer or a setting of the overlay that cannot be; the subject says which"},
		{CodeMeshKey, "the file of the machine's WireGuard key does not hold one"},
		{CodeMeshState, "the file from which the overlay comes back at boot cannot be read"},
		{CodeMeshNoDevice, "the machine's WireGuard device is not there"},
		{CodeMeshDevice, "the machine's WireGuard device refused, or did not answer"},
		{CodeMeshNoAnswer, "a machine did not answer another over the overlay; the message says what is known of the way"},

		{CodeRoutingBadEvent, "a routing event cannot be served; the namespace's last good view goes on"},

		{CodeSpecInvalid, "the deploy spec asks for something impossible; the subject says where"},
		{CodeDependencyCycle, "services depend on each other in a circle"},
		{CodeNoMachine, "no machine may take an instance; the message has each machine's reason"},
		{CodeHostnameTaken, "another namespace routes that hostname"},
		{CodePublishedTaken, "a published port is held by something else on the machine"},
		{CodeSecretAbsent, "a secret that the spec refers to does not exist"},
		{CodeSecretSealed, "no machine that answers can open the secret; set it again"},
		{CodeConfigAbsent, "a config that the spec refers to does not exist"},
		{CodeNotReady, "an instance did not become ready in time; its last log lines are shown"},
		{CodeJobFailed, "a one-shot job ended with a non-zero status; its last log lines are shown"},
		{CodeNotApplied, "a gateway or resolver has not applied the commit's routing event in time"},
		{CodeNamespaceAbsent, "nothing was ever deployed under that namespace"},
		{CodeNoSuchService, "the namespace has no service of that name"},
		{CodeCommitAbsent, "the namespace has no such commit"},
		{CodeMachineSilent, "a machine that the operation needs does not answer"},
		{CodeControllerAbsent, "the machine's kernel cannot enforce a resource limit that the spec asks for"},

		{CodeComposeUnreadable, "the Compose file, or its .env, cannot be read"},
		{CodeComposeSyntax, "the Compose file is not YAML of the right shape; the subject has the line"},
		{CodeComposeUnknown, "a key that Compose does not have: misspelt, or in the wrong place"},
		{CodeComposeUnsupported, "a Compose key that is refused; the message says why, the hint what to do instead"},
		{CodeComposeValue, "a value in the Compose file that cannot be used"},
		{CodeComposeName, "the namespace's or a service's name does not fit into a hostname"},
		{CodeComposeVariable, "a ${VARIABLE} of the Compose file has no value"},
		{CodeComposeFile, "a file that the Compose file names is missing"},
		{CodeComposeInvalid, "several things in the Compose file are wrong; each is listed"},

		{CodeImageBadReference, "not a reference to an image; the message says which part is wrong"},
		{CodeImageNotFound, "no such image, here or in the registry"},
		{CodeImageUnauthorized, "the registry refused the credentials, or asks for some"},
		{CodeRegistryDown, "the registry does not answer, or answers nonsense"},
		{CodeDigestMismatch, "bytes arrived that are not the ones their digest names"},
		{CodeLayerCorrupt, "a layer is cut short, does not unpack, or unpacks to something else than declared"},
		{CodeLayerEscape, "an entry of a layer reaches outside the image's root; nothing of the layer is kept"},
		{CodeImageTooLarge, "a layer has more entries or bytes than the limits allow"},
		{CodeImageDiskFull, "not enough free space for the image; the half-written part is removed again"},
		{CodeImageNoPlatform, "the image has no variant for this machine's architecture"},
		{CodeImageInUse, "the image is used by an instance"},
		{CodeImageMedia, "the image is of a kind that is not supported"},
		{CodeImageBadArchive, "neither an OCI layout nor a docker-save archive, or one with parts missing"},
		{CodeImageNoUser, "the image has no user or group of that name"},
		{CodeImageStoreBusy, "a pull or import is under way in the image store"},
		{CodeImageDamaged, "a stored image no longer matches its digest"},

		{CodeRuntimeNotFound, "no instance with that id on this machine"},
		{CodeRuntimeConflict, "an instance with that id exists and is another one"},
		{CodeRuntimeInvalid, "the instance's description is incomplete or contradicts itself"},
		{CodeRuntimeUnsupported, "this runtime cannot do what the description asks for"},
		{CodeControllerMissing, "the kernel lacks the cgroup controller that the limit needs"},
		{CodeRuntimeDiskFull, "not enough free space for the instance's files"},
		{CodeStartFailed, "the instance did not start; its last log lines are in the message"},
		{CodeStopFailed, "the instance did not stop in time"},
		{CodeRuntimeBusy, "the instance runs and must be stopped first"},
		{CodeNotRunning, "the instance does not run"},
		{CodeExecFailed, "the command could not be run inside the instance"},
		{CodeFreezeFailed, "the instance could not be made to stand still, or to go on"},
		{CodeCommandAbsent, "the instance has no such command"},
		{CodeCommandUnusable, "the command is there and cannot be executed"},
		{CodeLogsFailed, "the journal could not be read"},
		{CodeRuntimeDamaged, "an instance's files are incomplete or were changed by hand"},

		{CodeVolumeInvalid, "a volume's id, name, size, owner or mode, or a snapshot's name, cannot be that"},
		{CodeVolumeNotFound, "no volume of that id in the machine's pool"},
		{CodeVolumeNameTaken, "another volume has that name, or that id"},
		{CodeVolumeNotOurs, "something without a mark of ours is in the way; it was left alone"},
		{CodeVolumeNoSpace, "the pool has not, or would not have, the space"},
		{CodeVolumeShrink, "the volume holds more than the size asked for"},
		{CodeVolumeUnenforced, "volumes have a size, and may grow beyond it at present: the file system does not count or limit them"},
		{CodeVolumeInUse, "something still uses the volume: a mount, or a stream that arrives"},
		{CodeVolumeUnclaimed, "no fact names the volume, and nothing proves that its data is not needed"},
		{CodeVolumeNotLive, "the volume was removed, swapped out or only received; it has to be restored first"},
		{CodeVolumeNotKept, "the volume is live, and this is only for one that was removed or received"},
		{CodeVolumeSnapshotNotFound, "the volume has no snapshot of that name"},
		{CodeVolumeSnapshotTaken, "some of the volumes have a snapshot of that name already"},
		{CodeVolumeSnapshotNeeded, "a hold or a clone needs the snapshot"},
		{CodeVolumeBaseMissing, "the stream's base is not here, or the volume was written since"},
		{CodeVolumeStreamForeign, "a stream of one file system cannot be received into another"},
		{CodeVolumeStreamDamaged, "the stream broke off, or is not what it says it is"},
		{CodeVolumePoolUnavailable, "the machine's pool is not there, not mounted, or not ours"},
		{CodeVolumePoolFailed, "the file system refused; the message has its words"},
		{CodeVolumePoolAbsent, "the machine was never given a pool, so it can have no volumes"},
		{CodeVolumeTransferCut, "the other machine, or the link to it, went away while a volume was carried; what is whole stays"},
		{CodeVolumeNotOffered, "the machine that has the volume does not let this one fetch it"},
		{CodeVolumeNotConverging, "the volume is written faster than it is sent, or a stop would take longer than it may"},
		{CodeVolumeScope, "a volume is one for the namespace or one for each slot, and that cannot change while it is live"},
		{CodeVolumeSpread, "a volume of scope namespace is on one machine, and instances on several were to mount it"},
		{CodeVolumeSlot, "a volume of scope slot is one for each slot, and the slot was not named, or is not there"},
		{CodeVolumeCopied, "a copy that was sent to another machine goes only by name, and before the volume that it is of"},
		{CodeVolumeThere, "the machine that a volume was to move to has it"},
		{CodeVolumeQuiesce, "an instance could not be brought to hold still for a snapshot; it goes on as before"},
		{CodeBranchExists, "a namespace of the branch's name is there already"},
		{CodeBranchAbsent, "the namespace did not begin as a branch"},
		{CodeBranchSecrets, "the branch or the target needs secrets, and nobody said which values they get"},
		{CodeBranchHosts, "a branch's hostname cannot be made from the template, or two would be the same"},
		{CodePromoteUnlike, "the branch has something that cannot be the target's, such as a hostname of its own"},
		{CodeVolumeLineage, "the data that a commit left cannot be given back: its snapshot is gone, was never taken, or is on another machine"},

		{CodeSupervisorDown, "the service supervisor (systemd) does not answer"},
		{CodeServiceAbsent, "no unit of that name"},
		{CodeServiceForeign, "a unit file of that name exists and is not ours"},
		{CodeServiceFailed, "the unit did not start; its last log lines say why"},
		{CodeServiceReload, "the running service did not take the new program or configuration over and serves on as before"},
		{CodeServiceStop, "the unit did not stop in time"},

		{CodeNetworkFailed, "a link, an address or a firewall rule could not be made; the message has the kernel's answer"},
		{CodePortTaken, "somebody else listens on the port; the message says who"},

		{CodeDevHost, "this computer lacks something that a lab of machines needs"},
		{CodeDevName, "no usable name for a lab"},
		{CodeDevOptions, "the lab cannot be made or used as asked"},
		{CodeDevNoLab, "no lab of that name"},
		{CodeDevNoMachine, "the lab has no machine of that name"},
		{CodeDevOff, "the machine is not booted"},
		{CodeDevBroken, "the lab's own file cannot be read"},
		{CodeDevBoot, "a machine, or the lab's network, did not come up"},
		{CodeDevInstall, "a package could not be installed in a machine"},
		{CodeDevLeftovers, "something of the lab could not be removed"},
	}
}
