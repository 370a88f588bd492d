package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/store"
)

// judge holds what is at the end against the promises. What can be told at once is told at once by the witness.
func (w *world) judge() {
	w.witness.refusedChangedNothing()
	for _, ns := range namespaces {
		w.judgeHistory(ns)
		w.judgeMachines(ns)
		w.judgeRoute(ns)
	}
	w.judgeMembers()
	w.judgeVoters()
	w.judgeOpen()
}

func (w *world) someMember() string {
	for n := 1; n <= len(w.machines); n++ {
		if w.isMember(machineName(n)) {
			return machineName(n)
		}
	}
	return ""
}

func (w *world) isMember(name string) bool {
	members, _ := w.members() // the mirror never fails
	return named(members, name)
}

// known says that something was begun in a namespace.
func (w *world) known(ns string) bool {
	for _, key := range []store.Key{store.Head(ns), store.Open("ns/" + ns)} {
		if _, err := w.store.Facts().Get(context.Background(), key); err == nil {
			return true
		}
	}
	return false
}

// unsettled says that a member has a role, or that something was begun and not ended on its scope.
func (w *world) unsettled(name string) bool {
	members, _ := w.members() // the mirror never fails
	for _, m := range members {
		if m.Name == name {
			_, err := w.store.Facts().Get(context.Background(), store.Open("machine/"+name))
			return m.Role != "" || err == nil
		}
	}
	return false
}

// wantCommitted wants a calm cluster to do what is asked.
func (w *world) wantCommitted(id string) {
	for _, run := range w.witness.all() {
		if run.id == id && (run.out == nil || run.out.Outcome != api.Committed) {
			w.witness.breaks("in the calm, %s ended %s", run.ask, text(run.out))
		}
	}
}

func text(v any) string {
	t, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(t)
}

// history reads a namespace's commits, the oldest first.
func (w *world) history(ns string) []api.Commit {
	list, err := w.store.Facts().List(context.Background(), store.Commits(ns))
	if err != nil {
		w.witness.breaks("the history of %s cannot be read: %v", ns, err)
	}
	commits := make([]api.Commit, len(list))
	for i, fact := range list {
		if err := json.Unmarshal(fact.Value, &commits[i]); err != nil {
			w.witness.breaks("%s cannot be read: %v", fact.Key, err)
		}
	}
	slices.SortFunc(commits, func(a, b api.Commit) int { return a.Number - b.Number })
	return commits
}

// judgeHistory wants a chain of commits, each made by one operation, and in it all that were seen to land.
func (w *world) judgeHistory(ns string) {
	made := map[string]int{}
	for i, c := range w.history(ns) {
		if c.Number != i+1 || c.Parent != i {
			w.witness.breaks("commit %d of %s follows %d, in place %d", c.Number, ns, c.Parent, i+1)
		}
		if made[c.Operation] != 0 {
			w.witness.breaks("%s made commits %d and %d of %s", c.Operation, made[c.Operation], c.Number, ns)
		}
		made[c.Operation] = c.Number
	}
	for _, run := range w.witness.all() {
		if run.scope == "ns/"+ns && run.committed != (made[run.id] != 0) {
			w.witness.breaks("%s: seen to commit: %t; in the history of %s: %t", run.id, run.committed, ns, made[run.id] != 0)
		}
	}
}

// current is a namespace's last commit; one without slots where nothing is deployed.
func (w *world) current(ns string) api.Commit {
	commit, err := deploy.Current(context.Background(), w.store.Facts(), ns)
	if err != nil && api.CodeOf(err) != api.CodeNamespaceAbsent {
		w.witness.breaks("the head of %s cannot be read: %v", ns, err)
	}
	return commit
}

// judgeMachines wants the members to run exactly the last commit's slots.
func (w *world) judgeMachines(ns string) {
	want, got := map[string]string{}, map[string]string{}
	for _, slot := range w.current(ns).Slots {
		want[slot.Instance] = fmt.Sprintf("%s on %s", runtime.StateRunning, slot.Machine)
	}
	for name, m := range w.machines {
		if !w.isMember(name) {
			continue
		}
		seen, err := m.runtime.List(context.Background())
		if err != nil {
			w.witness.breaks("%s cannot be listed: %v", name, err)
		}
		for _, o := range seen {
			if o.Spec.Namespace == ns {
				got[o.ID] = fmt.Sprintf("%s on %s", o.State, name)
			}
		}
	}
	if !maps.Equal(want, got) {
		w.witness.breaks("%s should be %v, and is %v", ns, want, got)
	}
}

// judgeRoute wants the routing event to name the last commit's instances and no others.
func (w *world) judgeRoute(ns string) {
	var want, got []string
	for _, slot := range w.current(ns).Slots {
		want = append(want, slot.Instance)
	}
	fact, err := w.store.Facts().Get(context.Background(), store.Route(ns))
	if err == nil {
		var view routing.View
		if err := json.Unmarshal(fact.Value, &view); err != nil {
			w.witness.breaks("%s cannot be read: %v", fact.Key, err)
		}
		for _, service := range view.Services {
			for _, in := range service.Instances {
				got = append(got, in.ID)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		w.witness.breaks("%s routes %v, and its last commit has %v", ns, got, want)
	}
}

// judgeMembers wants every name and subnet to be one member's, and claimed by it.
func (w *world) judgeMembers() {
	members, _ := w.members() // the mirror never fails
	names, numbers := map[string]string{}, map[uint16]string{}
	for _, m := range members {
		if names[m.Name] != "" || numbers[m.Number] != "" {
			w.witness.breaks("%s has the name %s and the subnet %d, and so has another", m.ID, m.Name, m.Number)
		}
		names[m.Name], numbers[m.Number] = m.ID, m.ID
		w.wantClaim(store.MachineName(m.Name), m)
		w.wantClaim(store.MachineSubnet(m.Number), m)
	}
	for _, prefix := range []store.Key{"machinename", "machinesubnet"} {
		list, err := w.store.Facts().List(context.Background(), prefix)
		if err != nil || len(list) != len(members) {
			w.witness.breaks("%d members hold %d claims of %s (%v)", len(members), len(list), prefix, err)
		}
	}
}

// judgeVoters wants those to vote in the store of whom the facts say so.
func (w *world) judgeVoters() {
	var cluster machine.Cluster
	fact, err := w.store.Facts().Get(context.Background(), store.Cluster())
	if err == nil {
		err = json.Unmarshal(fact.Value, &cluster)
	}
	slices.Sort(cluster.Voters)
	w.core.mu.Lock()
	defer w.core.mu.Unlock()
	if got := slices.Sorted(maps.Keys(w.core.voting)); err != nil || !slices.Equal(cluster.Voters, got) {
		w.witness.breaks("%v should vote, and %v do (%v)", cluster.Voters, got, err)
	}
}

func (w *world) wantClaim(key store.Key, m machine.Member) {
	fact, err := w.store.Facts().Get(context.Background(), key)
	var c claim
	if err != nil || json.Unmarshal(fact.Value, &c) != nil || c.Machine != m.ID {
		w.witness.breaks("%s is not claimed by %s but by %q (%v)", key, m.ID, c.Machine, err)
	}
}

// judgeOpen wants every scope that was settled to be closed. A machine that is none of the cluster's has no
// operation that would close its scope.
func (w *world) judgeOpen() {
	open, err := w.store.Facts().List(context.Background(), store.Opens())
	if err != nil {
		w.witness.breaks("the open facts cannot be read: %v", err)
	}
	for _, fact := range open {
		name, ofMachine := strings.CutPrefix(fact.Key.Last(), "machine_")
		if !ofMachine || w.isMember(name) {
			w.witness.breaks("%s is still open: %s", fact.Key, fact.Value)
		}
	}
}
