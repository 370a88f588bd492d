package daemon

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// Runner runs operations; operation.Runner does.
type Runner interface {
	Preview(ctx context.Context, op operation.Operation, caller string) (api.Plan, error)
	Run(ctx context.Context, req operation.Request) api.Outcome
}

// Instances lists what runs on this machine; runtime.Runtime does.
type Instances interface {
	List(ctx context.Context) ([]runtime.Observation, error)
}

// Images is this machine's image store, as the surface and the image operations use it.
type Images interface {
	Ensure(ctx context.Context, reference string, pull runtime.Pull) (runtime.Image, error)
	Resolve(ctx context.Context, reference string, auth *runtime.RegistryAuth) (string, error)
	Lookup(ctx context.Context, reference string) (runtime.Image, error)
	Import(ctx context.Context, reference string, archive io.Reader, progress runtime.Progress) (runtime.Image, error)
	List(ctx context.Context) ([]runtime.ImageEntry, error)
	Remove(ctx context.Context, reference string) error
}

// API is the HTTP surface. Its fields are set by the composition root before Handler is called.
type API struct {
	Version api.Version
	// Status observes the machine, whatever state it is in. It should answer within seconds
	// also when the store is away.
	Status func(ctx context.Context) (api.Status, error)
	// Doctor looks at everything that the machine needs.
	Doctor func(ctx context.Context) []api.Check

	// Packages keeps packages for machine.update; nil keeps none. Update tells what this machine runs.
	Packages PackageShelf
	Update   func(ctx context.Context) (api.MachineVersion, error)

	// Founder runs Founding, the kinds that need no cluster: machine.init.
	Founder  Runner
	Founding Kinds
	// TakeBackup keeps a backup for the operation that restores it; nil where there is no store. Its digest must be the one
	// given; "" takes any.
	TakeBackup func(from io.Reader, digest string) (api.BackupManifest, error)
	// Member is nil until the machine is part of a cluster. It is asked for at every request.
	Member func() *Member

	// Admit decides whether a peer may use the socket; nil is root and the group "ployz".
	Admit func(Peer) bool
	Log   *slog.Logger

	running running
}

// Member is what a machine has as part of a cluster.
type Member struct {
	// Machine is this machine's name.
	Machine string
	Runner  Runner
	Kinds   Kinds
	Facts   store.Facts
	View    store.View
	Ledger  store.Log
	// Seen observes the other machines, by id; nil sees none.
	Seen func(ctx context.Context, members []machine.Member) map[string]api.MachineSeen
	// TokenSeen tells what was received of the holder of a token's public key; nil receives nothing.
	TokenSeen func(ctx context.Context, key string) (api.TokenSeen, error)
	// RoundTrips has members measure the way to all others; nil measures nothing.
	RoundTrips func(ctx context.Context, from []machine.Member) api.RoundTrips
	// Dead reports that a lease's holder has certainly ended; nil is never. See coordination.Leases.
	Dead func(coordination.Holder) bool

	Instances Instances
	Console   runtime.Console
	Images    Images
	// Volumes are the machine's pool; nil is a machine without.
	Volumes storage.Pool
	// Store shows the store itself.
	Store StoreSurface
	// Elsewhere reaches the other machines; nil is a cluster of one.
	Elsewhere Elsewhere
	// Missing returns those of the blobs that the image store lacks.
	Missing func(digests []string) ([]string, error)
}

// Handler returns the surface. It answers only connections that Serve accepted, since only those
// have a peer.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range a.Routes() {
		mux.HandleFunc(r.Method+" "+r.Path, r.serve)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, api.Errorf(api.CodeNotFound, "there is no %s %s", r.Method, r.URL.Path).
			WithHint("the client may be newer than the daemon: ployzctl version"))
	})
	return a.admitted(mux)
}

// answer is the part of most requests that differs: what to answer in JSON.
type answer func(r *http.Request, m *Member) (any, error)

// always answers also before the machine is part of a cluster.
func (a *API) always(f func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		value, err := f(r)
		writeJSON(w, value, err)
	}
}

// member answers once the machine is part of a cluster.
func (a *API) member(f answer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m, err := a.needMember()
		if err != nil {
			writeError(w, err)
			return
		}
		value, err := f(r, m)
		writeJSON(w, value, err)
	}
}

// stream is member for answers of many lines.
func (a *API) stream(f func(r *http.Request, m *Member, out *lines) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m, err := a.needMember()
		if err != nil {
			writeError(w, err)
			return
		}
		out := &lines{w: w}
		if err := f(r, m, out); err != nil {
			out.fail(err)
		}
	}
}

func (a *API) needMember() (*Member, error) {
	if m := a.Member(); m != nil {
		return m, nil
	}
	return nil, api.Errorf(api.CodeNotInitialised, "this machine is not part of a cluster yet").WithHint("ployzctl init")
}

// running are the operations that this daemon coordinates now, by id.
type running struct {
	mu       sync.Mutex
	byID     map[string]*stream // guarded by mu
	stopping bool               // guarded by mu
	now      int                // guarded by mu; those begun and not ended
	endings  map[ending]uint64  // guarded by mu; how often since the daemon's start
	all      sync.WaitGroup
}
