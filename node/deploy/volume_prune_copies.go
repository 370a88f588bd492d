package deploy

import (
	"fmt"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// A copy in the pool of another machine goes by itself once a migration left it for long enough, and with the data set
// that it is of. One that was sent goes by name only, and the data set does not go before it: it may be all that is left
// one day.

// copyOn is what a fact says of a copy on a machine; nil where it says nothing.
func (v *volumeFact) copyOn(machineName string) *api.VolumeCopy {
	at := slices.IndexFunc(v.Copies, func(c api.VolumeCopy) bool { return c.Machine == machineName })
	if at < 0 {
		return nil
	}
	return &v.Copies[at]
}

// named says that somebody asked for just this one.
func (p *PruneVolumes) named(id, machineName string) bool {
	return p.request.ID == id && p.request.Machine == machineName
}

// judgeCopy decides whether a copy goes.
func (p *PruneVolumes) judgeCopy(x *prunable) {
	m, c := p.candidate(x.machine), x.of.copyOn(x.machine)
	is := fmt.Sprintf("a copy of the one that is %s on %s", x.of.State, x.of.Machine)
	switch {
	case p.going() >= mostPruned:
		x.stay(tooMany())
	case m == nil:
		x.prune("%s, and %s has left the cluster with it", is, x.machine)
	case m.silent != nil || m.stored.None != nil:
		x.stay(p.unreachable(x.machine))
	case x.seen == nil:
		x.prune("%s, and the pool of %s has it no more", is, x.machine)
	case x.seen.Problem != nil:
		x.stay(api.AsError(x.seen.Problem))
	case x.seen.State == storage.StateLive:
		x.stay(stillNamed())
	case p.named(x.id, x.machine) || c == nil && p.owes(x) != nil: // one that is listed has come since
		x.prune("%s", is)
	case c == nil:
		x.stay(p.byName(x, api.Errorf(api.CodeVolumeUnclaimed, "%s, and no operation that committed made it", is)))
	case c.Reason == api.CopySent:
		x.stay(p.byName(x, api.Errorf(api.CodeVolumeCopied, "%s, brought up to date at %s", is, when(c.Since))))
	case p.goes(x.id, x.of.Machine):
		x.prune("%s, and goes with it", is)
	case p.kit.Now().Sub(c.Since) < p.kept.volumes:
		x.stay(p.byName(x, api.Errorf(api.CodeBadRequest, "%s, which a migration left at %s, less than %s ago (%s)", is, when(c.Since), p.kept.volumes, p.kept.volumeBy)))
	default:
		x.prune("%s, which a migration left at %s", is, when(c.Since))
	}
}

// byName tells how a copy is pruned nevertheless.
func (p *PruneVolumes) byName(x *prunable, err *api.Error) *api.Error {
	return err.WithHint("prune just this one: ployzctl volume prune %s --id %s --machine %s", p.ns, x.id, x.machine)
}

func stillNamed() *api.Error {
	return api.Errorf(api.CodeVolumeNotKept, "it still has its name in the pool").WithHint("an unfinished operation left it so, and this one takes it away: prune again")
}

func tooMany() *api.Error {
	return api.Errorf(api.CodeStoreTooLarge, "one prune takes away at most %d", mostPruned).WithHint("prune again")
}

// spareCopied keeps a data set of which a copy would be left that nobody knows any more, and reports whether it did.
func (p *PruneVolumes) spareCopied() (spared bool) {
	for i := range p.all {
		x := &p.all[i]
		if x.fact == nil || !x.goes {
			continue
		}
		for _, c := range x.fact.Copies {
			if !p.goes(x.id, c.Machine) {
				x.stay(api.Errorf(api.CodeVolumeCopied, "%s has a copy of it, since %s, that stays", c.Machine, when(c.Since)).
					WithHint("prune that first: ployzctl volume prune %s --id %s --machine %s", p.ns, x.id, c.Machine))
				spared = true
			}
		}
	}
	return spared
}

// putCopies takes copies that go off the facts of data sets that stay. Who wrote such a fact last does not
// change: that is about what it says of the data set.
func (p *PruneVolumes) putCopies(b *puts) {
	for _, v := range p.volumes {
		left := slices.DeleteFunc(slices.Clone(v.Copies), func(c api.VolumeCopy) bool { return p.goes(v.ID, c.Machine) })
		if len(left) == len(v.Copies) || p.goes(v.ID, v.Machine) {
			continue
		}
		fact := v.VolumeFact
		fact.Copies = left
		b.value(store.Volume(p.ns, v.ID), fact, store.Expect(v.revision))
	}
}
