package deploy

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
)

// A prune also forgets snapshots of the data sets that stay: those of commits that no longer keep their data, and those
// that operations took for themselves and need no more. Operators' own are never looked at twice.

// forgettable is a snapshot of a data set that stays, and what a prune decided about it.
type forgettable struct {
	storage.Snapshot
	name, machine string
	goes          bool
	reason        string
}

// inspectForgettable decides about the snapshots of the data sets that stay, each where its fact says that it is.
func (p *PruneVolumes) inspectForgettable(ctx context.Context) error {
	if p.request.ID != "" {
		return nil
	}
	needed := neededMoments(p.history, p.kept.first(p.now.head.Commit))
	for _, fact := range p.volumes {
		for _, c := range fact.Copies {
			needed[pastMoment{fact.ID, c.Snapshot}] = true // the next stream to it is on top of that one
		}
	}
	for _, fact := range p.volumes {
		if p.goes(fact.ID, fact.Machine) {
			continue
		}
		for _, s := range p.snapshots[fact.Machine][fact.ID] {
			if needed[pastMoment{fact.ID, s.Name}] {
				continue
			}
			f := forgettable{Snapshot: s, name: fact.Name, machine: fact.Machine}
			concerns, err := p.judgeSnapshot(ctx, &f)
			if err != nil {
				return err
			}
			if concerns {
				p.forgets = append(p.forgets, f)
			}
		}
	}
	return nil
}

// judgeSnapshot decides whether a snapshot goes that no kept commit and no copy needs. One that does not concern a prune
// is an operator's, or one that may yet be a commit's.
func (p *PruneVolumes) judgeSnapshot(ctx context.Context, f *forgettable) (concerns bool, err error) {
	tag, isOurs := ownTag(f.Name)
	if !isOurs {
		return false, nil
	}
	n := commitOf(f.Name)
	operationID := operationOf(f.Name)
	switch {
	case n > p.now.head.Commit || slices.ContainsFunc(p.cloned[f.machine], func(s storage.Snapshot) bool { return s.Volume == f.Volume && s.Name == f.Name }):
		return false, nil // of a commit that never was, or cleared anyway
	case n == 1:
		f.reason = "it is from before the first commit, and none can be gone back to with it"
	case n > 0:
		f.reason = fmt.Sprintf("it is what commit %d left, and %s", n-1, p.kept)
	case operationID == "":
		f.reason = "a clone took it and does not depend on it"
	default:
		over, err := p.over(ctx, operationID)
		if err != nil {
			return false, err
		}
		if f.reason = "the operation " + operationID + " took it and is over"; !over {
			f.reason = "the operation " + operationID + " took it and has not come to its end"
			return true, nil
		}
	}
	s := unheld(f.Snapshot, tag)
	s.Clones = slices.DeleteFunc(slices.Clone(s.Clones), func(id string) bool { return p.goes(id, f.machine) })
	if len(s.Holds)+len(s.Clones) > 0 {
		f.reason = api.AsError(storage.SnapshotNeeded(s)).Message
		return true, nil
	}
	f.goes = true
	return true, nil
}

// over reports whether an operation cannot need anything any more. One of this namespace cannot, since this one has its
// scope, unless it is left for another to resolve; of any other the ledger says so. One that the ledger has forgotten is
// long over.
func (p *PruneVolumes) over(ctx context.Context, id string) (bool, error) {
	if slices.ContainsFunc(p.unended(), func(u operation.Unfinished) bool { return u.Operation == id }) {
		return p.resolves(), nil
	}
	if p.kit.Log == nil {
		return false, nil
	}
	events, err := operation.History(ctx, p.kit.Log, id)
	if api.CodeOf(err) == api.CodeOperationAbsent {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	sum := operation.Summarise(events, true)
	return sum.Scope == p.Scope() || sum.State != "running", nil
}

// forgetSteps forget what goes, one data set after the other.
func (p *PruneVolumes) forgetSteps() (steps []operation.Step) {
	type place struct{ machine, id, name string }
	var order []place
	names := map[place][]string{}
	for _, f := range p.forgets {
		at := place{f.machine, f.Volume, f.name}
		if !f.goes {
			continue
		}
		if len(names[at]) == 0 {
			order = append(order, at)
		}
		names[at] = append(names[at], f.Name)
	}
	for _, at := range order {
		step := p.act(at.machine, Action{Verb: "prune-snapshots", Volume: at.id, Snapshots: names[at]}, "forget snapshots of "+at.name)
		step.Clear, step.Timeout = "ployzctl volume prune "+p.ns, forgetTime(len(names[at]))
		steps = append(steps, step)
	}
	return steps
}

// forgetTime bounds the forgetting of many snapshots: some file systems take their time for each.
func forgetTime(n int) time.Duration { return time.Minute + time.Duration(n)*time.Second }

// forgetChanges is what the preview says of snapshots.
func (p *PruneVolumes) forgetChanges() (list []api.Change) {
	for _, f := range p.forgets {
		change := api.Change{Action: "keep", Subject: "snapshot " + f.name + "@" + f.Name + " (" + f.Volume + ")", Machine: f.machine, Reason: f.reason}
		if f.goes {
			change.Action = "forget"
		}
		if f.OwnBytes > 0 {
			change.From = storage.SizeText(f.OwnBytes)
		}
		list = append(list, change)
	}
	return list
}

// forgotten is what the result says of them.
func (p *PruneVolumes) forgotten() []api.PrunedSnapshot {
	list := []api.PrunedSnapshot{}
	for _, f := range p.forgets {
		if f.goes {
			list = append(list, api.PrunedSnapshot{Volume: f.Volume, Name: f.name, Machine: f.machine, Snapshot: f.Name, OwnBytes: f.OwnBytes, Reason: f.reason})
		}
	}
	return list
}

// ownTag is the tag by which a snapshot is held that commits or operations took, from its name; "" is none. An
// operator's is not ours.
func ownTag(snapshot string) (tag string, ours bool) {
	switch id := operationOf(snapshot); {
	case commitOf(snapshot) > 0:
		return commitHold, true
	case id != "":
		return id, true
	}
	return "", strings.HasPrefix(snapshot, clonePrefix)
}

// commitOf is the number of the commit that took a snapshot; 0 where none did.
func commitOf(snapshot string) int {
	digits, found := strings.CutPrefix(snapshot, "c")
	n, err := strconv.Atoi(digits)
	if !found || err != nil || snapshotName(n) != snapshot {
		return 0
	}
	return n
}

// operationOf is the operation that took a snapshot for itself; "" where none did.
func operationOf(snapshot string) string {
	at := strings.LastIndex(snapshot, "-")
	if !strings.HasPrefix(snapshot, "op-") || at <= len("op-") {
		return ""
	}
	if id := snapshot[len("op-"):at]; storage.IsOperationSnapshot(id, snapshot) {
		return id
	}
	return ""
}
