package deploy

import (
	"context"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
)

// abandoned are the snapshots of a data set on a machine that a migration or a send took for its streams and did not come to forget.
type abandoned struct {
	machine, volume, name string
	operation             string
	// keep is the last that a copy has: the next migration begins with it.
	keep string
}

// inspectAbandoned finds what migrations and sends left that are over and did not come to their end. A pool that does not say is
// left alone.
func (c *change) inspectAbandoned(ctx context.Context) {
	over := c.migrations()
	if len(over) == 0 {
		return
	}
	keep := map[string]string{}
	for _, m := range c.machines {
		var ids []string
		for _, v := range m.stored.Volumes {
			ids = append(ids, v.ID)
		}
		if len(ids) == 0 {
			continue
		}
		all, err := c.snapshotsOn(ctx, m.member.Name, ids)
		if err != nil {
			continue
		}
		for _, v := range m.stored.Volumes {
			c.findAbandoned(m.member.Name, v, all[v.ID], over, keep)
		}
	}
	for i, a := range c.abandoned {
		c.abandoned[i].keep = keep[a.volume+" "+a.operation]
	}
}

// migrations are those, and the sends, of the namespace that are over and may have left something: the unfinished ones, and the one that
// made the present commit.
func (c *change) migrations() (ids []string) {
	for _, u := range c.unended() {
		if u.Kind == api.KindMigrate || u.Kind == api.KindVolumeSend {
			ids = append(ids, u.Operation)
		}
	}
	if c.now.commit != nil && c.now.commit.Kind == api.KindMigrate && !slices.Contains(ids, c.now.commit.Operation) {
		ids = append(ids, c.now.commit.Operation)
	}
	return ids
}

func (c *change) findAbandoned(machineName string, v storage.Volume, list []storage.Snapshot, over []string, keep map[string]string) {
	for _, op := range over {
		own := func(s storage.Snapshot) bool { return storage.IsOperationSnapshot(op, s.Name) }
		held := func(s storage.Snapshot) bool { return own(s) && len(s.Holds) > 0 }
		several := len(slices.DeleteFunc(slices.Clone(list), func(s storage.Snapshot) bool { return !own(s) })) > 1
		if several || slices.ContainsFunc(list, held) {
			c.abandoned = append(c.abandoned, abandoned{machine: machineName, volume: v.ID, name: v.Name, operation: op})
		}
		fact := c.volumeByID(v.ID)
		if last := len(list) - 1; last >= 0 && own(list[last]) && fact != nil && fact.Machine != machineName {
			keep[v.ID+" "+op] = list[last].Name
		}
	}
}

// maybeElsewhere refuses a data set whose name a migration took that did not come to its end, while a machine is silent: it
// may have the name there, and an instance that writes it.
func (c *change) maybeElsewhere(d dataset) error {
	taken := d.was.State == api.VolumeLive && d.seen.State == storage.StateKept
	if !taken || !c.migrationUnended() {
		return nil
	}
	for _, m := range c.machines {
		if m.silent != nil {
			return api.Errorf(api.CodeMachineSilent, "a migration that did not come to its end took its name, and %s, which may have it, does not answer: %w", m.member.Name, m.silent).
				Again().WithHint("bring it back, or, if it never will, remove it: ployzctl machine remove %s", m.member.Name)
		}
	}
	return nil
}

// migrationUnended says that a migration of the namespace did not come to its end.
func (c *change) migrationUnended() bool {
	return slices.ContainsFunc(c.unended(), func(u operation.Unfinished) bool { return u.Kind == api.KindMigrate })
}

// forgetAbandoned are the steps that take it away, after the commit: until then, one of those might still commit.
func (c *change) forgetAbandoned() []operation.Step {
	var steps []operation.Step
	for _, a := range c.abandoned {
		steps = append(steps, operation.Step{
			Name: "forget the snapshots of " + a.operation + " of " + a.volume, Participant: a.machine,
			Clear: "ployzctl operation resolve " + c.operation,
			Do: func(ctx context.Context, act *operation.Act) error {
				carrier, err := c.kit.Carriers.Carrier(ctx, a.machine)
				if err != nil {
					return err
				}
				by := fenced(act)
				by.Operation = a.operation // whose they are
				return carrier.ForgetSnapshots(ctx, by, a.volume, a.keep)
			},
		})
	}
	return steps
}
