package deploy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/storage"
)

const (
	// frozenAtMost is when a frozen instance goes on whatever has become of this process, and so how long a snapshot may
	// take.
	frozenAtMost = 10 * time.Second
	// hookTimeout is what a command gets that has no Timeout of its own.
	hookTimeout = 10 * time.Second
)

// snapshotQuiet takes an order's snapshots while the instances that it names hold still: commands, freeze, snapshot,
// thaw, commands. All of it is this machine's, so that what stands still waits for no coordinator and no network.
// Where a part fails there is no snapshot; what came before is taken back in each case.
func (l *Local) snapshotQuiet(ctx context.Context, order SnapshotOrder) ([]storage.Snapshot, error) {
	if len(order.Quiesce) > 0 { // an instance that two operations quiesce would go on with the first
		l.quiescing.Lock()
		defer l.quiescing.Unlock()
	}
	running, err := l.runningOf(ctx, order.Quiesce)
	if err != nil {
		return nil, err
	}
	var taken []storage.Snapshot
	err = l.withHooks(ctx, running, func() error {
		return l.frozen(ctx, running, func(ctx context.Context) (err error) {
			taken, err = l.Pool.Snapshot(ctx, order.Name, order.Volumes...)
			return err
		})
	})
	if err != nil && len(taken) > 0 {
		cleanup, stop := context.WithTimeout(context.WithoutCancel(ctx), frozenAtMost)
		defer stop()
		return nil, errors.Join(err, l.forgetSnapshots(cleanup, order.Name, order.Tag, order.Volumes))
	}
	return taken, err
}

// settle runs the commands of instances, without a snapshot between them.
func (l *Local) settle(ctx context.Context, instances []QuiesceInstance) error {
	l.quiescing.Lock()
	defer l.quiescing.Unlock()
	running, err := l.runningOf(ctx, instances)
	if err != nil {
		return err
	}
	return l.withHooks(ctx, running, func() error { return nil })
}

// quiet is an instance that runs and has to hold still.
type quiet struct {
	QuiesceInstance
	spec runtime.Spec
}

// runningOf are those of the instances that run.
func (l *Local) runningOf(ctx context.Context, all []QuiesceInstance) ([]quiet, error) {
	var running []quiet
	for _, q := range all {
		seen, err := l.Runtime.Inspect(ctx, q.Instance)
		if err != nil && api.CodeOf(err) != api.CodeRuntimeNotFound {
			return nil, err
		}
		if err != nil || seen.State != runtime.StateRunning {
			continue
		}
		if seen.Frozen { // by a daemon that died, and it would run no command
			if err := l.Console.Thaw(ctx, q.Instance); err != nil {
				return nil, err
			}
		}
		running = append(running, quiet{q, seen.Spec})
	}
	return running, nil
}

// withHooks does something between the instances' commands. After runs wherever Before was begun, also when ctx has
// ended.
func (l *Local) withHooks(ctx context.Context, instances []quiet, do func() error) error {
	begun := 0
	var err error
	for _, q := range instances {
		begun++
		if err = l.hook(ctx, q, q.Before); err != nil {
			break
		}
	}
	if err == nil {
		err = do()
	}
	for _, q := range slices.Backward(instances[:begun]) {
		err = errors.Join(err, l.hook(context.WithoutCancel(ctx), q, q.After))
	}
	return err
}

// hook runs one command in an instance. Error: volume.quiesce-failed with what it said last.
func (l *Local) hook(ctx context.Context, q quiet, command []string) error {
	if len(command) == 0 {
		return nil
	}
	limit := q.Timeout.D(hookTimeout)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var said lastLines
	code, err := l.Console.Exec(ctx, q.Instance, runtime.Command{Args: command, Stdout: &said, Stderr: &said})
	var failed *api.Error
	switch {
	case err == nil && code == 0:
		return nil
	case over(ctx):
		failed = q.failed("%s had not ended after %s", strings.Join(command, " "), limit)
	case err != nil:
		failed = q.failed("%s: %w", strings.Join(command, " "), err)
	default:
		failed = q.failed("%s ended with status %d", strings.Join(command, " "), code)
	}
	failed.Log = said.lines()
	return failed.WithHint("try it: ployzctl exec %s/%s -- %s", q.spec.Namespace, q.spec.Service, strings.Join(command, " "))
}

// failed says that an instance did not hold still.
func (q quiet) failed(format string, args ...any) *api.Error {
	return api.Errorf(api.CodeVolumeQuiesce, format, args...).About(q.spec.Namespace+"/"+q.spec.Slot).
		WithHint("what it says: ployzctl logs %s/%s", q.spec.Namespace, q.spec.Service)
}

// frozen does something while the instances that are to be frozen are. That they were all the while is known by the
// time: nothing thaws them earlier.
func (l *Local) frozen(ctx context.Context, instances []quiet, do func(context.Context) error) error {
	still := slices.DeleteFunc(slices.Clone(instances), func(q quiet) bool { return q.Mode != api.QuiesceFreeze })
	if len(still) == 0 {
		return do(ctx)
	}
	begun := time.Now()
	quick, cancel := context.WithTimeout(ctx, frozenAtMost)
	defer cancel()
	err := each(still, func(q quiet) error { return l.Console.Freeze(quick, q.Instance, frozenAtMost) })
	if err == nil {
		err = do(quick)
	}
	if took := time.Since(begun); err == nil && took >= frozenAtMost {
		err = still[0].failed("the snapshots took %s, and what is frozen goes on after %s", took.Round(time.Millisecond), frozenAtMost)
	}
	thawing, stop := context.WithTimeout(context.WithoutCancel(ctx), frozenAtMost)
	defer stop()
	return errors.Join(err, each(still, func(q quiet) error { return l.Console.Thaw(thawing, q.Instance) }))
}

// each does something to all instances at once.
func each(instances []quiet, do func(quiet) error) error {
	errs := make([]error, len(instances))
	var all sync.WaitGroup
	for i, q := range instances {
		all.Go(func() {
			if err := do(q); err != nil {
				errs[i] = q.failed("%w", err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// lastLines keeps the end of what a command writes. Safe for the two streams of one command.
type lastLines struct {
	mu   sync.Mutex
	text []byte // guarded by mu
}

// lastBytes is how much of it.
const lastBytes = 4 << 10

// Write implements io.Writer.
func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	l.text = l.text[max(0, len(l.text)-lastBytes):]
	return len(p), nil
}

func (l *lastLines) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.TrimSpace(string(l.text))
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	return lines[max(0, len(lines)-tailLines):]
}
