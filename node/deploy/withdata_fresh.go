package deploy

import (
	"context"
	"maps"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
)

// A volume may also begin as what another namespace's is now: the operation takes a snapshot for itself, of all that
// one machine has of them in one moment, and clones it as it does an earlier commit's. It holds the snapshots by its
// own id, since their owner knows nothing of them, and gives them back after its commit. Where a clone cannot be
// without its snapshot (ZFS) that stays, held by nobody, for as long as the clone does.

// The phases in which volumes begin: until the end of the second the time does not depend on how much they hold.
const (
	originPhase = "snapshot the origin"
	clonePhase  = "clone"
)

// originName is what an operation calls the snapshots that it takes of what its data sets begin as.
func originName(operation string) string { return storage.OperationSnapshot(operation, 0) }

// beginAs lets each volume that the next release asks for begin as the data set of that name that a commit of another
// namespace has, as it is at the moment of the operation. The pools were looked at (inspectVolumes).
func (c *change) beginAs(ctx context.Context, commit api.Commit) error {
	facts, err := readVolumes(ctx, c.kit.Facts, commit.Namespace)
	if err != nil {
		return err
	}
	c.back, c.source = map[string]past{}, commit
	pools := map[string]Stored{}
	for _, v := range facts {
		_, asked := c.next.spec.Volumes[volumeOf(v.Name)]
		if !asked || v.State != api.VolumeLive || commit.Volumes[v.Name].ID != v.ID {
			continue
		}
		p := past{of: v, fresh: true, snapshot: storage.Snapshot{Volume: v.ID, Name: originName(c.operation)}}
		if err := c.originProblem(ctx, v, pools); err != nil {
			e := *api.AsError(err)
			e.Subject = "volumes." + v.Name
			p.err = &e
		}
		c.back[v.Name] = p
	}
	return nil
}

// originProblem is why a data set of another namespace cannot be snapshot. pools are those asked so far, by machine.
func (c *change) originProblem(ctx context.Context, v volumeFact, pools map[string]Stored) error {
	if err := c.unreachable(v.Machine); err != nil {
		return err
	}
	pool, asked := pools[v.Machine]
	if !asked {
		m, err := c.kit.Participants.Participant(ctx, v.Machine)
		if err == nil {
			pool, err = m.Stored(ctx, v.Namespace)
		}
		if err != nil {
			return err
		}
		pools[v.Machine] = pool
	}
	if pool.None != nil {
		return pool.None
	}
	at := slices.IndexFunc(pool.Volumes, func(is storage.Volume) bool { return is.ID == v.ID })
	if at < 0 {
		return storage.NotFound("the pool of "+v.Machine, v.ID)
	}
	return storage.CheckState(pool.Volumes[at].Spec, pool.Volumes[at].State, storage.StateLive)
}

// originOrders say, by machine, which snapshots the operation takes of what its data sets begin as.
func (c *change) originOrders(l layout) map[string]SnapshotOrder {
	orders := map[string]SnapshotOrder{}
	for _, d := range l.sets {
		if d.back == nil || !d.back.fresh {
			continue
		}
		order := SnapshotOrder{Name: originName(c.operation), Tag: c.operation, Volumes: orders[d.machine].Volumes}
		order.Volumes = append(order.Volumes, d.back.of.ID)
		orders[d.machine] = order
	}
	for machineName, all := range c.originQuiescers(l) {
		order := orders[machineName]
		_, order.Quiesce = stops(all)
		orders[machineName] = order
	}
	return orders
}

func (c *change) originSteps(l layout) []operation.Step {
	var steps []operation.Step
	orders := c.originOrders(l)
	for _, machineName := range slices.Sorted(maps.Keys(orders)) {
		order := orders[machineName]
		steps = append(steps, operation.Step{
			Name: originPhase, Participant: machineName, Clear: "ployzctl operation resolve " + c.operation,
			Do: func(ctx context.Context, act *operation.Act) error {
				return c.takeSnapshots(ctx, act, machineName, order, c.origins)
			},
			Undo: c.act(machineName, Action{Verb: "forget-snapshots", Volumes: order.Volumes, Snapshot: order.Name, Tag: order.Tag}, "").Do,
		})
	}
	return steps
}

// origin is the snapshot that a data set begins as. The GUID of one that the operation takes is known once it has.
func (c *change) origin(p past) storage.Origin {
	s := p.snapshot
	if p.fresh {
		c.mu.Lock()
		defer c.mu.Unlock()
		s.GUID = c.origins[p.of.ID].GUID
	}
	return storage.Origin{Volume: s.Volume, Snapshot: s.Name, GUID: s.GUID}
}

// giveOriginsBack are the steps after the commit that end the operation's hold on what its data sets began as, and the
// holds of those before it that did not come to that.
func (c *change) giveOriginsBack(l layout) []operation.Step {
	var steps []operation.Step
	orders := c.originOrders(l)
	for _, machineName := range slices.Sorted(maps.Keys(orders)) {
		steps = append(steps, c.act(machineName, Action{Verb: "forget-operation", Maker: c.operation, Volumes: orders[machineName].Volumes}, "forget the origin's snapshot"))
	}
	for _, operation := range c.owing() {
		for _, m := range c.machines {
			if m.silent == nil && m.seen.Keeps {
				steps = append(steps, c.act(m.member.Name, Action{Verb: "forget-operation", Maker: operation}, "forget the snapshots of "+operation))
			}
		}
	}
	return steps
}

// owing are the operations that may not have given back what they held of other namespaces' data sets: unfinished
// ones, for a clear those that data sets began with, and for a promotion the one of the present commit.
func (c *change) owing() []string {
	all := map[string]bool{}
	for _, u := range c.unended() {
		if takesOrigins(u.Kind) {
			all[u.Operation] = true
		}
	}
	for _, v := range c.volumes {
		if c.kind == api.KindClear && v.Origin != nil {
			all[storage.SnapshotOperation(v.Origin.Snapshot)] = true
		}
	}
	if c.kind == api.KindPromote && c.now.commit != nil && takesOrigins(c.now.commit.Kind) {
		all[c.now.head.Operation] = true
	}
	delete(all, "")
	return slices.Sorted(maps.Keys(all))
}

// takesOrigins reports whether operations of a kind take snapshots for themselves, of whichever namespace's data sets.
func takesOrigins(kind string) bool { return kind == api.KindBranch || kind == api.KindPromote }
