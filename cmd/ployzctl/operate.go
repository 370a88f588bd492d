package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/sdk"
)

// request is an operation that a command asks for.
type request struct {
	kind string
	body any
	// plan binds it to a preview's digest.
	plan string
	// events prints every event as JSON before the outcome.
	events bool
	// each, when set, sees every event.
	each func(api.Event)
}

// operate runs an operation, shows it, and ends with its outcome.
func (a *app) operate(ctx context.Context, req request) error {
	out, err := a.run(ctx, req)
	if err != nil {
		return err
	}
	return a.showOutcome(out)
}

// run runs an operation and returns its outcome. What goes wrong around it becomes an outcome too: refused
// when it never began, uncertain when nobody here knows how it went.
func (a *app) run(ctx context.Context, req request) (api.Outcome, error) {
	c, err := a.client()
	if err != nil {
		return refusedAs(req.kind, err), nil
	}
	defer c.Close()
	return a.follow(ctx, c, req.kind, func(ctx context.Context, each func(api.Event)) (api.Outcome, error) {
		return c.Run(ctx, req.kind, req.body, req.plan, func(e api.Event) {
			if req.events && a.json && e.Type != api.EventOutcome {
				a.writeJSON(e)
			}
			if req.each != nil {
				req.each(e)
			}
			each(e)
		})
	})
}

// follow shows an operation that run or watch streams, and lets Ctrl-C cancel it.
func (a *app) follow(ctx context.Context, c *sdk.Client, kind string, stream func(context.Context, func(api.Event)) (api.Outcome, error)) (api.Outcome, error) {
	view := a.newLive()
	brake := &brake{a: a, client: c}
	ctx, stop := brake.arm(ctx)
	defer stop()
	out, err := stream(ctx, func(e api.Event) {
		brake.opened(e.Operation)
		view.show(e)
	})
	view.end()
	switch {
	case err == nil:
		return out, nil
	case brake.left():
		return api.Outcome{Outcome: api.Uncertain, Kind: kind, Operation: brake.id, Error: leftRunning(brake.id)}, nil
	case api.AsError(err).Operation != "":
		e := api.AsError(err)
		return api.Outcome{Outcome: api.Uncertain, Kind: kind, Operation: e.Operation, Error: e}, nil
	}
	return refusedAs(kind, err), nil
}

// refuse ends an operation that could not even be asked for. A usage error stays one.
func (a *app) refuse(kind string, err error) error {
	if api.CodeOf(err) == api.CodeUsage {
		return err
	}
	return a.showOutcome(refusedAs(kind, err))
}

func refusedAs(kind string, err error) api.Outcome {
	e := api.AsError(err)
	out := api.Outcome{Outcome: api.Refused, Kind: kind, Error: e}
	if e.Code == api.CodeInternal {
		out.Outcome = api.Failed
	}
	return out
}

func leftRunning(id string) *api.Error {
	return api.Errorf(api.CodeUncertain, "it was left running: it goes on in the daemon").
		WithHint("watch it: ployzctl operation watch %s", id)
}

// brake turns the first Ctrl-C into a request to roll back, and the second into leaving.
type brake struct {
	a      *app
	client *sdk.Client

	mu    sync.Mutex
	id    string // guarded by mu
	count int    // guarded by mu; signals so far
	sent  bool   // guarded by mu; the daemon was asked
}

func (b *brake) arm(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				if b.pressed() > 1 {
					cancel()
				}
			}
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}

func (b *brake) pressed() int {
	b.mu.Lock()
	b.count++
	count := b.count
	b.mu.Unlock()
	if count == 1 {
		b.a.note("cancelling: waiting until everything is undone (Ctrl-C again leaves it running)")
	}
	b.ask()
	return count
}

// opened learns the id, which a cancel from before could not name yet.
func (b *brake) opened(id string) {
	b.mu.Lock()
	b.id = id
	b.mu.Unlock()
	b.ask()
}

// ask sends the cancel once there is both a wish and an id. Its answer is the operation's outcome.
func (b *brake) ask() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.count == 0 || b.id == "" || b.sent {
		return
	}
	b.sent = true
	id := b.id
	go func() {
		if err := b.client.Cancel(context.Background(), id); err != nil {
			b.a.note("it could not be cancelled: %s", api.AsError(err).Message)
		}
	}()
}

func (b *brake) left() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count > 1
}
