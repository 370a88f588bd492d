package operation

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Operation is one primitive. A value is used for one run or one preview.
type Operation interface {
	// Kind is the operation's name in the ledger, such as "deploy".
	Kind() string
	// Scope is what must not change under it, such as "ns/shop" or "cluster".
	Scope() string
	// Inspect reads intent and live preconditions into the operation's own fields, and
	// changes nothing. An error refuses the operation.
	Inspect(ctx context.Context, before Situation) error
	// Plan turns what Inspect saw into requirements, phases, commit and cleaning up. It reads
	// nothing but the operation's fields and is called once.
	Plan() Plan
}

// ScopeFinder is an operation whose scope stands in the facts, such as a promotion to where a branch came from.
type ScopeFinder interface {
	// FindScope reads what Scope needs. The runner calls it before anything else; an error refuses the operation.
	FindScope(ctx context.Context) error
}

// Resulter is an operation with a typed result for the outcome's value.
type Resulter interface {
	// Result is called after the commit; what it returns is encoded as JSON.
	Result() any
}

// Situation is what the runner knows when an operation begins to look around.
type Situation struct {
	// Operation is the id of this run; empty in a preview.
	Operation string
	Caller    string
	// Fence is the scope's fence; 0 in a preview. An operation that looks at participants shows it
	// to them, so that nobody whose lease was taken changes what it then sees.
	Fence store.Revision
	// Unfinished is the last operation that was interrupted, stranded or uncertain on this scope, or nil. An
	// operation whose plan clears what it, and any before it, left sets Plan.Resolves.
	Unfinished *Unfinished
	// Earlier are those before it whose clearing it owed and did not come to, newest first.
	Earlier []Unfinished
}

// Unfinished is an operation that never reached a clean end.
type Unfinished struct {
	Operation string `json:"operation"`
	Kind      string `json:"kind"`
	// Committed says whether its commit is in the store.
	Committed bool `json:"committed,omitempty"`
}

// Plan is what an operation will do. All of it is shown before any of it is done.
type Plan struct {
	Requirements []Requirement
	Changes      []api.Change
	Phases       []Phase
	Commit       Commit
	// Cleanup follows the commit, one step after another but for those that may run beside each other; a failure there is a
	// leftover, never an undo.
	Cleanup []Step
	// Resolves says that the plan also clears what Situation.Unfinished left behind.
	Resolves bool
}

// Requirement is one precondition. Unmet is nil when it holds.
type Requirement struct {
	Name  string
	Unmet *api.Error
}

// Phase is a named group of steps; up to Width of them run at once (0 means one after another).
type Phase struct {
	Name  string
	Steps []Step
	Width int
}

// Step is one bounded action and its inverse.
type Step struct {
	// Name is unique in the plan, or at least on its participant: a verb and a thing, such as "start web-0".
	Name string
	// Participant is the machine that acts; empty for the coordinator.
	Participant string
	// Timeout bounds Do and, separately, Undo; 0 means the runner's.
	Timeout time.Duration
	// Do acts. It is safe to repeat.
	Do func(ctx context.Context, act *Act) error
	// Undo takes back whatever Do did, also a part of it or nothing. Nil when there is
	// nothing to take back.
	Undo func(ctx context.Context, act *Act) error
	// Clear is the command for the operator when Undo, or a cleaning step, fails.
	Clear string
	// Beside says of a cleaning step that it may run beside the one before it.
	Beside bool
}

// Commit is the one moment after which the operation counts as done.
type Commit struct {
	// Witness is the guarded fact of the batch. Its value is a JSON object whose "operation" is this
	// operation's id, so that anybody can find out later whether the commit landed.
	Witness store.Key
	// Expect is the witness's revision that Inspect saw.
	Expect store.Revision
	// Checks guards the commit by facts that it does not write, as Inspect saw them.
	Checks []store.Check
	// Moved says what it means that one of the checked facts has changed; nil is the kernel's own sentence.
	Moved func(key store.Key) *api.Error
	// Batch renders the writes, after all phases are done. The runner adds the id and the
	// lease's check.
	Batch func(operation string) ([]store.Put, error)
	// Content is what the plan's digest covers of the batch: plain data without operation ids.
	Content any
	// ID is the commit's own id for the outcome, from the operation's id; nil where it has none.
	ID func(operation string) string
}

// Act is a step's handle on the run that it is part of.
type Act struct {
	// Operation and Scope identify the run; Fence is what participants compare.
	Operation string
	Scope     string
	Fence     store.Revision
	Step      string

	emit   func(api.Event)
	commit func(context.Context, store.Batch) (store.Revision, error)
}

// Commit sends a step's own batch, which holds only while this run holds the scope. It is not the operation's
// commit. Errors: operation.lease-lost, and Facts.Commit's.
func (a *Act) Commit(ctx context.Context, batch store.Batch) (store.Revision, error) {
	return a.commit(ctx, batch)
}

// Progress shows bytes moved of one part; total is -1 when unknown. It is not in the ledger.
func (a *Act) Progress(part string, done, total int64) {
	a.emit(api.Event{Type: api.EventProgress, Step: a.Step, Part: part, Done: done, Total: total})
}

// Note tells the audience something in a sentence. It is not in the ledger.
func (a *Act) Note(message string) {
	a.emit(api.Event{Type: api.EventNote, Step: a.Step, Message: message})
}

// Met returns a requirement that holds unless err says otherwise.
func Met(name string, err *api.Error) Requirement { return Requirement{Name: name, Unmet: err} }

// witnessed is the part of every witness's value that the runner reads.
type witnessed struct {
	Operation string `json:"operation"`
}

func witnessOf(value []byte) string {
	var w witnessed
	if json.Unmarshal(value, &w) != nil {
		return ""
	}
	return w.Operation
}
