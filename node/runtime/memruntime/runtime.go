package memruntime

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// Program says what an instance does when it is started.
type Program struct {
	// Refuse is why it cannot be started at all; "" lets it start.
	Refuse string
	// Lines are written to the journal on start.
	Lines []string
	// Ends says that it ends at once with ExitCode; else it runs until stopped.
	Ends     bool
	ExitCode int
}

// Runtime implements runtime.Runtime and runtime.Console in memory. Safe for concurrent use.
type Runtime struct {
	Faults
	// Network is attached to in Prepare and detached from in Remove.
	Network runtime.Network
	// Program decides what a started instance does. Nil: jobs end with status 0, everything
	// else runs. It must be set before the first call.
	Program func(runtime.Spec) Program
	// Command answers Exec; nil answers status 0 and writes nothing.
	Command func(runtime.Spec, runtime.Command) (int, error)

	mu        sync.Mutex
	instances map[string]*instance // guarded by mu
	journal   []runtime.LogLine    // guarded by mu
	nextPID   int                  // guarded by mu
	wake      chan struct{}        // guarded by mu; closed and replaced on every line
}

type instance struct {
	spec     runtime.Spec
	image    runtime.Image
	addrs    runtime.Addresses
	identity string
	state    string
	pid      int
	started  time.Time
	exit     int
	boot     bool
	drift    []string
	thaws    time.Time // when it goes on by itself; zero when it is not frozen
}

// New returns a machine that runs nothing, with a network of its own.
func New() *Runtime {
	return &Runtime{Network: NewNetwork(), instances: map[string]*instance{}, nextPID: 1000, wake: make(chan struct{})}
}

// Prepare implements runtime.Runtime.
func (r *Runtime) Prepare(ctx context.Context, spec runtime.Spec, image runtime.Image, addrs runtime.Addresses) error {
	return r.around("Prepare", spec.ID, func() error { return r.prepare(ctx, spec, image, addrs) })
}

func (r *Runtime) prepare(ctx context.Context, spec runtime.Spec, image runtime.Image, addrs runtime.Addresses) error {
	if err := spec.Check(); err != nil {
		return err
	}
	identity, err := runtime.Identity(spec, image, addrs)
	if err != nil {
		return err
	}
	r.mu.Lock()
	have := r.instances[spec.ID]
	r.mu.Unlock()
	if have != nil && have.identity != identity {
		return api.Errorf(api.CodeRuntimeConflict, "exists with identity %s, wanted is %s", have.identity, identity).About("instance " + spec.ID)
	}
	if err := r.Network.Attach(ctx, spec.ID, spec.NamespaceID, addrs); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if have == nil {
		r.instances[spec.ID] = &instance{spec: spec, image: image, addrs: addrs, identity: identity, state: runtime.StateStopped, exit: -1}
	}
	return nil
}

// Start implements runtime.Runtime.
func (r *Runtime) Start(ctx context.Context, id string) error {
	return r.around("Start", id, func() error { return r.start(id) })
}

func (r *Runtime) start(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	in, err := r.findLocked(id)
	if err != nil {
		return err
	}
	in.boot = !in.spec.Job
	if in.state == runtime.StateRunning {
		return nil
	}
	p := r.program(in.spec)
	for _, line := range p.Lines {
		r.writeLocked(in, line)
	}
	if p.Refuse != "" {
		in.state, in.exit = runtime.StateFailed, p.ExitCode
		return api.Errorf(api.CodeStartFailed, "%s", strings.Join(append(p.Lines, p.Refuse), "\n")).About("instance " + id)
	}
	r.nextPID++
	in.state, in.pid, in.started, in.exit = runtime.StateRunning, r.nextPID, time.Now(), -1
	if p.Ends {
		in.end(p.ExitCode)
	}
	return nil
}

func (in *instance) end(code int) {
	in.thaws = time.Time{}
	in.state, in.pid, in.exit = runtime.StateStopped, 0, code
	if code != 0 {
		in.state = runtime.StateFailed
	}
}

func (r *Runtime) program(spec runtime.Spec) Program {
	if r.Program == nil {
		return Program{Ends: spec.Job}
	}
	return r.Program(spec)
}

// Stop implements runtime.Runtime.
func (r *Runtime) Stop(ctx context.Context, id string) error {
	return r.around("Stop", id, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if in := r.instances[id]; in != nil {
			in.boot = false
			if in.state == runtime.StateRunning {
				in.end(0)
			}
			if !in.spec.Job {
				in.state = runtime.StateStopped
			}
		}
		return nil
	})
}

// Remove implements runtime.Runtime.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	return r.around("Remove", id, func() error {
		if err := r.checkStopped(id); err != nil {
			return err
		}
		if err := r.Network.Detach(ctx, id); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.instances, id)
		return nil
	})
}

func (r *Runtime) checkStopped(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if in := r.instances[id]; in != nil && in.state == runtime.StateRunning {
		return api.Errorf(api.CodeRuntimeBusy, "runs as pid %d", in.pid).About("instance " + id)
	}
	return nil
}

// Inspect implements runtime.Runtime.
func (r *Runtime) Inspect(ctx context.Context, id string) (runtime.Observation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in, err := r.findLocked(id)
	if err != nil {
		return runtime.Observation{}, err
	}
	return in.observe(), nil
}

// List implements runtime.Runtime.
func (r *Runtime) List(ctx context.Context) ([]runtime.Observation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []runtime.Observation
	for _, id := range sortedKeys(r.instances) {
		all = append(all, r.instances[id].observe())
	}
	return all, nil
}

func (in *instance) observe() runtime.Observation {
	o := runtime.Observation{
		ID: in.spec.ID, Spec: in.spec, Addresses: in.addrs, Unit: "ployz-workload@" + in.spec.ID + ".service",
		State: in.state, MainPID: in.pid, Started: in.started, ExitCode: in.exit, Boot: in.boot,
		Drift: slices.Clone(in.drift), Frozen: in.frozen(),
	}
	if in.state == runtime.StateRunning {
		o.Cgroup = "/ployz.slice/ployz-workloads.slice/" + o.Unit + "/payload"
	}
	return o
}

// End makes a running instance end by itself, as after a crash.
func (r *Runtime) End(id string, code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if in := r.instances[id]; in != nil && in.state == runtime.StateRunning {
		in.end(code)
	}
}

// Bend records drift on an instance, as somebody's hand on its files would.
func (r *Runtime) Bend(id, drift string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if in := r.instances[id]; in != nil {
		in.drift = append(in.drift, drift)
	}
}

// World is every instance as one line of text, sorted: what exists, not what happened before.
// Process ids and times are left out, so that equal worlds are equal texts.
func (r *Runtime) World() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for _, id := range sortedKeys(r.instances) {
		in := r.instances[id]
		lines = append(lines, fmt.Sprintf("instance %s %s/%s slot=%s image=%s v4=%s v6=%s state=%s boot=%t identity=%s",
			id, in.spec.Namespace, in.spec.Service, in.spec.Slot, in.image.Digest, in.addrs.V4, in.addrs.V6, in.state, in.boot, in.identity))
		if in.frozen() {
			lines[len(lines)-1] += " frozen"
		}
	}
	return lines
}

func (r *Runtime) findLocked(id string) (*instance, error) {
	in := r.instances[id]
	if in == nil {
		return nil, api.Errorf(api.CodeRuntimeNotFound, "no such instance on this machine").
			About("instance " + id).WithHint("ployzctl service ls")
	}
	return in, nil
}
