package deploy

import (
	"context"

	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
)

// The commit's snapshot of a data set that moves is the last one that was carried: nobody has written since. It only gets
// the commit's name, there before the commit, and here after it, when nobody waits any more.

// nameThere gives the copies' last snapshots the commit's name.
func (m *Migrate) nameThere() operation.Step {
	name := snapshotName(m.number())
	return operation.Step{
		Name: "snapshot " + name + " as carried", Participant: m.to, Clear: "ployzctl operation resolve " + m.operation,
		Do: func(ctx context.Context, act *operation.Act) error {
			if err := m.takeSnapshots(ctx, act, m.to, m.moment(), m.moments); err != nil {
				return err
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			for at, move := range m.moved {
				move.Snapshot = name
				m.moved[at] = move
			}
			return nil
		},
		Undo: func(ctx context.Context, act *operation.Act) error {
			order := m.moment()
			return m.actOn(ctx, act, m.to, Action{Verb: "unname-snapshots", Volumes: order.Volumes, Snapshot: order.Name, Tag: order.Tag, As: order.Of})
		},
	}
}

// nameHere does the same here, with a snapshot that both machines have as before.
func (m *Migrate) nameHere(ctx context.Context, act *operation.Act) error {
	return m.takeSnapshots(ctx, act, m.from, m.moment(), map[string]storage.Snapshot{})
}

// moment is the order for what moves, on either machine.
func (m *Migrate) moment() SnapshotOrder {
	order := SnapshotOrder{Name: snapshotName(m.number()), Of: m.pre.last, Tag: commitHold}
	for _, v := range m.pre.Volumes {
		order.Volumes = append(order.Volumes, v.ID)
	}
	return order
}
