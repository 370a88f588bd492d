// Package memworld is one machine in memory behind the daemon's real HTTP surface, for tests of that
// surface, of the SDK and of the command.
//
// The socket, the surface, the operations, the leases and the participant are the real ones; only
// what runs, the images and the store are in memory. Nothing here is for production.
package memworld

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/daemon"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage/mempool"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// World is a daemon's real HTTP surface, on a real socket, over the real kernel; only what runs, the
// images and the store are in memory.
//
//	ployzctl ── socket ── daemon.API ── operation.Runner ── deploy.* ── deploy.Local ── memruntime
//	                           └──────────────────── memstore ───────────────┘
type World struct {
	Store   *memstore.Store
	Runtime *memruntime.Runtime
	Images  *memruntime.Images
	API     *daemon.API
	// Volumes is the pool of m1, of which it has none before UsePool.
	Volumes *Volumes
	network *memruntime.Network
	// pool is what deploys keep volumes in; it is shown after ShowPool only.
	pool   *mempool.Pool
	member atomic.Pointer[daemon.Member]
	future *daemon.Member // what init makes the member

	ahead atomic.Int64 // by how much the store's clock is ahead, in nanoseconds

	closed atomic.Bool

	mu sync.Mutex
	// programs decides what an instance does, by image. Guarded by mu.
	programs map[string]memruntime.Program
	lag      bool // guarded by mu; the gateway never says that it has applied anything
	// others are the participants of further machines, by name. Guarded by mu.
	others map[string]deploy.Participant
}

// Start serves on socket until stop is called. dir is for what is on disk.
func Start(dir, socket string) (w *World, stop func(), err error) {
	w = &World{
		Runtime: memruntime.New(), Images: memruntime.NewImages(),
		Volumes: newVolumes(), pool: mempool.New(""), network: memruntime.NewNetwork(), programs: map[string]memruntime.Program{},
	}
	w.Store = memstore.New(memstore.Config{Clock: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }})
	w.Runtime.Program = w.program
	w.Runtime.Command = command
	for _, ref := range []string{"app:v1", "app:v2", "web:v1", "db:v1"} {
		w.Images.Serve(ref, ref, runtime.ImageConfig{})
	}
	fences, err := coordination.OpenFences(filepath.Join(dir, "fences.json"))
	if err != nil {
		return nil, nil, err
	}
	w.future = w.makeMember(fences)
	w.API = &daemon.API{
		Version: api.Version{Version: "1.2.3", API: "v1"}, Status: w.status, Doctor: doctor,
		Founder: w.future.Runner, Member: w.member.Load, Log: slog.New(slog.DiscardHandler),
		Founding: daemon.Kinds{api.KindMachineInit: daemon.KindOf(func(r api.InitRequest) operation.Operation { return &found{w: w, request: r} }, nil)},
		Packages: packages{}, Update: version,
		Admit: func(daemon.Peer) bool { return !w.closed.Load() },
	}
	l, err := daemon.Listen(socket)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.API.Serve(ctx, l) }()
	return w, func() { cancel(); <-done }, nil
}

// ShowPool makes m1's pool the one in memory that its deploys use.
func (w *World) ShowPool() { w.Volumes.UsePool(w.pool) }

func (w *World) makeMember(fences *coordination.Fences) *daemon.Member {
	local := &deploy.Local{
		Runtime: w.Runtime, Images: w.Images, Network: w.network, Console: w.Runtime, Fences: fences, Pool: w.pool,
		Subnet:  deploy.Subnet{V4: netip.MustParsePrefix("10.101.1.0/24"), V6: netip.MustParsePrefix("fd00:1:2:1::/64")},
		Machine: w.observe, Serving: w.serving,
	}
	kit := deploy.Kit{
		Facts: w.Store.Facts(), Participants: fleet{w, local}, Sealer: plainSealer{}, Log: w.Store.Log(), Now: time.Now,
		Settle: time.Millisecond, ApplyDeadline: 300 * time.Millisecond,
	}
	leases := &coordination.Leases{Facts: w.Store.Facts()}
	runner := &operation.Runner{
		Facts: w.Store.Facts(), Log: w.Store.Log(), Machine: "m1", Now: time.Now, NewID: operation.NewID,
		Acquire: func(ctx context.Context, scope string, h coordination.Holder) (operation.Lease, error) {
			return leases.Acquire(ctx, scope, h)
		},
	}
	kinds := daemon.DeployKinds(kit)
	for name, kind := range daemon.ImageKinds(daemon.ImageKit{Facts: w.Store.Facts(), Images: w.Images, Pruner: w, Machine: "m1"}) {
		kinds[name] = kind
	}
	return &daemon.Member{
		Machine: "m1", Runner: runner, Kinds: kinds, Facts: w.Store.Facts(), View: w.Store.View(), Ledger: w.Store.Log(),
		Instances: w.Runtime, Console: w.Runtime, Images: w.Images, Volumes: w.Volumes, Missing: w.missing, RoundTrips: roundTrips,
	}
}

// program is what an instance does: what the test said of its image, else jobs end well and all
// else runs.
func (w *World) program(spec runtime.Spec) memruntime.Program {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p, ok := w.programs[spec.Image]; ok {
		return p
	}
	return memruntime.Program{Lines: []string{spec.Slot + " starts"}, Ends: spec.Job}
}

// command is what exec runs; `ready`, for probes, never succeeds in app:v1.
func command(spec runtime.Spec, c runtime.Command) (int, error) {
	switch c.Args[0] {
	case "ready":
		if spec.Image == "app:v1" {
			return 1, nil
		}
	case "cat":
		if c.Stdin != nil {
			io.Copy(c.Stdout, c.Stdin)
		}
	case "echo":
		fmt.Fprintln(c.Stdout, strings.Join(c.Args[1:], " "))
	case "warn":
		fmt.Fprintln(c.Stderr, strings.Join(c.Args[1:], " "))
	case "size":
		size := <-c.Resize
		fmt.Fprintf(c.Stdout, "%dx%d\n", size.Columns, size.Rows)
	case "exit":
		status := 0
		fmt.Sscan(c.Args[1], &status)
		return status, nil
	case "unusable":
		return 0, api.Errorf(api.CodeCommandUnusable, "%s: permission denied", c.Args[0])
	default:
		return 0, api.Errorf(api.CodeCommandAbsent, "%s: executable file not found in $PATH", c.Args[0])
	}
	return 0, nil
}

func (w *World) observe(context.Context) (deploy.Observation, error) {
	return deploy.Observation{Controllers: []string{"pids"}, CPUs: 4, MemoryBytes: 8 << 30, Listening: map[string]string{"tcp/25": "exim4 (pid 812)"}}, nil
}

func (w *World) serving(ctx context.Context, ns string) ([]deploy.Consumer, error) {
	fact, err := w.Store.Facts().Get(ctx, store.Route(ns))
	if err != nil && !store.IsNotFound(err) {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lag {
		fact.Revision = 1
	}
	return []deploy.Consumer{{Name: "gateway", Revision: fact.Revision}}, nil
}

func (w *World) missing(digests []string) ([]string, error) { return digests, nil }

// PlanPrune implements daemon.Pruner.
func (w *World) PlanPrune(ctx context.Context, _ time.Duration) (api.PrunePlan, error) {
	list, err := w.Images.List(ctx)
	var plan api.PrunePlan
	for _, e := range list {
		plan.Images = append(plan.Images, api.PrunedImage{Digest: e.Digest, References: e.References})
	}
	return plan, err
}

// Prune implements daemon.Pruner.
func (w *World) Prune(ctx context.Context, plan api.PrunePlan) (api.PrunePlan, error) {
	for _, i := range plan.Images {
		for _, ref := range i.References {
			if err := w.Images.Remove(ctx, ref); err != nil {
				return plan, err
			}
		}
	}
	return plan, nil
}

func (w *World) status(context.Context) (api.Status, error) {
	s := api.Status{
		Machine: api.MachineStatus{Name: "m1"}, Daemon: api.DaemonStatus{State: api.StateUp, PID: 42, Version: "1.2.3"},
		Store: api.StoreStatus{State: api.StateAbsent}, Gateway: api.ServingStatus{State: api.StateAbsent}, DNS: api.ServingStatus{State: api.StateAbsent},
		Workloads: api.WorkloadsStatus{Drift: []api.Drift{}}, Notes: []string{"this machine is not part of a cluster: ployzctl init"},
	}
	if w.member.Load() == nil {
		return s, nil
	}
	s.Cluster = api.ClusterStatus{Name: "main", ID: "c1", Machines: 1, Voters: []string{"m1"}}
	s.Store = api.StoreStatus{State: api.StateUp, Sequence: 9}
	s.Gateway = api.ServingStatus{State: api.StateUp, Sequence: 7, PID: 43, Listen: []string{"0.0.0.0:80"}}
	s.DNS = api.ServingStatus{State: api.StateUncertain, Sequence: 7, PID: 44, Why: "the mirror has been silent for 20s", Uncertain: true}
	s.Notes = []string{"there is one copy of everything committed: losing this machine's disk loses it"}
	return s, nil
}

func doctor(context.Context) []api.Check {
	return []api.Check{
		{Name: "cgroup v2", Result: api.CheckOK, Seen: "unified"},
		{Name: "overlay file system", Result: api.CheckFailed, Seen: "absent",
			Error: api.Errorf(api.CodeRuntimeUnsupported, "the kernel has no overlay file system").WithHint("modprobe overlay")},
	}
}

// found stands for machine.init: one step, one commit, and the machine is a member.
type found struct {
	w       *World
	request api.InitRequest
}

// Kind implements operation.Operation.
func (f *found) Kind() string { return api.KindMachineInit }

// Scope implements operation.Operation.
func (f *found) Scope() string { return "cluster" }

// Inspect implements operation.Operation.
func (f *found) Inspect(context.Context, operation.Situation) error {
	if f.w.member.Load() != nil {
		return api.Errorf(api.CodeMachineInitialised, "this machine is already part of a cluster").WithHint("ployzctl status")
	}
	return nil
}

// Plan implements operation.Operation.
func (f *found) Plan() operation.Plan {
	return operation.Plan{
		Changes: []api.Change{{Action: "create", Subject: "cluster " + f.request.ClusterName}},
		Phases:  []operation.Phase{{Name: "prepare", Steps: []operation.Step{{Name: "make the bridge", Do: func(context.Context, *operation.Act) error { return nil }}}}},
		Commit: operation.Commit{Witness: store.Cluster(), Batch: func(op string) ([]store.Put, error) {
			cluster, err := json.Marshal(machine.Cluster{Operation: op, Name: f.request.ClusterName})
			if err != nil {
				return nil, err
			}
			member, err := json.Marshal(machine.Member{Operation: op, ID: "m1", Name: "m1", Recipient: "age1test"})
			return []store.Put{{Key: store.Cluster(), Value: cluster, Expect: store.Expect(0)}, {Key: store.Machine("m1"), Value: member}}, err
		}},
		Cleanup: []operation.Step{{Name: "be a member", Do: func(context.Context, *operation.Act) error { f.w.member.Store(f.w.future); return nil }}},
	}
}

// fleet is the first machine and those that were added.
type fleet struct {
	w     *World
	local *deploy.Local
}

func (f fleet) Participant(_ context.Context, name string) (deploy.Participant, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if p, ok := f.w.others[name]; ok {
		return p, nil
	}
	return f.local, nil
}

// plainSealer wraps instead of encrypting.
type plainSealer struct{}

func (plainSealer) Seal(value []byte, _ []string) ([]byte, error) {
	return bytes.Join([][]byte{[]byte("sealed"), value}, []byte(" ")), nil
}

func (s plainSealer) Reseal(_ context.Context, sealed []byte, _ []string, ns, name string) ([]byte, string, error) {
	return sealed, s.Fingerprint(ns, name, bytes.TrimPrefix(sealed, []byte("sealed "))), nil
}

func (plainSealer) Fingerprint(_, _ string, value []byte) string {
	return fmt.Sprintf("%08x", len(value))
}

// Found makes the machine a member, without the operation.
func (w *World) Found() error {
	member, err := json.Marshal(machine.Member{Operation: "test", ID: "m1", Name: "m1", Recipient: "age1test"})
	if err != nil {
		return err
	}
	_, err = w.Store.Facts().Commit(context.Background(), store.Batch{ID: "found", Puts: []store.Put{{Key: store.Machine("m1"), Value: member}}})
	w.member.Store(w.future)
	return err
}

// Close refuses every peer from now on.
func (w *World) Close() { w.closed.Store(true) }

// Pass moves the store's clock: leases run out.
func (w *World) Pass(d time.Duration) { w.ahead.Add(int64(d)) }

// SetLag makes the gateway say that it has applied nothing new.
func (w *World) SetLag(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lag = on
}

// SetProgram decides what instances of an image do from their next start on.
func (w *World) SetProgram(image string, p memruntime.Program) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.programs[image] = p
}
