package load

import (
	"context"
	"sync"
	"time"
)

// Run asks until ctx ends, waits for what is still under way, and reports. It calls ready once
// every load has had its first right answer.
func Run(ctx context.Context, p Plan, ready func()) Report {
	begin := time.Now()
	loads := len(p.HTTP) + len(p.DNS) + len(p.TCP)
	c := newCounter(loads)
	var all sync.WaitGroup
	for _, h := range p.HTTP {
		all.Go(func() { pace(ctx, c, h.Name, h.Rate, max(h.Patience, Patience), h.asker()) })
	}
	for _, d := range p.DNS {
		all.Go(func() { pace(ctx, c, d.Name, d.Rate, Patience, d.asker()) })
	}
	for _, t := range p.TCP {
		all.Go(func() { keep(ctx, c, &line{TCP: t}) })
	}
	all.Go(func() { awaitFirst(ctx, c, loads, ready) })
	all.Wait()
	return c.report(time.Since(begin))
}

func awaitFirst(ctx context.Context, c *counter, loads int, ready func()) {
	for range loads {
		select {
		case <-c.answered:
		case <-ctx.Done():
			return
		}
	}
	ready()
}

// pace sends at a steady rate. Each request has its own patience and outlives ctx.
func pace(ctx context.Context, c *counter, name string, rate float64, patience time.Duration, ask asker) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			open.Go(func() { c.add(name, time.Now(), patiently(ctx, patience, ask)) })
		}
	}
}

// keep sends one line after the other, so that a connection has one line under way.
func keep(ctx context.Context, c *counter, l *line) {
	tick := time.NewTicker(l.Every)
	defer tick.Stop()
	for ctx.Err() == nil {
		at := time.Now()
		c.add(l.Name, at, patiently(ctx, Patience, l.ask))
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	if l.conn != nil {
		l.conn.Close()
	}
}

func patiently(ctx context.Context, patience time.Duration, ask asker) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return ask(ctx)
}

// Watch keeps one connection and can be asked for its counts at any time.
type Watch struct {
	line  *line
	count *counter
	begin time.Time
}

// NewWatch returns a watch that does nothing until Run.
func NewWatch(t TCP) *Watch {
	return &Watch{line: &line{TCP: t}, count: newCounter(1), begin: time.Now()}
}

// Run keeps the connection until ctx ends.
func (w *Watch) Run(ctx context.Context) { keep(ctx, w.count, w.line) }

// Report returns the counts so far.
func (w *Watch) Report() Report { return w.count.report(time.Since(w.begin)) }
