package deploy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// volumeChanges is what the preview says about volumes.
func (c *change) volumeChanges(l layout) []api.Change {
	var list []api.Change
	for _, d := range l.sets {
		list = append(list, c.setChange(d))
	}
	for _, v := range l.unasked {
		reason := "no longer asked for: it is kept, and restored with: ployzctl volume restore " + v.ID
		if m := c.candidate(v.Machine); m == nil || m.silent != nil {
			reason += "; " + v.Machine + " does not answer and does it with the next operation"
		}
		list = append(list, api.Change{Action: "retire", Subject: "volume " + v.Name, Machine: v.Machine, From: sizeLimit(v.SizeBytes), Reason: reason})
	}
	for _, s := range l.strayVolumes {
		action, reason := "retire", "no commit knows it: it is kept"
		if s.maker != "" {
			action, reason = "remove", "left by an unfinished operation"
		}
		list = append(list, api.Change{Action: action, Subject: "volume " + s.volume.Name + " (" + s.volume.ID + ")", Machine: s.machine, Reason: reason})
	}
	return list
}

func (c *change) setChange(d dataset) api.Change {
	change := api.Change{Action: d.action(), Subject: "volume " + d.name, Machine: d.machine, To: sizeLimit(d.spec.SizeBytes)}
	if d.was != nil {
		change.From = sizeLimit(d.was.SizeBytes)
	}
	switch change.Action {
	case "move":
		change.Reason = c.moveReason(d)
	case "swap", "clone":
		change.Reason = c.backReason(d)
		if d.out != nil {
			change.From = sizeLimit(d.out.SizeBytes)
		}
	case "create":
		change.Reason = "new and empty"
		if kept := c.lastKept(d.name); kept != nil {
			change.Reason += "; a kept one of that name is restored with: ployzctl volume restore " + kept.ID
		}
	case "restore":
		change.Reason = fmt.Sprintf("commit %d had it, and it is kept", c.next.of)
		if d.was.State == api.VolumeLive {
			change.Reason = "it lost its name to an operation that did not come to its end"
		}
	case "grow", "shrink":
		if d.seen != nil {
			change.Reason = "it holds " + storage.SizeText(d.seen.UsedBytes)
		}
	case "update":
		change.Reason = "its owner or mode"
	default:
		change.Reason = "unchanged"
		if c.next.of != 0 {
			change.Reason = "its data stays as it is now"
		}
	}
	change.Reason += c.written[d.name]
	return change
}

// lastKept is the kept data set that had a name last, or nil.
func (c *change) lastKept(name string) *volumeFact {
	var last *volumeFact
	for i, v := range c.volumes {
		if v.State == api.VolumeKept && v.Name == name && (last == nil || v.Kept.After(last.Kept)) {
			last = &c.volumes[i]
		}
	}
	return last
}

func sizeLimit(bytes int64) string {
	if bytes == 0 {
		return "no limit"
	}
	return storage.SizeText(bytes)
}

// volumeProblems are why the data sets cannot be what is asked of them.
func (c *change) volumeProblems(l layout) []*api.Error {
	errs := c.pastProblems()
	for _, d := range l.sets {
		if err := c.volumeProblem(d, l.needs(d)); err != nil {
			e := *api.AsError(err)
			e.Subject = "volumes." + d.volume
			errs = append(errs, &e)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.next.spec.Volumes)) {
		asked := c.next.spec.Volumes[name]
		for _, v := range c.volumes {
			if is := (api.Volume{Scope: v.Scope}); v.State == api.VolumeLive && volumeOf(v.Name) == name && is.PerSlot() != asked.PerSlot() {
				errs = append(errs, scopeChanged(c.ns, name, v))
				break
			}
		}
	}
	return errs
}

func scopeChanged(ns, name string, v volumeFact) *api.Error {
	is, asked := api.ScopeNamespace, api.ScopeSlot
	if v.Scope == api.ScopeSlot {
		is, asked = asked, is
	}
	return api.Errorf(api.CodeVolumeScope, "its scope is %s, and scope %s is asked for: %s would stay behind", is, asked, v.Name).
		About("volumes."+name).WithHint("give the new one another name and copy what it needs, or take this one away first: ployzctl volume rm %s/%s", ns, v.Name)
}

// volumeProblem looks at one data set that is there already; where a new one may come was a part of placement.
func (c *change) volumeProblem(d dataset, needed bool) error {
	if d.was == nil || !needed {
		return nil
	}
	if err := c.unreachable(d.at()); err != nil {
		return err
	}
	m := c.candidate(d.at())
	switch {
	case d.seen == nil:
		return storage.NotFound("the pool of "+d.at(), d.spec.ID)
	case d.seen.State == storage.StateIncoming:
		return storage.CheckState(d.seen.Spec, d.seen.State, storage.StateLive)
	}
	if err := c.maybeElsewhere(d); err != nil {
		return err
	}
	if err := storage.CheckShrink(d.spec, d.seen.UsedBytes); err != nil {
		return err
	}
	if grow := d.spec; grows(d.was.SizeBytes, d.spec.SizeBytes) && grow.SizeBytes > 0 {
		grow.SizeBytes -= d.seen.UsedBytes
		return storage.CheckSpace(m.stored.Usage, grow)
	}
	return nil
}

// unreachable is why the pool of a machine that has a data set cannot be asked for anything, or nil.
func (c *change) unreachable(machineName string) *api.Error {
	m := c.candidate(machineName)
	switch {
	case m == nil:
		return api.Errorf(api.CodeMachineSilent, "%s has it and is no member of the cluster", machineName).WithHint("list them: ployzctl machine ls")
	case m.silent != nil:
		return api.Errorf(api.CodeMachineSilent, "%s has it and does not answer: %w", machineName, m.silent).Again().
			WithHint("is it up and reachable? ployzctl machine show %s", machineName)
	}
	return m.stored.None
}

// putVolumes writes the facts of the data sets that become something else.
func (c *change) putVolumes(b *puts, op string, l layout) {
	for _, d := range l.sets {
		if d.action() == "keep" {
			continue
		}
		fact, expect := api.VolumeFact{Created: c.kit.Now().UTC(), Backend: c.backendOf(d.machine), Origin: c.originOf(d)}, store.Revision(0)
		if d.was != nil {
			fact, expect = d.was.VolumeFact, d.was.revision
		}
		fact.ID, fact.Namespace, fact.Name, fact.Machine = d.spec.ID, c.ns, d.name, d.machine
		if asked := c.next.spec.Volumes[d.volume]; !d.unclaimed {
			fact.SizeBytes, fact.Owner, fact.Mode, fact.Scope = asked.SizeBytes, asked.Owner, asked.Mode, asked.Scope
		}
		fact.State, fact.Operation = api.VolumeLive, op
		fact.Kept, fact.KeptBy = time.Time{}, ""
		if d.from != "" {
			fact.Backend, fact.Copies = c.backendOf(d.machine), c.copiesOf(d, op)
		}
		b.value(store.Volume(c.ns, fact.ID), fact, store.Expect(expect))
		if d.out != nil {
			c.putKept(b, op, *d.out)
		}
	}
	for _, v := range l.unasked {
		c.putKept(b, op, v)
	}
}

// putKept writes that a data set has lost its name.
func (c *change) putKept(b *puts, op string, v volumeFact) {
	fact := v.VolumeFact
	fact.State, fact.Kept, fact.KeptBy, fact.Operation = api.VolumeKept, c.kit.Now().UTC(), op, op
	b.value(store.Volume(c.ns, fact.ID), fact, store.Expect(v.revision))
}

func (c *change) backendOf(machineName string) string {
	if m := c.candidate(machineName); m != nil {
		return m.stored.Usage.Backend
	}
	return ""
}

// commitVolumes are the data sets that are live with the commit, by name.
func (c *change) commitVolumes(l layout) map[string]api.CommitVolume {
	claimed := slices.DeleteFunc(slices.Clone(l.sets), func(d dataset) bool { return d.unclaimed })
	if len(claimed) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]api.CommitVolume{}
	for _, d := range claimed {
		of, _ := d.toSnapshot()
		s := c.moments[of]
		v := api.CommitVolume{ID: d.spec.ID, Machine: d.machine, Snapshot: s.Name, GUID: s.GUID}
		if s.Name != "" && of != v.ID {
			v.Of = of
		}
		if move, moved := c.moved[d.name]; moved {
			v.Move = &move
		}
		all[d.name] = v
	}
	return all
}

// volumeContent is what the plan's digest covers: the same in a preview and in its run, which have other ids.
func (l layout) volumeContent() map[string]string {
	all := map[string]string{}
	for _, d := range l.sets {
		id := "new"
		if d.was != nil {
			id = d.spec.ID
		}
		all[d.name] = d.action() + " " + id + " on " + d.machine + " " + strconv.FormatInt(d.spec.SizeBytes, 10) + d.backContent()
	}
	for _, v := range l.unasked {
		all[v.Name] = "retire " + v.ID
	}
	return all
}
