package deploy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// A rollback with data gives each volume of commit N the data that it had when N was left, which is what the snapshot
// shows that commit N+1 took before it: a clone of it takes the volume's name, and what had the name until then is
// kept. As that was snapshot before it went, too, going back to the commit that the rollback left gives it back again.

// past is the data that a volume of the next release begins with: what a rollback gives back, or, where it is fresh,
// what a data set is at the moment of the operation.
type past struct {
	commit int // that left it so; 0 where it is fresh
	// pruned says that a prune since then let the commit's data go.
	pruned bool
	// of is the data set whose data it is, and snapshot what shows it. Without a snapshot it is that data set itself,
	// which lost its name when the commit was left and which nobody has written since; it gets its name back.
	of       volumeFact
	snapshot storage.Snapshot
	// fresh says that the snapshot is not there yet: the operation takes it for itself. of may be another namespace's
	// then. See withdata_fresh.go.
	fresh bool
	// err is why it cannot be given back; nil if it can.
	err *api.Error
}

func (p past) clones() bool { return p.snapshot.Name != "" }

// lost says why the data that a commit left cannot be given back, and what can be done instead.
func (p past) lost(volume string, format string, args ...any) past {
	p.err = api.Errorf(api.CodeVolumeLineage, "the data that commit %d left cannot be given back: %s", p.commit, fmt.Sprintf(format, args...)).
		About("volumes." + volume)
	return p
}

// how says what took the data away, where that is known.
func (p past) how() string {
	if p.pruned {
		return ": a volume prune let go what commits so old had left"
	}
	return ""
}

func (p past) hint(format string, args ...any) past {
	p.err = p.err.WithHint(format, args...)
	return p
}

// findPasts finds, for each volume that the commit had and asks for, the data that it left.
func (r *Rollback) findPasts(ctx context.Context, commit api.Commit) error {
	if commit.Number == r.now.head.Commit {
		return r.noPast(commit.Number)
	}
	left, err := ReadCommit(ctx, r.kit.Facts, r.ns, commit.Number+1)
	if err != nil {
		return err
	}
	last, _, err := readPruned(ctx, r.kit.Facts, r.ns)
	if err != nil {
		return err
	}
	r.back = map[string]past{}
	for name, had := range commit.Volumes {
		if _, asked := r.next.spec.Volumes[volumeOf(name)]; asked {
			r.back[name] = r.pastOf(name, had.ID, left, commit.Number < last.KeptFrom)
		}
	}
	r.seePasts(ctx)
	for name, p := range r.back {
		r.back[name] = r.besidePresent(name, p)
		if r.back[name].err == nil && !p.clones() {
			delete(r.back, name) // it gets its name back, as in every rollback
			continue
		}
		delete(r.revive, name)
	}
	return nil
}

// noPast says that the present commit has not left anything yet.
func (r *Rollback) noPast(commit int) *api.Error {
	err := api.Errorf(api.CodeVolumeLineage, "commit %d is the present one: its data is what is there now", commit).About(r.ns)
	if commit == 1 {
		return err.WithHint("go without --with-data: %s", r.without())
	}
	return err.WithHint("the data as it was when it began is what the one before it left: ployzctl rollback %s --to %d --with-data", r.ns, commit-1)
}

// pastOf finds what the facts say of the data set that had a name.
func (r *Rollback) pastOf(name, id string, left api.Commit, pruned bool) past {
	p := past{commit: left.Number - 1, pruned: pruned}
	of, taken := r.volumeByID(id), left.Volumes[name]
	switch {
	case of == nil:
		return p.lost(name, "the data set %s, which had it, was destroyed%s", id, p.how()).hint("go back without the data: %s", r.without())
	case taken.SnapshotOf() == id && taken.Snapshot != "":
		p.snapshot = storage.Snapshot{Volume: id, Name: taken.Snapshot, GUID: taken.GUID}
	case of.State != api.VolumeKept || of.KeptBy != left.Operation:
		p.of = *of
		return p.lost(name, "no snapshot of %s was taken then", id).
			hint("clone one of those that there are: ployzctl volume show %s; or go back without the data: %s", id, r.without())
	}
	p.of = *of
	return p
}

// without is the command that goes back and leaves the data.
func (r *Rollback) without() string {
	return "ployzctl rollback " + r.ns + " --to " + strconv.Itoa(r.next.of)
}

// seePasts asks the machines whether they have what the facts say.
func (r *Rollback) seePasts(ctx context.Context) {
	on := map[string][]string{}
	for _, p := range r.back {
		if p.err == nil && p.clones() && !slices.Contains(on[p.of.Machine], p.of.ID) {
			on[p.of.Machine] = append(on[p.of.Machine], p.of.ID)
		}
	}
	seen := map[string]map[string][]storage.Snapshot{}
	silent := map[string]error{}
	for _, machineName := range slices.Sorted(maps.Keys(on)) {
		p, err := r.kit.Participants.Participant(ctx, machineName)
		if err == nil {
			seen[machineName], err = p.ListSnapshots(ctx, on[machineName])
		}
		silent[machineName] = err
	}
	for name, p := range r.back {
		if p.err == nil && p.clones() {
			r.back[name] = r.seePast(name, p, seen[p.of.Machine][p.of.ID], silent[p.of.Machine])
		}
	}
}

func (r *Rollback) seePast(name string, p past, seen []storage.Snapshot, err error) past {
	at := slices.IndexFunc(seen, func(s storage.Snapshot) bool { return s.Name == p.snapshot.Name })
	switch {
	case err != nil:
		return p.unseen(name, err)
	case at < 0:
		return p.lost(name, "the snapshot %s of %s is not in the pool of %s%s", p.snapshot.Name, p.of.ID, p.of.Machine, p.how()).
			hint("clone one of those that there are: ployzctl volume show %s; or go back without the data: %s", p.of.ID, r.without())
	case seen[at].GUID != p.snapshot.GUID:
		return p.lost(name, "%s of %s on %s is another snapshot than the one of then (%s, not %s)", p.snapshot.Name, p.of.ID, p.of.Machine, seen[at].GUID, p.snapshot.GUID).
			hint("go back without the data: %s", r.without())
	}
	p.snapshot = seen[at]
	return p
}

// unseen says that the machine that has the data cannot tell.
func (p past) unseen(name string, err error) past {
	p.err = api.Errorf(api.CodeOf(err), "%s has the data that commit %d left, and cannot be asked: %w", p.of.Machine, p.commit, err).
		About("volumes."+name).Again().WithHint("is it up and reachable? ployzctl machine show %s", p.of.Machine)
	return p
}

// besidePresent refuses where the data that comes back and the present one could not change places.
func (r *Rollback) besidePresent(name string, p past) past {
	now := r.live(name)
	if p.err != nil || now == nil {
		return p
	}
	if !p.clones() {
		return p.lost(name, "it is %s itself, of which there is no snapshot, and %s has its name", p.of.ID, now.ID).
			hint("take the release away, which keeps its data, and go back then: ployzctl rm %s && %s --with-data", r.ns, r.without())
	}
	if now.Machine != p.of.Machine {
		return p.lost(name, "it is on %s, and the present one on %s", p.of.Machine, now.Machine).
			hint("take the release away, which keeps its data, and go back then: ployzctl rm %s && %s --with-data", r.ns, r.without())
	}
	if m := r.candidate(now.Machine); m != nil && m.stored.None != nil {
		return p.unseen(name, m.stored.None)
	} else if m != nil && m.silent != nil {
		return p.unseen(name, m.silent)
	}
	if r.inPool(now.Machine, now.ID) == nil {
		return p.lost(name, "the present one, %s, is not in the pool of %s and so could not be kept", now.ID, now.Machine).
			hint("take the release away and go back then: ployzctl rm %s && %s --with-data", r.ns, r.without())
	}
	return p
}

// giveBack makes a data set of the next release the one with the data of an earlier commit.
func (c *change) giveBack(d *dataset, p past) {
	d.back, d.out, d.machine = &p, c.live(d.name), p.of.Machine
	d.was, d.spec.ID = nil, volumeID(c.operation, c.ns, d.name)
	if d.out != nil {
		d.outSeen = c.inPool(d.machine, d.out.ID)
	}
}

// toSnapshot is the data set whose snapshot the commit names under a name: the one that is there until then.
func (d dataset) toSnapshot() (id string, there bool) {
	switch {
	case d.back == nil:
		return d.spec.ID, d.was == nil || d.seen != nil
	case d.out != nil:
		return d.out.ID, d.outSeen != nil
	}
	return "", false
}

// swapped are the names whose data set gives way to another one.
func (l layout) swapped() map[string]bool {
	names := map[string]bool{}
	for _, d := range l.sets {
		if d.out != nil {
			names[d.name] = true
		}
	}
	return names
}

// leaving are the names whose data set gives way to another one, or leaves its machine.
func (l layout) leaving() map[string]bool {
	names := l.swapped()
	for _, d := range l.sets {
		if d.from != "" {
			names[d.name] = true
		}
	}
	return names
}

// mounted are the data sets that a slot of a service mounts, to read or to write.
func mounted(spec api.Spec, service, slot string) []string {
	var names []string
	for _, m := range spec.Services[service].Mounts {
		names = append(names, datasetName(spec.Volumes[m.Volume], m.Volume, slot))
	}
	slices.Sort(names)
	return names
}
