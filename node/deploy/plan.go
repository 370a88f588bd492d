package deploy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
)

// place is one slot of the next release: an instance that stays, or one to be made.
type place struct {
	slot    string
	service string
	machine string
	// old is the slot as the present commit has it; its Instance is empty when there was none.
	old api.Slot
	// keep says that old stays; otherwise spec is what to start.
	keep     bool
	revision string
	spec     runtime.Spec
	reason   string
	// when is a job's: "before", "after" or "branch".
	when string
}

func (p place) instance() string {
	if p.keep {
		return p.old.Instance
	}
	return p.spec.ID
}

// layout is the next release on machines: a pure function of what inspect saw.
type layout struct {
	places []place
	// jobs are the one-shot runs, by service.
	jobs map[string]place
	// order is the next release's services in layers of dependency.
	order [][]string
	// present are the slots of the present commit, by name; gone are those that the next does not have.
	present []api.Slot
	gone    []api.Slot
	// strays are instances on machines that no commit knows: what an unfinished operation left.
	strays []stray
	// sets are the data sets of the next release, by name; unasked those of the present one that it does not have.
	sets    []dataset
	unasked []volumeFact
	// strayVolumes are live volumes that no fact accounts for.
	strayVolumes []strayVolume
	errs         []*api.Error
}

type stray struct{ machine, instance string }

// Plan implements operation.Operation for every change.
func (c *change) Plan() operation.Plan {
	l := c.layout()
	plan := operation.Plan{
		Requirements: c.requirements(l),
		Changes:      c.changes(l),
		Phases:       c.phases(l),
		Commit:       c.commit(l),
		Cleanup:      c.cleanup(l),
		Resolves:     true, // strays are part of every layout
	}
	return plan
}

func (c *change) layout() layout {
	l := layout{jobs: map[string]place{}}
	had := map[string]api.Slot{}
	if c.now.commit != nil {
		had = c.now.commit.Slots
	}
	placed := placeAll(c.next.spec, had, c.machines, c.pins())
	l.errs = placed.errs
	l.sets = c.datasets(placed)
	l.unasked, l.strayVolumes = c.unasked(l.sets), c.strayVolumes()
	order, cycle := layers(c.ordered())
	if cycle != nil {
		l.errs = append(l.errs, cycle)
	}
	l.order = order
	for _, name := range slices.Sorted(maps.Keys(c.next.spec.Services)) {
		for _, choice := range placed.choices[name] {
			l.add(c.fill(l, name, choice, had[choice.slot]), c.next.spec.Services[name].Job)
		}
	}
	for _, slot := range slices.Sorted(maps.Keys(had)) {
		l.present = append(l.present, had[slot])
		if !slices.ContainsFunc(l.places, func(p place) bool { return p.slot == slot }) {
			l.gone = append(l.gone, had[slot])
		}
	}
	l.strays = c.strays(had)
	maps.DeleteFunc(l.jobs, func(name string, _ place) bool { return !c.runs(l, name) })
	return l
}

func (l *layout) add(p place, job *api.Job) {
	if job == nil {
		l.places = append(l.places, p)
		return
	}
	p.when = job.When
	l.jobs[p.service] = p
}

// runs reports whether a job is part of the change: all are when an instance is made or taken away, else
// those that are not what they were. Those of a branch are part of nothing else.
func (c *change) runs(l layout, job string) bool {
	if masking(c.next.spec.Services[job]) {
		return c.masks
	}
	return c.jobs && (l.moves() || c.present().revision(job) != c.next.revision(job))
}

// moves reports whether any instance is made or taken away.
func (l layout) moves() bool {
	return len(l.gone) > 0 || slices.ContainsFunc(l.places, func(p place) bool { return !p.keep })
}

// fill decides whether a slot's instance stays.
func (c *change) fill(l layout, service string, choice choice, old api.Slot) place {
	p := place{slot: choice.slot, service: service, machine: choice.machine, old: old, revision: c.next.revision(service)}
	p.keep, p.reason = c.stays(l, p, choice)
	if !p.keep {
		p.spec = c.next.instance(instanceID(c.operation, c.ns, choice.slot), choice.slot, service, c.nsID)
		p.spec.Mounts = c.mounts(l, service, choice.slot)
	}
	return p
}

// mounts are a slot's, each with the id of its data set.
func (c *change) mounts(l layout, service, slot string) (all []runtime.Mount) {
	for _, m := range c.next.spec.Services[service].Mounts {
		name := datasetName(c.next.spec.Volumes[m.Volume], m.Volume, slot)
		if at := slices.IndexFunc(l.sets, func(d dataset) bool { return d.name == name }); at >= 0 {
			all = append(all, runtime.Mount{Volume: l.sets[at].spec.ID, Target: m.Target, ReadOnly: m.ReadOnly})
		}
	}
	return all
}

func (c *change) stays(l layout, p place, choice choice) (bool, string) {
	switch {
	case p.old.Instance == "":
		return false, choice.reason
	case p.old.Revision != p.revision:
		return false, "its revision changes from " + p.old.Revision + " to " + p.revision
	case p.old.Machine != p.machine:
		return false, "moves from " + p.old.Machine + ": " + choice.reason
	}
	if name := c.otherDataset(l, p); name != "" {
		return false, "its volume " + name + " is another data set now"
	}
	state := c.stateOf(p.old)
	if state == runtime.StateRunning {
		return true, "unchanged"
	}
	return false, "its instance is " + state
}

// otherDataset names a data set of a slot that is not the one its old instance mounts, or "".
func (c *change) otherDataset(l layout, p place) string {
	for _, m := range c.next.spec.Services[p.service].Mounts {
		name := datasetName(c.next.spec.Volumes[m.Volume], m.Volume, p.slot)
		for _, d := range l.sets {
			if d.name == name && d.spec.ID != c.now.commit.Volumes[name].ID {
				return name
			}
		}
	}
	return ""
}

func (c *change) stateOf(slot api.Slot) string {
	for _, m := range c.machines {
		if m.member.Name != slot.Machine {
			continue
		}
		for _, o := range m.seen.Instances {
			if o.ID == slot.Instance {
				return o.State
			}
		}
	}
	return "gone"
}

func (c *change) strays(had map[string]api.Slot) []stray {
	known := map[string]bool{}
	for _, slot := range had {
		known[slot.Instance] = true
	}
	var strays []stray
	for _, m := range c.machines {
		for _, o := range m.seen.Instances {
			if o.Spec.Namespace == c.ns && !known[o.ID] {
				strays = append(strays, stray{m.member.Name, o.ID})
			}
		}
	}
	return strays
}

// changes is the preview's list.
func (c *change) changes(l layout) []api.Change {
	list, writers := c.volumeChanges(l), c.oldWriters(l)
	for _, p := range l.places {
		change := c.placeChange(p)
		if name := writers[p.old.Instance]; name != "" && !p.keep {
			change.Reason += "; the old one stops first, since " + l.stopsFor(name)
		}
		list = append(list, change)
	}
	for _, name := range slices.Sorted(maps.Keys(l.jobs)) {
		job := l.jobs[name]
		list = append(list, api.Change{Action: "run", Subject: job.slot, Machine: job.machine, To: c.imageOf(name), Reason: job.whenText()})
	}
	for _, slot := range l.gone {
		change := api.Change{Action: "remove", Subject: slot.Name, Machine: slot.Machine, Reason: "no longer asked for"}
		if name := writers[slot.Instance]; name != "" {
			change.Reason += "; it stops first, since it and a new one write the volume " + name
			if l.swapped()[name] {
				change.Reason = "no longer asked for; it stops first, since " + l.stopsFor(name)
			}
		}
		list = append(list, change)
	}
	for _, s := range l.strays {
		list = append(list, api.Change{Action: "remove", Subject: s.instance, Machine: s.machine, Reason: "left by an unfinished operation"})
	}
	return append(append(list, c.quiesceChanges(l)...), c.routeChanges()...)
}

// stopsFor is why an old instance stops before its successor starts.
func (l layout) stopsFor(name string) string {
	switch {
	case l.swapped()[name]:
		return "the volume " + name + " is swapped"
	case l.leaving()[name]:
		return "the volume " + name + " moves"
	}
	return "both write the volume " + name
}

func (c *change) placeChange(p place) api.Change {
	action := "create"
	switch {
	case p.keep:
		action = "keep"
	case p.old.Instance != "":
		action = "replace"
	}
	change := api.Change{Action: action, Subject: p.slot, Machine: p.machine, To: c.imageOf(p.service), Reason: p.reason}
	if p.old.Instance != "" && c.now.commit != nil {
		change.From = imageOf(c.now.commit.Spec, p.service)
	}
	return change
}

func (c *change) imageOf(service string) string { return imageOf(c.next.spec, service) }

func imageOf(spec api.Spec, service string) string {
	s := spec.Services[service]
	if len(s.Digest) > 19 {
		return s.Image + "@" + s.Digest[:19]
	}
	return s.Image
}

// routeChanges lists the routes that appear and disappear.
func (c *change) routeChanges() []api.Change {
	before, after := routeSet(c.presentSpec()), routeSet(c.next.spec)
	var list []api.Change
	for _, r := range slices.Sorted(maps.Keys(after)) {
		if before[r] == after[r] {
			continue
		}
		action := "create"
		if before[r] != "" {
			action = "update"
		}
		list = append(list, api.Change{Action: action, Subject: "route " + r, From: before[r], To: after[r]})
	}
	for _, r := range slices.Sorted(maps.Keys(before)) {
		if after[r] == "" {
			list = append(list, api.Change{Action: "remove", Subject: "route " + r, From: before[r]})
		}
	}
	return list
}

func routeSet(spec api.Spec) map[string]string {
	set := map[string]string{}
	for name, s := range spec.Services {
		for _, r := range s.Routes {
			from := r.Host + cleanPath(r.Path)
			if r.TCP != 0 {
				from = fmt.Sprintf("tcp/%d", r.TCP)
			}
			set[from] = fmt.Sprintf("%s:%d", name, r.Port)
		}
	}
	return set
}
