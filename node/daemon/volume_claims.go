package daemon

import (
	"context"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/storage"
)

// What machines have is compared here with what the cluster intends, for operators to see: a difference is shown and
// nothing is done about it.

// claims are what the facts say of data sets, by ID.
type claims map[string]api.VolumeFact

// claimsOf reads them; a part of the cluster has none to compare with.
func claimsOf(ctx context.Context, m *Member) (claims, error) {
	if m.Elsewhere == nil {
		return nil, nil
	}
	all, err := deploy.AllVolumes(ctx, m.View)
	if err != nil {
		return nil, err
	}
	by := claims{}
	for _, fact := range all {
		by[fact.ID] = fact
	}
	return by, nil
}

// mark says of what a pool has whether it is a copy, or nobody's.
func (c claims) mark(v *api.VolumeEntry) {
	fact, known := c[v.ID]
	if c == nil || v.ID == "" || v.State == string(storage.StateIncoming) || known && fact.Machine == v.Machine {
		return
	}
	if at := slices.IndexFunc(fact.Copies, func(c api.VolumeCopy) bool { return c.Machine == v.Machine }); at >= 0 {
		v.Copy = &fact.Copies[at]
		return
	}
	if known {
		v.Unclaimed = api.Errorf(api.CodeVolumeUnclaimed, "a copy of the one that is %s on %s, and no operation that committed made it", fact.State, fact.Machine).
			WithHint("destroy it: ployzctl volume prune %s --id %s --machine %s", v.Namespace, v.ID, v.Machine)
		return
	}
	v.Unclaimed = api.Errorf(api.CodeVolumeUnclaimed, "no fact names it").WithHint("whether it may go, and why: ployzctl volume prune %s --preview", v.Namespace)
}

// lost are the data sets, and copies, that facts name and no pool of the list has. members are the cluster's machines.
func (c claims) lost(list api.VolumeList, members []string) (entries []api.VolumeEntry) {
	has := func(id, machine string) bool {
		return slices.ContainsFunc(list.Volumes, func(v api.VolumeEntry) bool { return v.ID == id && v.Machine == machine })
	}
	for _, fact := range c {
		if !has(fact.ID, fact.Machine) {
			entries = append(entries, lostEntry(fact, fact.Machine, list.Pools, members))
		}
		for i, is := range fact.Copies {
			if !has(fact.ID, is.Machine) {
				e := lostEntry(fact, is.Machine, list.Pools, members)
				e.Copy = &fact.Copies[i]
				entries = append(entries, e)
			}
		}
	}
	return entries
}

func lostEntry(fact api.VolumeFact, machine string, pools []api.PoolStatus, members []string) api.VolumeEntry {
	return api.VolumeEntry{
		ID: fact.ID, Namespace: fact.Namespace, Name: fact.Name, Machine: machine, State: api.VolumeLost,
		SizeBytes: fact.SizeBytes, Created: fact.Created, Error: whyLost(fact, machine, pools, members),
	}
}

// whyLost says why nobody has what a fact names, and what can be done.
func whyLost(fact api.VolumeFact, machine string, pools []api.PoolStatus, members []string) *api.Error {
	subject := fact.Namespace + "/" + fact.Name
	at := slices.IndexFunc(pools, func(p api.PoolStatus) bool { return p.Machine == machine })
	switch {
	case !slices.Contains(members, machine):
		err := api.Errorf(api.CodeMachineAbsent, "%s, which had it, has left the cluster", machine).About(subject)
		if fact.State == api.VolumeLive && fact.Machine == machine {
			return err.WithHint("forget it, once nothing mounts it: ployzctl volume rm %s", subject)
		}
		return err.WithHint("forget it: ployzctl volume prune %s", fact.Namespace)
	case at < 0:
		return api.Errorf(api.CodeMachineSilent, "%s has it and does not answer", machine).About(subject).Again().
			WithHint("is it up and reachable? ployzctl machine show %s", machine)
	case pools[at].State != api.StateUp:
		return pools[at].Error.About(subject)
	}
	return api.Errorf(api.CodeVolumeNotFound, "the pool of %s does not have it", machine).About(subject).
		WithHint("is it the pool that it was made in? on %s: ployzctl doctor", machine)
}

// insteadOf is why what is asked for is lost, where facts name it; else the error that there is.
func (c claims) insteadOf(ctx context.Context, m *Member, err error, list api.VolumeList, wanted string) error {
	code := api.CodeOf(err)
	if c == nil || code != api.CodeVolumeNotFound && code != api.CodeMachineSilent {
		return err
	}
	members, e := m.others(ctx)
	if e != nil {
		return e
	}
	for _, v := range c.lost(list, append(members, m.Machine)) {
		if v.Copy == nil && (v.ID == wanted || v.Namespace+"/"+v.Name == wanted) {
			return v.Error
		}
	}
	return err
}
