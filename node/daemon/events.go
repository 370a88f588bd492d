package daemon

import (
	"context"
	"net/http"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
)

// recentOperations is how far back GET /v1/events begins.
const recentOperations = 10

// watchEvents answers GET /v1/events?follow=true: the entries of the last operations and the routing
// views of now, in order of time, and with follow everything that comes after.
func watchEvents(r *http.Request, m *Member, out *lines) error {
	out.last = func(e *api.Error) any { return api.ClusterEvent{Type: "error", Error: e} }
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	after, past, err := recent(ctx, m)
	if err != nil {
		return err
	}
	follow := r.URL.Query().Get("follow") == "true"
	routes, err := m.View.Follow(ctx, store.Routes())
	if err != nil {
		return err
	}
	defer routes.Close()
	now, err := currentRoutes(ctx, routes)
	if err != nil {
		return err
	}
	past = append(past, now...)
	slices.SortStableFunc(past, func(a, b api.ClusterEvent) int { return a.Time.Compare(b.Time) })
	if err := out.start(); err != nil {
		return err
	}
	for _, e := range past {
		if err := out.write(e); err != nil {
			return err
		}
	}
	if !follow {
		return nil
	}
	return followEvents(ctx, cancel, m, after, routes, out)
}

// recent reads the last operations' entries, and the ledger's position after them.
func recent(ctx context.Context, m *Member) (store.Revision, []api.ClusterEvent, error) {
	last, err := m.Ledger.Last(ctx, recentOperations)
	if err != nil {
		return 0, nil, err
	}
	var (
		after store.Revision
		list  []api.ClusterEvent
	)
	for _, record := range last {
		after = max(after, record.Revision)
		events, err := operation.History(ctx, m.Ledger, record.Operation)
		if err != nil {
			return 0, nil, err
		}
		for _, e := range events {
			list = append(list, api.ClusterEvent{Time: e.Time, Type: "operation", Operation: &e})
		}
	}
	return after, list, nil
}

// currentRoutes reads a feed up to the mark that the view is complete.
func currentRoutes(ctx context.Context, feed store.Feed) ([]api.ClusterEvent, error) {
	var list []api.ClusterEvent
	for {
		change, err := feed.Next(ctx)
		if err != nil {
			return nil, err
		}
		if change.Fact.Key != "" && !change.Removed {
			list = append(list, routingEvent(change))
		}
		if change.Current {
			return list, nil
		}
	}
}

func routingEvent(change store.Change) api.ClusterEvent {
	e := api.RoutingEvent{Namespace: change.Fact.Key.Last(), Revision: uint64(change.Fact.Revision), Removed: change.Removed}
	if view, err := routing.Decode(e.Namespace, change.Fact.Value); err == nil { // a bad event is still an event
		e.Commit, e.Operation = view.Commit, view.Operation
		for _, s := range view.Services {
			e.Instances += len(s.Instances)
		}
	}
	return api.ClusterEvent{Time: change.Fact.Written, Type: "routing", Routing: &e}
}

// followEvents merges the two feeds until one breaks or the client goes.
func followEvents(ctx context.Context, cancel func(), m *Member, after store.Revision, routes store.Feed, out *lines) error {
	ledger, err := m.Ledger.Follow(ctx, after)
	if err != nil {
		return err
	}
	defer ledger.Close()
	merged, broke := make(chan api.ClusterEvent), make(chan error, 2)
	send := func(e api.ClusterEvent) {
		select {
		case merged <- e:
		case <-ctx.Done():
		}
	}
	go func() { broke <- pumpLedger(ctx, ledger, send) }()
	go func() { broke <- pumpRoutes(ctx, routes, send) }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-broke:
			return err
		case e := <-merged:
			if err := out.write(e); err != nil {
				cancel()
				return err
			}
		}
	}
}

func pumpLedger(ctx context.Context, feed store.LogFeed, send func(api.ClusterEvent)) error {
	for {
		record, err := feed.Next(ctx)
		if err != nil {
			return err
		}
		entries, err := operation.Entries(record)
		if err != nil {
			return err
		}
		for _, e := range entries {
			send(api.ClusterEvent{Time: e.Time, Type: "operation", Operation: &e})
		}
	}
}

func pumpRoutes(ctx context.Context, feed store.Feed, send func(api.ClusterEvent)) error {
	for {
		change, err := feed.Next(ctx)
		if err != nil {
			return err
		}
		if change.Fact.Key != "" {
			send(routingEvent(change))
		}
	}
}
