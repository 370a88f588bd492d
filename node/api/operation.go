package api

import (
	"encoding/json"
	"time"
)

// Result is how an operation ended. Each has one exit status; see Exit.
type Result string

// The results, in the words that --json and the ledger use.
const (
	// Committed: done, durable, nothing left over.
	Committed Result = "committed"
	// Refused: a requirement was unmet, the plan was stale or the scope busy; nothing was touched.
	Refused Result = "refused"
	// RolledBack: a step or the commit failed and everything done before was undone.
	RolledBack Result = "rolled-back"
	// Stranded: undoing failed too; the leftovers say what remains and how to clear it.
	Stranded Result = "stranded"
	// Uncertain: the commit was sent and no answer came.
	Uncertain Result = "uncertain"
	// CommittedLeftovers: committed, but cleaning up after it was not complete.
	CommittedLeftovers Result = "committed-with-leftovers"
	// Interrupted: the coordinator died; a later operation on the scope must deal with it.
	Interrupted Result = "interrupted"
	// Failed: an error outside the form, such as an unreachable daemon or a defect.
	Failed Result = "failed"
)

// Exit returns the process exit status of a result: the answer to "was anything touched?".
func (r Result) Exit() int {
	switch r {
	case Committed:
		return 0
	case Refused:
		return 3
	case RolledBack:
		return 4
	case Stranded, Interrupted:
		return 5
	case Uncertain:
		return 6
	case CommittedLeftovers:
		return 7
	}
	return 1
}

// ExitUsage is the exit status for a command line that cannot be understood.
const ExitUsage = 2

// Outcome is the last word on an operation: the last event of its stream, and the object that
// --json ends with.
type Outcome struct {
	Outcome   Result `json:"outcome"`
	Operation string `json:"operation,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Scope     string `json:"scope,omitempty"`
	// Commit is the id of the deploy commit, where the operation made one.
	Commit string `json:"commit,omitempty"`
	// Revision is the store's position of the commit.
	Revision  uint64     `json:"revision,omitempty"`
	Error     *Error     `json:"error,omitempty"`
	Leftovers []Leftover `json:"leftovers,omitempty"`
	// Took is the time from the request to the outcome.
	Took Duration `json:"took,omitempty"`
	// Value is the operation's own typed result.
	Value json.RawMessage `json:"value,omitempty"`
}

// Leftover is one thing that an operation could not clean up.
type Leftover struct {
	Subject string `json:"subject"`
	Problem string `json:"problem"`
	// Clear is the command that clears it.
	Clear string `json:"clear"`
}

// Plan is what a preview shows, and what --plan binds an operation to.
type Plan struct {
	Kind   string `json:"kind"`
	Scope  string `json:"scope"`
	Digest string `json:"digest"`
	// Unmet are the requirements that refuse the operation, each with its hint.
	Unmet   []*Error    `json:"unmet,omitempty"`
	Changes []Change    `json:"changes"`
	Phases  []PlanPhase `json:"phases"`
}

// PlanPhase lists a phase's steps by name.
type PlanPhase struct {
	Name  string   `json:"name"`
	Steps []string `json:"steps"`
}

// Change is one line of a preview: what will be different, and why.
type Change struct {
	// Action is "create", "replace", "update", "keep", "stop", "remove" or "run"; of a volume also "grow", "shrink",
	// "restore" (it gets its name back), "retire" (it loses its name and is kept), "destroy" (for good) or, of a
	// snapshot, "forget" (likewise); of an instance also "quiesce" (it holds still for a snapshot); of what a branch
	// leaves out "omit".
	Action  string `json:"action"`
	Subject string `json:"subject"`
	Machine string `json:"machine,omitempty"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// Event types, in the order in which an operation emits them. All but EventProgress and EventNote
// are ledger entries too; those of what is about to happen are durable before it does.
const (
	EventOpened       = "opened"
	EventPhase        = "phase"
	EventStepIntended = "step-intended"
	EventStepDone     = "step-done"
	EventStepFailed   = "step-failed"
	EventUndoIntended = "undo-intended"
	EventUndone       = "undone"
	EventUndoFailed   = "undo-failed"
	EventCommitSent   = "commit-sent"
	EventCommitted    = "committed"
	EventNotCommitted = "not-committed"
	EventResolved     = "resolved"
	EventOutcome      = "outcome"
	EventProgress     = "progress"
	EventNote         = "note"
)

// Event is one line of an operation's stream and, but for progress, one entry of the ledger.
type Event struct {
	Type      string    `json:"type"`
	Time      time.Time `json:"time"`
	Operation string    `json:"operation"`
	Kind      string    `json:"kind"`
	Scope     string    `json:"scope"`

	// Set on opened.
	Caller  string          `json:"caller,omitempty"`
	Machine string          `json:"machine,omitempty"`
	Request json.RawMessage `json:"request,omitempty"`
	Digest  string          `json:"digest,omitempty"`

	// Phase is the phase's name, number Index of Of, counted from 1.
	Phase       string `json:"phase,omitempty"`
	Index       int    `json:"index,omitempty"`
	Of          int    `json:"of,omitempty"`
	Step        string `json:"step,omitempty"`
	Participant string `json:"participant,omitempty"`

	// Elapsed is the time since the operation opened; Took that of the step that ended.
	Elapsed Duration `json:"elapsed,omitempty"`
	Took    Duration `json:"took,omitempty"`

	// Part, Done and Total are a progress event's bytes; Total is -1 when unknown.
	Part  string `json:"part,omitempty"`
	Done  int64  `json:"done,omitempty"`
	Total int64  `json:"total,omitempty"`

	Message string `json:"message,omitempty"`
	Error   *Error `json:"error,omitempty"`

	// Witness and Expect, on commit-sent, are the fact that decides and the revision it had.
	Witness string `json:"witness,omitempty"`
	Expect  uint64 `json:"expect,omitempty"`

	// By, on resolved, is the operation that dealt with this one.
	By      string   `json:"by,omitempty"`
	Outcome *Outcome `json:"result,omitempty"`
}

// OperationSummary is one line of `operation ls`.
type OperationSummary struct {
	Operation string    `json:"operation"`
	Kind      string    `json:"kind"`
	Scope     string    `json:"scope"`
	Caller    string    `json:"caller,omitempty"`
	Opened    time.Time `json:"opened"`
	// State is "running", "interrupted" or the result's word.
	State string `json:"state"`
	Error *Error `json:"error,omitempty"`
	// ResolvedBy names the operation that dealt with an interrupted or stranded one.
	ResolvedBy string `json:"resolvedBy,omitempty"`
}

// OperationDetail is the answer of GET /v1/operations/{id}: the summary and every ledger entry.
type OperationDetail struct {
	OperationSummary
	Entries []Event `json:"entries"`
}
