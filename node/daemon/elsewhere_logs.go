package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// logSource emits one machine's lines in order until they end.
type logSource struct {
	machine string
	run     func(ctx context.Context, emit func(api.LogLine) error) error
}

// logSources are this machine's journal and, in a cluster, those of the others.
func logSources(r *http.Request, m *Member, query runtime.LogQuery) ([]logSource, error) {
	machines, err := m.others(r.Context())
	if err != nil {
		return nil, err
	}
	sources := []logSource{{m.Machine, func(ctx context.Context, emit func(api.LogLine) error) error {
		return m.Console.Logs(ctx, query, func(line runtime.LogLine) error {
			return emit(api.LogLine{
				Time: line.Time, Namespace: line.Namespace, Service: line.Service, Instance: line.Instance,
				Stream: line.Stream, Message: line.Message,
			})
		})
	}}}
	ask := Ask{Method: http.MethodGet, Path: "/v1/logs", Query: r.URL.Query(), Caller: caller(r)}
	for _, name := range machines {
		sources = append(sources, logSource{name, func(ctx context.Context, emit func(api.LogLine) error) error {
			return logsAt(ctx, m, name, ask, emit)
		}})
	}
	return sources, nil
}

// logsAt copies another machine's lines. That it does not know the place is no error: others may.
func logsAt(ctx context.Context, m *Member, machine string, ask Ask, emit func(api.LogLine) error) error {
	resp, err := m.Elsewhere.Do(ctx, machine, ask)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for in := json.NewDecoder(resp.Body); ; {
		var line api.LogLine
		err := in.Decode(&line)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return api.Errorf(api.CodeMachineSilent, "its lines broke off: %w", err).About(machine).Again()
		case line.Error != nil && absent(line.Error):
			return nil
		case line.Error != nil:
			return line.Error
		}
		if err := emit(line); err != nil {
			return err
		}
	}
}

// mergePatience is how long a line that is followed waits for an earlier one from elsewhere.
const mergePatience = 200 * time.Millisecond

// merge runs sources at once and puts their lines into one order, by time.
type merge struct {
	sources []logSource
	// follow says that sources do not end: a line then waits for patience only, and a source
	// that fails is told of in a line.
	follow bool

	queues []chan api.LogLine
	errs   []error
	wake   chan struct{}
	heads  []head
}

// head is a source's next line.
type head struct {
	line  api.LogLine
	since time.Time
	have  bool
	ended bool
}

// run emits until every source has ended. Its error is the first source's that failed.
func (g *merge) run(ctx context.Context, emit func(api.LogLine) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g.start(ctx)
	for {
		wait := g.fill()
		next := g.earliest()
		if next < 0 && wait == 0 {
			return g.failure()
		}
		if next >= 0 && (wait == 0 || g.follow && time.Since(g.heads[next].since) >= mergePatience) {
			g.heads[next].have = false
			if err := emit(g.heads[next].line); err != nil {
				return err
			}
			continue
		}
		if err := g.sleep(ctx, next >= 0 && g.follow); err != nil {
			return nil // the client is gone
		}
	}
}

func (g *merge) start(ctx context.Context) {
	n := len(g.sources)
	g.queues, g.errs, g.heads = make([]chan api.LogLine, n), make([]error, n), make([]head, n)
	g.wake = make(chan struct{}, 1)
	for i, source := range g.sources {
		g.queues[i] = make(chan api.LogLine, 64)
		go func() {
			defer wake(g.wake)
			defer close(g.queues[i])
			g.errs[i] = source.run(ctx, func(line api.LogLine) error {
				select {
				case g.queues[i] <- line:
					wake(g.wake)
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}()
	}
}

// fill takes the next line of each source that has one, and returns how many have none yet.
func (g *merge) fill() (wait int) {
	for i := range g.heads {
		h := &g.heads[i]
		if h.have || h.ended {
			continue
		}
		select {
		case line, more := <-g.queues[i]:
			*h = head{line: line, since: time.Now(), have: more, ended: !more}
			if !more && g.follow && g.errs[i] != nil {
				h.line, h.have = g.notice(i), true
			}
		default:
			wait++
		}
	}
	return wait
}

// notice tells a follower that a machine's lines are missing from now on.
func (g *merge) notice(i int) api.LogLine {
	return api.LogLine{
		Time: time.Now().UTC(), Instance: g.sources[i].machine, Stream: "stderr",
		Message: "(the lines of machine " + g.sources[i].machine + " are missing from here on: " + g.errs[i].Error() + ")",
	}
}

// earliest is the source whose next line is the oldest, or -1.
func (g *merge) earliest() int {
	found := -1
	for i, h := range g.heads {
		if h.have && (found < 0 || h.line.Time.Before(g.heads[found].line.Time)) {
			found = i
		}
	}
	return found
}

func (g *merge) sleep(ctx context.Context, impatient bool) error {
	var late <-chan time.Time
	if impatient {
		late = time.After(mergePatience)
	}
	select {
	case <-g.wake:
	case <-late:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// failure is the first error of a source that was not told of already.
func (g *merge) failure() error {
	if g.follow {
		return nil
	}
	for _, err := range g.errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// lastLines keeps the last n lines of several machines, each of which sent its own last n; -1 is all.
func lastLines(n int, emit func(api.LogLine) error) (add func(api.LogLine) error, flush func() error) {
	if n < 0 {
		return emit, func() error { return nil }
	}
	var kept []api.LogLine
	add = func(line api.LogLine) error {
		if kept = append(kept, line); len(kept) > n {
			kept = kept[1:]
		}
		return nil
	}
	return add, func() error {
		for _, line := range kept {
			if err := emit(line); err != nil {
				return err
			}
		}
		return nil
	}
}
