package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
)

// Before the commit nobody finds a candidate by name, and that is right for whatever the present
// release has too. But the first database of a namespace must be found by the job that makes its
// schema, and one that was stopped so that another can write its volume must be found by the job that follows. So,
// between two layers of a start, the routing event is published as it is with one change: services that have no
// instance, or none any more, get their ready candidates, without routes and exports. Nothing that is served changes,
// and the undo puts the event back.

// announcePhase makes the candidates of the layers so far known to those that come after them.
func (c *change) announcePhase(l layout, layer int) operation.Phase {
	phase := operation.Phase{Name: "announce"}
	fresh := c.unserved(l, l.order[:layer+1])
	if len(c.unserved(l, l.order[layer:layer+1])) == 0 || !c.startsLater(l, layer) {
		return phase
	}
	phase.Steps = []operation.Step{{
		Name: "announce " + strings.Join(fresh, ", "), Clear: "ployzctl operation resolve " + c.operation,
		Timeout: c.applyDeadline() + 5*time.Second,
		Do: func(ctx context.Context, act *operation.Act) error {
			id := fmt.Sprintf("%s-announce-%d", act.Operation, layer)
			return c.announce(ctx, act, id, c.announced(act.Operation, l, fresh))
		},
		Undo: func(ctx context.Context, act *operation.Act) error {
			if len(c.hold) > 0 {
				return nil // what was stopped does not run again yet; then holdPhase's undo puts the event back
			}
			return c.unannounce(ctx, act)
		},
	}}
	return phase
}

// The most that a gateway holds requests without hearing more: before the commit, and after it. Where the operation
// dies these end what nobody else does before the next operation.
const (
	holdMost  = 2 * time.Minute
	letGoMost = 5 * time.Second // also what a machine that is late may keep the others waiting
)

// holdPhase asks the gateways, before anything stops, to let requests wait that come for the services on hold. That ends
// once every machine serves the commit (letGo), or with the undo, which follows that of the stop.
func (c *change) holdPhase(l layout) operation.Phase {
	phase := operation.Phase{Name: "hold"}
	if len(c.hold) == 0 {
		return phase
	}
	phase.Steps = []operation.Step{{
		Name: "hold requests to " + strings.Join(c.hold, ", "), Clear: "ployzctl operation resolve " + c.operation,
		Timeout: c.applyDeadline() + 5*time.Second,
		Do: func(ctx context.Context, act *operation.Act) error {
			if err := c.announce(ctx, act, act.Operation+"-hold", c.onHold(act.Operation, l)); err != nil {
				return err
			}
			c.awaitHeldIdle(ctx, l)
			return nil
		},
		Undo: func(ctx context.Context, act *operation.Act) error { return c.unannounce(ctx, act) },
	}}
	return phase
}

// underWay is what requests that were under way when a hold began get to end in, while what they need still runs.
const underWay = time.Second

func (c *change) awaitHeldIdle(ctx context.Context, l layout) {
	held := map[string]bool{}
	for _, slot := range l.present {
		held[slot.Instance] = slices.Contains(c.hold, slot.Service)
	}
	ctx, stop := context.WithTimeout(ctx, underWay)
	defer stop()
	c.awaitIdle(ctx, held)
}

// onHold is the present routing view with the services on hold marked so.
func (c *change) onHold(op string, l layout) routing.View {
	view := c.routingView(op, c.now.head.Commit, c.presentSpec(), l.present)
	c.markHeld(view, holdMost)
	return view
}

// markHeld marks the services on hold in a view.
func (c *change) markHeld(view routing.View, most time.Duration) {
	for _, name := range c.hold {
		if service, there := view.Services[name]; there {
			service.Hold, service.HoldFor = true, api.Duration(most)
			view.Services[name] = service
		}
	}
}

// letGoName is the name of the step that ends a hold.
const letGoName = "let go of the requests on hold"

// letGo ends the hold once every machine's gateway and resolver have applied the commit: what a gateway lets go earlier
// reaches an application that may still be told the database's old address.
func (c *change) letGo(l layout) operation.Step {
	return operation.Step{
		Name: letGoName, Clear: "ployzctl operation resolve " + c.operation, Timeout: c.applyDeadline() + 5*time.Second,
		Do: func(ctx context.Context, act *operation.Act) error {
			return c.announce(ctx, act, act.Operation+"-let-go", c.view(act.Operation, l))
		},
	}
}

// unserved are the services of some layers that start and of which no instance of the present release goes on.
func (c *change) unserved(l layout, order [][]string) []string {
	stopped := c.stopsBefore(l)
	var names []string
	for _, name := range slices.Concat(order...) {
		has := slices.ContainsFunc(l.present, func(s api.Slot) bool { return s.Service == name && !stopped[s.Instance] })
		starts := slices.ContainsFunc(l.places, func(p place) bool { return p.service == name && !p.keep })
		if starts && !has {
			names = append(names, name)
		}
	}
	return names
}

// stopsBefore are the instances that have stopped when the candidates start.
func (c *change) stopsBefore(l layout) map[string]bool {
	stopped := map[string]bool{}
	for instance := range c.oldWriters(l) {
		stopped[instance] = true
	}
	for _, p := range l.places {
		if !p.keep && c.stopsFirst(p) {
			stopped[p.old.Instance] = true
		}
	}
	return stopped
}

// startsLater reports whether anything starts in a layer after this one.
func (c *change) startsLater(l layout, layer int) bool {
	for _, name := range slices.Concat(l.order[layer+1:]...) {
		_, job := l.jobs[name]
		if job || slices.ContainsFunc(l.places, func(p place) bool { return p.service == name && !p.keep }) {
			return true
		}
	}
	return false
}

// announced is the present routing view with the ready candidates of services that have nothing else.
func (c *change) announced(op string, l layout, fresh []string) routing.View {
	view := c.onHold(op, l)
	for _, name := range fresh {
		service := routing.Service{Ports: servicePorts(c.next.spec.Services[name])}
		if held := view.Services[name]; held.Hold { // its requests wait for these, and go to them after the commit
			service.Hold, service.HoldFor, service.Routes, service.Exports = true, held.HoldFor, held.Routes, held.Exports
		}
		for _, p := range l.places {
			if p.service == name {
				service.Instances = append(service.Instances, routed(c.slot(p)))
			}
		}
		view.Services[name] = service
	}
	return view
}

// announce publishes a view, guarded by the lease and by the event that inspect saw or this operation wrote,
// and waits until it is applied.
func (c *change) announce(ctx context.Context, act *operation.Act, id string, view routing.View) error {
	fact, err := c.ownRoute(ctx, view.Operation)
	if err != nil {
		return err
	}
	value, err := view.Encode()
	if err != nil {
		return err
	}
	put := store.Put{Key: store.Route(c.ns), Value: value, Expect: store.Expect(fact.Revision)}
	revision := fact.Revision
	if string(fact.Value) != string(value) {
		if revision, err = act.Commit(ctx, store.Batch{ID: id, Puts: []store.Put{put}}); err != nil {
			return err
		}
	}
	return c.awaitEverywhere(ctx, revision)
}

// awaitEverywhere waits until a revision is applied on every machine that answers.
func (c *change) awaitEverywhere(ctx context.Context, revision store.Revision) error {
	var wg sync.WaitGroup
	errs := make([]error, len(c.machines))
	for i, m := range c.machines {
		if m.silent == nil {
			wg.Go(func() { errs[i] = c.awaitApplied(ctx, m.member.Name, revision) })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ownRoute reads the routing event and refuses one that another operation wrote since inspect.
func (c *change) ownRoute(ctx context.Context, op string) (store.Fact, error) {
	fact, err := c.kit.Facts.Get(ctx, store.Route(c.ns))
	if err != nil && !store.IsNotFound(err) {
		return fact, err
	}
	if fact.Revision != c.route.Revision && writer(fact) != op {
		return fact, store.Conflict(store.Route(c.ns))
	}
	return fact, nil
}

// unannounce puts the event back that inspect saw, if this operation replaced it.
func (c *change) unannounce(ctx context.Context, act *operation.Act) error {
	fact, err := c.kit.Facts.Get(ctx, store.Route(c.ns))
	if store.IsNotFound(err) || err == nil && writer(fact) != act.Operation {
		return nil
	}
	if err != nil {
		return err
	}
	put := store.Put{Key: store.Route(c.ns), Value: c.route.Value, Expect: store.Expect(fact.Revision)}
	if len(c.route.Value) == 0 {
		put.Remove = true
	}
	id := act.Operation + "-unannounce-" + strconv.FormatUint(uint64(fact.Revision), 10)
	_, err = act.Commit(ctx, store.Batch{ID: id, Puts: []store.Put{put}})
	if api.CodeOf(err) == api.CodeLeaseLost {
		return c.unannounceUnheld(ctx, store.Batch{ID: id + "-unheld", Puts: []store.Put{put}}, err)
	}
	return err
}

// unannounceUnheld puts the event back after the lease ran out, as long as nobody else has the scope: whoever
// has it may already plan on the event as it is. lost is the error when somebody has.
func (c *change) unannounceUnheld(ctx context.Context, batch store.Batch, lost error) error {
	lease, err := c.kit.Facts.Get(ctx, store.Lease(c.Scope()))
	if err == nil {
		return lost
	}
	if !store.IsNotFound(err) {
		return err
	}
	batch.Checks = []store.Check{{Key: store.Lease(c.Scope()), Expect: lease.Revision}}
	_, err = c.kit.Facts.Commit(ctx, batch)
	return err
}

// writer is the operation that wrote a routing event.
func writer(fact store.Fact) string {
	var view struct {
		Operation string `json:"operation"`
	}
	if json.Unmarshal(fact.Value, &view) != nil {
		return ""
	}
	return view.Operation
}

// inspectRoute keeps the routing event as it is now.
func (c *change) inspectRoute(ctx context.Context) error {
	fact, err := c.kit.Facts.Get(ctx, store.Route(c.ns))
	if err != nil && !store.IsNotFound(err) {
		return err
	}
	c.route = fact
	return nil
}
