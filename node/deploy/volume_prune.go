package deploy

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// PruneVolumes destroys kept data sets and copies for good, and forgets snapshots that no commit needs. The facts go with
// its commit, so that nobody restores a data set any more, and the data after it: what it does not come to, the next
// prune finds in the fact of this one, and snapshots it finds again where they are.
type PruneVolumes struct {
	volumeChange
	request api.VolumePruneRequest

	kept    kept
	history []api.Commit // all of the namespace, oldest first
	commits []api.Commit // those that need their data
	last    pruned
	// revision is that of the fact of the last prune.
	revision store.Revision
	all      []prunable
	// snapshots are what the pools say, by machine and data set.
	snapshots map[string]map[string][]storage.Snapshot
	forgets   []forgettable
}

// pruned is the value of the fact of a namespace's last prune.
type pruned struct {
	Operation string `json:"operation"`
	// Owed are the data sets that have no fact any more and are to be destroyed.
	Owed []owed `json:"owed,omitempty"`
	// KeptFrom is the oldest commit whose data any prune has left.
	KeptFrom int `json:"keptFrom,omitempty"`
}

type owed struct {
	ID      string `json:"id"`
	Machine string `json:"machine"`
	// Copy says that it was one of a volume on another machine.
	Copy bool `json:"copy,omitempty"`
}

// prunable is a data set that may go.
type prunable struct {
	id, name, machine string
	// fact is nil for what a pool has and no fact names, and for a copy, of the volume of a fact; seen is nil for what a
	// fact names and the pool has not.
	fact, of  *volumeFact
	seen      *storage.Volume
	snapshots []storage.Snapshot
	// copy says that what it holds is, or was, on another machine as well.
	copy bool
	// maker is the operation, over and never committed, that made it and left it without a fact.
	maker  string
	goes   bool
	reason string
	// stays is why it cannot go, where somebody asks for just this one.
	stays *api.Error
}

// NewPruneVolumes prepares it.
func NewPruneVolumes(kit Kit, request api.VolumePruneRequest) *PruneVolumes {
	return &PruneVolumes{volumeChange: volumeChange{change: change{kit: kit, ns: request.Namespace, kind: api.KindVolumePrune}}, request: request}
}

// Inspect implements operation.Operation.
func (p *PruneVolumes) Inspect(ctx context.Context, before operation.Situation) error {
	if p.request.KeepCommits < 0 || p.request.KeepCommits > api.MaxKeepCommits || p.request.OlderThan != nil && *p.request.OlderThan < 0 {
		return api.Errorf(api.CodeBadRequest, "neither how many commits keep their data nor an age can be less than nothing, nor those commits more than %d", api.MaxKeepCommits).About(p.ns)
	}
	if err := p.look(ctx, before); err != nil {
		return err
	}
	if err := p.inspectCommits(ctx); err != nil {
		return err
	}
	if err := p.inspectLast(ctx); err != nil {
		return err
	}
	if p.unheardOf() {
		return noNamespace(p.ns)
	}
	p.collect()
	if err := p.inspectMakers(ctx); err != nil {
		return err
	}
	p.inspectSnapshots(ctx)
	p.judgeAll()
	if err := p.inspectForgettable(ctx); err != nil {
		return err
	}
	return p.needAsked()
}

// unheardOf says that nothing was ever done under the name, and nothing lies under it.
func (p *PruneVolumes) unheardOf() bool {
	lies := func(m candidate) bool { return len(m.stored.Volumes) > 0 }
	return len(p.history)+len(p.volumes)+len(p.unended()) == 0 && !slices.ContainsFunc(p.machines, lies)
}

// inspectCommits reads the history, and what is kept of it.
func (p *PruneVolumes) inspectCommits(ctx context.Context) error {
	var err error
	if p.history, err = readCommits(ctx, p.kit.Facts, p.ns); err != nil {
		return err
	}
	var says *api.Retention
	if n := len(p.history); n > 0 { // also where it took everything away
		says = p.history[n-1].Spec.Retention
	}
	p.kept = keptBy(says, p.request)
	first := p.kept.first(p.now.head.Commit)
	p.commits = slices.DeleteFunc(slices.Clone(p.history), func(c api.Commit) bool { return c.Number < first })
	return nil
}

func (p *PruneVolumes) inspectLast(ctx context.Context) (err error) {
	p.last, p.revision, err = readPruned(ctx, p.kit.Facts, p.ns)
	return err
}

// readPruned reads what the last prune of a namespace wrote down; nothing where there was none.
func readPruned(ctx context.Context, facts store.Facts, ns string) (last pruned, _ store.Revision, err error) {
	fact, err := facts.Get(ctx, store.LastPrune(ns))
	if store.IsNotFound(err) {
		return last, fact.Revision, nil
	}
	if err == nil {
		err = store.Decode(fact, &last)
	}
	return last, fact.Revision, err
}

// collect finds what may go: the kept ones of the facts, and what pools have that no fact names. What this operation
// clears anyway is not among them.
func (p *PruneVolumes) collect() {
	add := func(x prunable) {
		if (p.request.Machine == "" || p.request.Machine == x.machine) && (p.request.ID == "" || p.request.ID == x.id) {
			p.all = append(p.all, x)
		}
	}
	for i, fact := range p.volumes {
		if fact.State == api.VolumeKept {
			add(prunable{id: fact.ID, name: fact.Name, machine: fact.Machine, fact: &p.volumes[i], seen: p.inPool(fact.Machine, fact.ID)})
		}
	}
	for i, fact := range p.volumes { // after what they are copies of
		for _, c := range fact.Copies {
			add(prunable{id: fact.ID, name: fact.Name, machine: c.Machine, of: &p.volumes[i], copy: true, seen: p.inPool(c.Machine, fact.ID)})
		}
	}
	for _, m := range p.machines {
		for i, v := range m.stored.Volumes {
			fact := p.volumeByID(v.ID)
			known := fact != nil && (fact.Machine == m.member.Name || fact.copyOn(m.member.Name) != nil)
			if !known && !(p.resolves() && p.makerOf(v) != "") {
				add(prunable{id: v.ID, name: v.Name, machine: m.member.Name, of: fact, copy: fact != nil, seen: &m.stored.Volumes[i]})
			}
		}
	}
}

// inspectMakers looks in the ledger for who made what no fact names. Whoever did held this scope, which is now held
// here: it is over, whatever became of it.
func (p *PruneVolumes) inspectMakers(ctx context.Context) error {
	unnamed := func(x prunable) bool { return x.fact == nil && x.of == nil }
	if p.kit.Log == nil || !slices.ContainsFunc(p.all, unnamed) {
		return nil
	}
	records, err := p.kit.Log.Last(ctx, 0)
	if err != nil {
		return err
	}
	for _, r := range records {
		for i, x := range p.all {
			if !unnamed(x) || volumeID(r.Operation, p.ns, x.name) != x.id {
				continue
			}
			events, err := operation.History(ctx, p.kit.Log, r.Operation)
			if err != nil {
				return err
			}
			switch is := operation.Summarise(events, false).State; api.Result(is) {
			case api.Committed, api.CommittedLeftovers:
				p.all[i].reason = "the operation " + r.Operation + " made it and " + is + ", and its fact is lost"
			default:
				p.all[i].maker, p.all[i].reason = r.Operation, "left by the operation "+r.Operation+", "+is
			}
		}
	}
	return nil
}

// inspectSnapshots asks each machine for the snapshots of what may go, and, unless just one is asked for, of what stays.
// A pool that does not say stands in its own way only.
func (p *PruneVolumes) inspectSnapshots(ctx context.Context) {
	ids := map[string][]string{}
	ask := func(machineName, id string, seen *storage.Volume) {
		wanted := p.request.Machine == "" || p.request.Machine == machineName
		if wanted && seen != nil && seen.Problem == nil && !slices.Contains(ids[machineName], id) {
			ids[machineName] = append(ids[machineName], id)
		}
	}
	for _, x := range p.all {
		ask(x.machine, x.id, x.seen)
	}
	for _, fact := range p.volumes {
		if p.request.ID == "" {
			ask(fact.Machine, fact.ID, p.inPool(fact.Machine, fact.ID))
		}
	}
	p.snapshots = map[string]map[string][]storage.Snapshot{}
	for name, of := range ids {
		m, err := p.kit.Participants.Participant(ctx, name)
		if err == nil {
			p.snapshots[name], err = m.ListSnapshots(ctx, of)
		}
		if err != nil {
			p.candidate(name).stored.None = api.AsError(err)
		}
	}
	for i, x := range p.all {
		p.all[i].snapshots = p.snapshots[x.machine][x.id]
	}
}

// needAsked refuses to prune just one that cannot be.
func (p *PruneVolumes) needAsked() error {
	if p.request.ID == "" || len(p.all) > 0 || p.repeats() {
		return nil
	}
	if v := p.volumeByID(p.request.ID); v != nil && v.State == api.VolumeLive {
		return api.Errorf(api.CodeVolumeNotKept, "it has its name, %s", v.Name).About(p.ns+"/"+v.Name).
			WithHint("take it away first: ployzctl volume rm %s/%s", p.ns, v.Name)
	}
	return api.Errorf(api.CodeVolumeNotFound, "the namespace keeps no volume %s", p.request.ID).About(p.ns).
		WithHint("those there are: ployzctl volume ls %s", p.ns)
}

// Plan implements operation.Operation.
func (p *PruneVolumes) Plan() operation.Plan {
	plan := operation.Plan{Commit: p.commit()}
	for _, x := range p.all {
		change := api.Change{Action: "keep", Subject: x.what() + " " + x.name + " (" + x.id + ")", Machine: x.machine, Reason: x.reason}
		if x.seen != nil {
			change.From = storage.SizeText(x.seen.UsedBytes)
		}
		if x.goes {
			change.Action = "destroy"
		}
		plan.Changes = append(plan.Changes, change)
		if p.request.ID == x.id {
			plan.Requirements = append(plan.Requirements, operation.Met("it is not needed", x.stays))
		}
	}
	for _, x := range p.inOrder() {
		plan.Cleanup = append(plan.Cleanup, p.destroy(x))
	}
	plan.Changes = append(plan.Changes, p.forgetChanges()...)
	plan.Cleanup = distinct(append(plan.Cleanup, p.forgetSteps()...))
	return p.plan(plan)
}

func (x prunable) what() string {
	if x.copy {
		return "copy of"
	}
	return "volume"
}

// distinct gives steps names of their own where several data sets of a machine have, or had, one name.
func distinct(steps []operation.Step) []operation.Step {
	named := map[string]int{}
	for i, s := range steps {
		if named[s.Participant+s.Name]++; named[s.Participant+s.Name] > 1 {
			steps[i].Name += " " + strconv.Itoa(named[s.Participant+s.Name])
		}
	}
	return steps
}

// destroy is the step that ends a data set. What an operation made and never committed is destroyed as that, whose
// proof is in its id.
func (p *PruneVolumes) destroy(x prunable) operation.Step {
	action := Action{Verb: "prune-volume", Volume: x.id}
	switch {
	case x.maker != "":
		action = Action{Verb: "destroy-volume", Volume: x.id, Maker: x.maker}
	case x.copy:
		action.Verb = "prune-copy"
	}
	step := p.act(x.machine, action, "destroy "+x.what()+" "+x.name)
	step.Clear = "ployzctl volume prune " + p.ns
	return step
}

// inOrder are those that go and are in a pool, clones before what they began as.
func (p *PruneVolumes) inOrder() (list []prunable) {
	var rest []prunable
	for _, x := range p.all {
		if x.goes && x.seen != nil {
			rest = append(rest, x)
		}
	}
	for len(rest) > 0 {
		at := slices.IndexFunc(rest, func(x prunable) bool {
			return !slices.ContainsFunc(rest, func(y prunable) bool { return y.id != x.id && y.machine == x.machine && x.began(y.id) })
		})
		at = max(at, 0) // clones form no circle
		list, rest = append(list, rest[at]), slices.Delete(slices.Clone(rest), at, at+1)
	}
	return list
}

// commit takes the facts away, and writes down what is to be destroyed.
func (p *PruneVolumes) commit() operation.Commit {
	var content []string
	for _, x := range p.all {
		content = append(content, x.machine+" "+x.id+" "+strconv.FormatBool(x.goes))
	}
	for _, f := range p.forgets {
		content = append(content, f.machine+" "+f.Volume+"@"+f.Name+" "+strconv.FormatBool(f.goes))
	}
	key := store.LastPrune(p.ns)
	return operation.Commit{
		Witness: key, Expect: p.revision, Content: content,
		// What is needed was seen at this commit.
		Checks: []store.Check{{Key: store.Head(p.ns), Expect: p.now.revision}},
		Batch: func(op string) ([]store.Put, error) {
			var b puts
			b.value(key, pruned{Operation: op, Owed: p.owed(), KeptFrom: p.keptFrom()}, store.Expect(p.revision))
			for _, x := range p.all {
				if x.goes && x.fact != nil {
					b.remove(store.Volume(p.ns, x.id), store.Expect(x.fact.revision))
				}
			}
			p.putCopies(&b)
			return b.list, b.err
		},
	}
}

// keptFrom is the oldest commit whose data this prune, and all before it, have left.
func (p *PruneVolumes) keptFrom() int {
	if p.request.ID != "" {
		return p.last.KeptFrom
	}
	return max(p.last.KeptFrom, p.kept.first(p.now.head.Commit))
}

// owed are what goes now, and what earlier prunes may not have come to: all that was not seen to be gone.
func (p *PruneVolumes) owed() (list []owed) {
	for _, x := range p.inOrder() {
		if x.maker == "" {
			list = append(list, owed{x.id, x.machine, x.copy})
		}
	}
	for _, o := range p.last.Owed {
		m := p.candidate(o.Machine)
		unseen := m != nil && (m.silent != nil || m.stored.None != nil)
		if !slices.Contains(list, o) && (unseen || p.inPool(o.Machine, o.ID) != nil) {
			list = append(list, o)
		}
	}
	return list
}

// owes is what an earlier prune wrote down of something that it may not have come to; nil where there is none.
func (p *PruneVolumes) owes(x *prunable) *owed {
	at := slices.IndexFunc(p.last.Owed, func(o owed) bool { return o.ID == x.id && o.Machine == x.machine })
	if at < 0 {
		return nil
	}
	return &p.last.Owed[at]
}

// Result implements operation.Resulter.
func (p *PruneVolumes) Result() any {
	r := api.VolumePruneResult{Destroyed: []api.PrunedVolume{}, Stays: []api.PrunedVolume{}, Snapshots: p.forgotten()}
	for _, x := range p.all {
		is := api.PrunedVolume{ID: x.id, Name: x.name, Machine: x.machine, Copy: x.copy, Reason: x.reason}
		if x.seen != nil {
			is.UsedBytes = x.seen.UsedBytes
		}
		if !x.goes {
			r.Stays = append(r.Stays, is)
			continue
		}
		r.Destroyed = append(r.Destroyed, is)
		if x.seen != nil {
			r.OwnBytes += x.seen.OwnBytes
		}
	}
	return r
}

// when is a moment as plans show it: an age would be another one by the time the plan is done.
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func keptSince(x *prunable) string {
	return fmt.Sprintf("kept since %s", when(x.fact.Kept))
}
