package memruntime

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// Exec implements runtime.Console through Command.
func (r *Runtime) Exec(ctx context.Context, id string, cmd runtime.Command) (int, error) {
	spec, err := r.running(id)
	if err != nil || r.Command == nil {
		return 0, err
	}
	return r.Command(spec, cmd)
}

func (r *Runtime) running(id string) (runtime.Spec, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in, err := r.findLocked(id)
	if err != nil {
		return runtime.Spec{}, err
	}
	if in.state != runtime.StateRunning {
		return runtime.Spec{}, api.Errorf(api.CodeNotRunning, "is %s", in.state).About("instance " + id)
	}
	return in.spec, nil
}

// Write puts a line of the instance into the journal.
func (r *Runtime) Write(id, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if in := r.instances[id]; in != nil {
		r.writeLocked(in, message)
	}
}

func (r *Runtime) writeLocked(in *instance, message string) {
	r.journal = append(r.journal, runtime.LogLine{
		Time: time.Now(), Namespace: in.spec.Namespace, Service: in.spec.Service, Instance: in.spec.ID, Message: message,
	})
	close(r.wake)
	r.wake = make(chan struct{})
}

// Logs implements runtime.Console.
func (r *Runtime) Logs(ctx context.Context, q runtime.LogQuery, emit func(runtime.LogLine) error) error {
	lines, next, wake := r.linesFrom(0, q)
	if q.Lines >= 0 && len(lines) > q.Lines {
		lines = lines[len(lines)-q.Lines:]
	}
	for {
		for _, line := range lines {
			if err := emit(line); err != nil {
				return err
			}
		}
		if !q.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		}
		lines, next, wake = r.linesFrom(next, q)
	}
}

// linesFrom returns the matching lines from position on, the position after the last line,
// and a channel that closes when there are more.
func (r *Runtime) linesFrom(position int, q runtime.LogQuery) ([]runtime.LogLine, int, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []runtime.LogLine
	for _, line := range r.journal[position:] {
		if matches(q, line) {
			out = append(out, line)
		}
	}
	return out, len(r.journal), r.wake
}

func matches(q runtime.LogQuery, line runtime.LogLine) bool {
	return (q.Namespace == "" || q.Namespace == line.Namespace) &&
		(q.Service == "" || q.Service == line.Service) &&
		(q.Instance == "" || q.Instance == line.Instance) &&
		!line.Time.Before(q.Since)
}

// Stats implements runtime.Console: nothing is counted here, so every counter but PIDs is -1.
func (r *Runtime) Stats(ctx context.Context, id string) (runtime.Stats, error) {
	if _, err := r.running(id); err != nil {
		return runtime.Stats{}, err
	}
	return runtime.Stats{CPU: -1, MemoryBytes: -1, PIDs: 1, ReadBytes: -1, WriteBytes: -1, RxBytes: -1, TxBytes: -1}, nil
}

// Freeze implements runtime.Console.
func (r *Runtime) Freeze(_ context.Context, id string, atMost time.Duration) error {
	return r.around("Freeze", id, func() error {
		if _, err := r.running(id); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.instances[id].thaws = time.Now().Add(atMost)
		return nil
	})
}

// Thaw implements runtime.Console.
func (r *Runtime) Thaw(_ context.Context, id string) error {
	return r.around("Thaw", id, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if in := r.instances[id]; in != nil {
			in.thaws = time.Time{}
		}
		return nil
	})
}

func (in *instance) frozen() bool { return time.Now().Before(in.thaws) }

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
