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

// Codes of the store (node/store).
const (
	CodeStoreUnavailable Code = "store.unavailable"
	CodeStoreConflict    Code = "store.conflict"
	CodeStoreUncertain   Code = "store.uncertain"
	CodeStoreSettings    Code = "store.unsafe-settings"
	CodeStoreFull        Code = "store.full"
	CodeStoreNotFound    Code = "store.not-found"
	CodeStoreTooLarge    Code = "store.too-large"
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

		{CodeStoreUnavailable, "the store does not answer; the write was not sent"},
		{CodeStoreConflict, "a guarded fact changed since it was read"},
		{CodeStoreUncertain, "the store took the write but no answer came in time"},
		{CodeStoreSettings, "the store runs with settings under which committed facts can be lost"},
		{CodeStoreFull, "the store refuses new facts because it is full"},
		{CodeStoreNotFound, "no such fact"},
		{CodeStoreTooLarge, "a fact is larger than the store takes"},
	}
}
