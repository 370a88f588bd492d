package deploy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// mostPruned leaves room in a batch for what else a prune writes.
const mostPruned = store.MaxBatch - 10

// judgeAll decides about data sets, and then about copies, which may go because of them. What one that stays needs stays
// as well.
func (p *PruneVolumes) judgeAll() {
	for _, copies := range []bool{false, true} {
		for i := range p.all {
			if (p.all[i].of != nil) == copies {
				p.judge(&p.all[i])
			}
		}
		for p.spareOrigins() || copies && p.spareCopied() {
			continue
		}
	}
}

// judge decides whether a data set goes, by what was seen.
func (p *PruneVolumes) judge(x *prunable) {
	switch {
	case x.of != nil:
		p.judgeCopy(x)
		return
	case x.fact == nil:
		p.judgeUnclaimed(x)
		return
	}
	m := p.candidate(x.machine)
	switch {
	case p.going() >= mostPruned:
		x.stay(tooMany())
	case m == nil:
		x.prune("%s, and %s has left the cluster with it", keptSince(x), x.machine)
	case m.silent != nil || m.stored.None != nil:
		x.stay(p.unreachable(x.machine))
	case p.kit.Now().Sub(x.fact.Kept) < p.kept.volumes:
		x.stay(api.Errorf(api.CodeBadRequest, "%s, which is less than %s ago (%s)", keptSince(x), p.kept.volumes, p.kept.volumeBy).
			WithHint("prune it all the same: ployzctl volume prune %s --older-than 0", p.ns))
	case x.seen == nil:
		x.prune("%s, and the pool of %s has it no more", keptSince(x), x.machine)
	default:
		p.judgeSeen(x, keptSince(x))
	}
}

// judgeUnclaimed decides about what a pool has and no fact names: it goes only where it is proven whose it was.
func (p *PruneVolumes) judgeUnclaimed(x *prunable) {
	unknown := func(format string, args ...any) {
		x.stay(api.Errorf(api.CodeVolumeUnclaimed, format, args...).WithHint("look at it: ployzctl volume show %s --machine %s", x.id, x.machine))
	}
	switch {
	case x.maker != "":
		p.judgeSeen(x, x.reason)
	case p.owes(x) != nil:
		x.copy = p.owes(x).Copy
		p.judgeSeen(x, "the prune "+p.last.Operation+" did not come to it")
	case x.reason != "":
		unknown("%s", x.reason)
	default:
		unknown("no operation in the ledger made it")
	}
}

// judgeSeen decides about what is in a pool and would go because of why, by who needs it.
func (p *PruneVolumes) judgeSeen(x *prunable, why string) {
	switch {
	case x.seen.Problem != nil:
		x.stay(api.AsError(x.seen.Problem))
	case x.seen.State == storage.StateLive && x.maker == "":
		x.stay(stillNamed())
	default:
		if err := p.needs(x); err != nil {
			x.stay(err)
			return
		}
		x.prune("%s", why)
	}
}

// needs is who needs a data set: commits that can be gone back to with their data, and those who hold snapshots.
func (p *PruneVolumes) needs(x *prunable) *api.Error {
	var commits []string
	for _, c := range p.commits {
		for _, v := range c.Volumes {
			if v.ID == x.id {
				commits = append(commits, fmt.Sprintf("commit %d (snapshot %s)", c.Number, orNone(v.Snapshot)))
			}
		}
	}
	if len(commits) > 0 {
		err := api.Errorf(api.CodeVolumeSnapshotNeeded, "%s can be gone back to with this data", strings.Join(commits, ", "))
		if p.kept.commits == 1 {
			return err.WithHint("it is the present one: the next commit lets it go: ployzctl deploy")
		}
		return err.WithHint("let fewer commits keep their data than the last %d (%s): ployzctl volume prune %s --keep-commits 1", p.kept.commits, p.kept.commitBy, p.ns)
	}
	for _, s := range x.snapshots {
		if s = unheld(s, commitHold); len(s.Holds) > 0 && !x.copy {
			s.Clones = nil // see spareOrigins
			return needed(s, p.ns)
		}
	}
	return nil
}

func orNone(snapshot string) string {
	if snapshot == "" {
		return "none"
	}
	return snapshot
}

// needed says what a snapshot is needed by, and what to do about a hold of operators.
func needed(s storage.Snapshot, ns string) *api.Error {
	err := api.AsError(storage.SnapshotNeeded(s))
	if slices.Contains(s.Holds, operatorHold) {
		err = err.WithHint("take it away if nobody needs it: ployzctl volume snapshot rm %s/%s %s", ns, s.Volume, s.Name)
	}
	return err
}

// spareOrigins keeps what a clone that stays depends on, and reports whether it did: that one may depend on another.
func (p *PruneVolumes) spareOrigins() (spared bool) {
	for i := range p.all {
		x := &p.all[i]
		for _, s := range x.snapshots {
			s.Holds = nil
			s.Clones = slices.DeleteFunc(slices.Clone(s.Clones), func(id string) bool { return p.goes(id, x.machine) })
			if x.goes && len(s.Clones) > 0 {
				x.stay(api.AsError(storage.SnapshotNeeded(s)))
				spared = true
			}
		}
	}
	return spared
}

func (p *PruneVolumes) goes(id, machineName string) bool {
	return slices.ContainsFunc(p.all, func(x prunable) bool { return x.goes && x.id == id && x.machine == machineName })
}

func (p *PruneVolumes) going() (n int) {
	for _, x := range p.all {
		if x.goes {
			n++
		}
	}
	return n
}

// began reports whether a data set began as a snapshot of this one and could not be without it.
func (x prunable) began(clone string) bool {
	return slices.ContainsFunc(x.snapshots, func(s storage.Snapshot) bool { return slices.Contains(s.Clones, clone) })
}

func (x *prunable) prune(format string, args ...any) {
	x.goes, x.reason, x.stays = true, fmt.Sprintf(format, args...), nil
}

func (x *prunable) stay(why *api.Error) {
	e := *why
	if e.Subject == "" {
		e.Subject = x.name + " (" + x.id + ")"
	}
	x.goes, x.reason, x.stays = false, e.Message, &e
}
