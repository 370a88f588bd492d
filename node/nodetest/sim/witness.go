package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
)

// witness sees every write of the store, every act of a participant and every outcome. It has a memory of its own,
// so that what the kernel forgets is still known here.
type witness struct {
	w *world

	mu sync.Mutex
	// All below is guarded by mu.
	runs     map[string]*seenRun
	high     map[string]store.Revision // the highest fence that a machine saw, by machine and scope
	launched map[string]launch         // by instance
	ready    map[string]bool           // instances that a participant found ready
	writes   int
	timeline []string
	broken   []string
}

// seenRun is what was seen of one operation.
type seenRun struct {
	id, scope string
	ask       ask
	acts      []string // what participants did for it, but listening to no older fence
	writes    []string // its batches, but for its lease
	committed bool     // its commit is in the store
	out       *api.Outcome
}

type launch struct {
	run string
	on  *simMachine
}

func newWitness(w *world) *witness {
	return &witness{w: w, runs: map[string]*seenRun{}, high: map[string]store.Revision{}, launched: map[string]launch{}, ready: map[string]bool{}}
}

func (x *witness) note(at time.Duration, format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.noteLocked(at, format, args...)
}

func (x *witness) noteLocked(at time.Duration, format string, args ...any) {
	x.timeline = append(x.timeline, fmt.Sprintf("%10.3fs  %s", at.Seconds(), fmt.Sprintf(format, args...)))
}

// breakLocked records that a promise was broken.
func (x *witness) breakLocked(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	x.broken = append(x.broken, why)
	x.noteLocked(time.Since(x.w.began), "BROKEN: %s", why)
}

func (x *witness) breaks(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.breakLocked(format, args...)
}

// begins introduces a run.
func (x *witness) begins(id, scope string, a ask) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.runs[id] = &seenRun{id: id, scope: scope, ask: a}
	x.noteLocked(time.Since(x.w.began), "%s: %s", id, a)
}

// landed sees every batch that the store took, at the moment when it did.
func (x *witness) landed(b store.Batch) {
	id, what, _ := strings.Cut(b.ID, "-")
	orphans := x.w.orphans(b)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.writes++
	run := x.runs[id]
	if run == nil || strings.HasPrefix(what, "lease-") {
		return
	}
	x.noteLocked(time.Since(x.w.began), "%s: %s lands", id, what)
	run.writes = append(run.writes, what)
	if !strings.HasSuffix(what, "-unheld") {
		x.heldLocked(run, what)
	}
	x.routedLocked(id, b)
	for _, orphan := range orphans {
		x.breakLocked("%s leaves %s on a machine that is no member", id, orphan)
	}
	if what == "commit" {
		x.committedLocked(run)
	}
}

// heldLocked wants an operation to hold its scope at the moment when it writes.
func (x *witness) heldLocked(run *seenRun, what string) {
	if holder := x.w.holder(run.scope); holder != run.id {
		x.breakLocked("%s wrote its %s without holding %s, which %q holds", run.id, what, run.scope, holder)
	}
}

// holder is the operation that has a scope now, or "".
func (w *world) holder(scope string) string {
	var holder coordination.Holder
	fact, err := w.store.Facts().Get(context.Background(), store.Lease(scope))
	if err != nil || json.Unmarshal(fact.Value, &holder) != nil {
		return ""
	}
	return holder.Operation
}

// routedLocked wants every instance that is routed to have been ready.
func (x *witness) routedLocked(id string, b store.Batch) {
	for _, p := range b.Puts {
		if !p.Key.Under(store.Routes()) || p.Remove {
			continue
		}
		var view routing.View
		if err := json.Unmarshal(p.Value, &view); err != nil {
			x.breakLocked("%s wrote a routing event that cannot be read: %v", id, err)
		}
		for _, service := range view.Services {
			for _, in := range service.Instances {
				if !x.ready[in.ID] {
					x.breakLocked("%s routed %s before it was ready", id, in.ID)
				}
			}
		}
	}
}

func (x *witness) committedLocked(run *seenRun) {
	if run.committed {
		x.breakLocked("%s committed twice", run.id)
	}
	run.committed = true
	if run.out != nil {
		x.toldLocked(run)
	}
}

// told sees how an operation ended, as its caller is told.
func (x *witness) told(id string, out api.Outcome) {
	x.mu.Lock()
	defer x.mu.Unlock()
	run := x.runs[id]
	run.out = &out
	why := ""
	if out.Error != nil {
		why = fmt.Sprintf(" (%s: %.160s)", out.Error.Code, out.Error.Message)
	}
	x.noteLocked(time.Since(x.w.began), "%s: told %s%s", id, out.Outcome, why)
	x.toldLocked(run)
	if out.Outcome == api.RolledBack {
		x.goneLocked(run)
	}
}

// toldLocked holds what a caller was told of a commit against the store.
func (x *witness) toldLocked(run *seenRun) {
	switch run.out.Outcome {
	case api.Committed, api.CommittedLeftovers:
		if !run.committed {
			x.breakLocked("%s was told %s and is not in the store", run.id, run.out.Outcome)
		}
	case api.Refused, api.RolledBack, api.Stranded:
		if run.committed {
			x.breakLocked("%s was told %s and its commit is in the store", run.id, run.out.Outcome)
		}
	}
}

// goneLocked wants nothing to be left of an operation that was told to be rolled back.
func (x *witness) goneLocked(run *seenRun) {
	for instance, l := range x.launched {
		if l.run != run.id {
			continue
		}
		if _, err := l.on.runtime.Inspect(context.Background(), instance); err == nil {
			x.breakLocked("%s was told %s and %s is still on %s", run.id, api.RolledBack, instance, l.on.name)
		}
	}
}

// refusedChangedNothing is for the end of a run: a refused operation never acted.
func (x *witness) refusedChangedNothing() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, run := range x.runs {
		if run.out == nil || run.out.Outcome != api.Refused {
			continue
		}
		wrote := slices.DeleteFunc(slices.Clone(run.writes), func(what string) bool { return what == "open" })
		if len(run.acts)+len(wrote) > 0 {
			x.breakLocked("%s was told refused, and did %v and wrote %v", run.id, run.acts, wrote)
		}
	}
}

func (x *witness) launchedOn(instance string) *simMachine {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.launched[instance].on
}

func (x *witness) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.writes
}

// all are the runs, in the order of their ids.
func (x *witness) all() []*seenRun {
	x.mu.Lock()
	defer x.mu.Unlock()
	var list []*seenRun
	for _, run := range x.runs {
		list = append(list, run)
	}
	slices.SortFunc(list, func(a, b *seenRun) int { return strings.Compare(a.id, b.id) })
	return list
}

// orphans are the slots that a batch leaves on machines that are none of the cluster's: by a commit that places them
// there, or by taking a membership away.
func (w *world) orphans(b store.Batch) []string {
	if !slices.ContainsFunc(b.Puts, func(p store.Put) bool { return p.Key.Under(store.Heads()) || p.Remove && p.Key.Under(store.Machines()) }) {
		return nil
	}
	commits, err := deploy.Namespaces(context.Background(), w.store.Facts())
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, c := range commits {
		for _, slot := range c.Slots {
			if !w.isMember(slot.Machine) {
				found = append(found, c.Namespace+"/"+slot.Name+" on "+slot.Machine)
			}
		}
	}
	return found
}
