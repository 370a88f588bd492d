package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ployz/ployz/datapath/dns"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// routingSource answers from the cluster's facts: the last good ones from disk at once, then those
// of the machine's edge, and from what the machine knows by itself.
type routingSource struct {
	log      *slog.Logger
	server   *dns.Server
	follower *routing.Follower
	members  *members
	local    *local
	started  time.Time

	mu sync.Mutex
	// All below is guarded by mu: the parts of the zone, and what was made of them.
	projection routing.Projection
	views      map[string]dns.Namespace // converted, by name
	machines   []dns.Machine
	self       machine.Identity
	stranger   error // why self is not known, nil when it is
	locals     []dns.Local
	// history is part of the zone's generation: it is raised when the cluster's state went back,
	// which the server would otherwise refuse.
	history int
	doubt   string // why the routes may be stale
	told    string // what was logged last
}

// edgeOptions say where the machine keeps what the source needs.
type edgeOptions struct {
	state string // folder of machine.json, keys, workloads and the projection
	seed  string // file of the key for the edge; "" is the one in state
	url   string
}

// newRoutingSource follows the edge; nothing is read or asked before Begin.
func newRoutingSource(o edgeOptions, server *dns.Server, log *slog.Logger) *routingSource {
	s := &routingSource{log: log, server: server, started: time.Now(), stranger: machine.NotInitialised(), doubt: "starting"}
	view := &routing.Opening{Open: o.open, Generation: func() (uint64, error) { return machine.GenerationOf(o.state) }}
	folder := filepath.Join(o.state, "dns")
	s.follower = &routing.Follower{
		View: view, Path: filepath.Join(folder, "projection.json"), Log: log,
		Check: s.check, Apply: s.applyRoutes, Uncertain: s.applyDoubt,
	}
	s.members = &members{view: view, path: filepath.Join(folder, "machines.json"), log: log, show: s.applyMachines}
	s.local = &local{state: o.state, log: log, show: s.applyLocal}
	return s
}

// open connects to the edge in the background; it does not wait for it.
func (o edgeOptions) open() (store.View, error) {
	self, err := machine.LoadIdentity(o.state)
	if err != nil {
		return nil, err
	}
	seed := o.seed
	if seed == "" {
		seed = natsstore.SeedFile(filepath.Join(o.state, "keys"), natsconf.RoleDNS)
	}
	s, err := natsstore.Open(natsstore.Config{
		Machine: self.ID, Reader: natsconf.RoleDNS, Generation: self.Generation, EdgeURL: o.url, EdgeSeed: seed,
	})
	if err != nil {
		return nil, err
	}
	return s.Reading(), nil
}

// Begin answers from what is on disk and goes on from there in the background.
func (s *routingSource) Begin(ctx context.Context) error {
	s.machines = s.members.load() // nobody else is here yet
	s.local.read()
	s.follower.Load()
	go s.local.watch(ctx)
	go s.members.run(ctx)
	go s.follower.Run(ctx)
	return nil
}

// check refuses a view that the resolver could not serve even alone.
func (s *routingSource) check(v routing.View) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stranger != nil {
		return nil // the cluster's prefixes are not known: the server decides when they are
	}
	return convert(v, 1).Check(frame(s.self).Prefixes)
}

func (s *routingSource) applyRoutes(p routing.Projection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Revision < s.projection.Revision {
		s.history++
	}
	views := make(map[string]dns.Namespace, len(p.Namespaces))
	for name, a := range p.Namespaces {
		if a.Revision == 0 {
			continue
		}
		view, have := s.views[name]
		if !have || view.Sequence != uint64(a.Revision) || p.Generation != s.projection.Generation {
			view = convert(a.View, a.Revision)
		}
		views[name] = view
	}
	s.projection, s.views = p, views
	s.applyLocked()
}

func (s *routingSource) applyMachines(list []dns.Machine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(list, s.machines) {
		s.machines = list
		s.applyLocked()
	}
}

func (s *routingSource) applyLocal(self machine.Identity, known error, locals []dns.Local) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known != nil && s.stranger == nil {
		s.log.Error("the machine's identity cannot be read any more; what it was stays", "error", known)
		self, known = s.self, nil
	}
	same := (known == nil) == (s.stranger == nil) && equalFrame(self, s.self) && slices.Equal(locals, s.locals)
	s.self, s.stranger, s.locals = self, known, locals
	if !same {
		s.applyLocked()
	}
}

func equalFrame(a, b machine.Identity) bool {
	return a.Name == b.Name && a.Overlay == b.Overlay && a.Subnet4 == b.Subnet4 && a.Subnet6 == b.Subnet6 && a.CIDR == b.CIDR && a.Prefix == b.Prefix
}

func (s *routingSource) applyDoubt(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubt = why
	s.server.MarkUncertain(s.uncertainLocked())
}

func (s *routingSource) uncertainLocked() string {
	if s.stranger != nil {
		return s.stranger.Error()
	}
	return s.doubt
}

// applyLocked gives the server the zone made of all parts. A machine that does not know who it is
// has no zone, and forwards only.
func (s *routingSource) applyLocked() {
	if s.stranger != nil {
		s.server.MarkUncertain(s.uncertainLocked())
		return
	}
	z := frame(s.self)
	z.Generation = fmt.Sprintf("%d.%d", s.projection.Generation, s.history)
	z.Locals = s.locals
	z.Machines = withSelf(s.machines, s.self)
	for _, view := range s.views {
		z.Namespaces = append(z.Namespaces, view)
	}
	err := s.server.Apply(z)
	s.server.MarkUncertain(s.uncertainLocked())
	var text string
	if err != nil {
		text = err.Error()
	}
	if text != s.told && err != nil {
		s.log.Error("a part of the zone is not served", "error", err)
	}
	s.told = text
}

// withSelf makes sure that the machine itself has a name, by its own word on where it is.
func withSelf(machines []dns.Machine, self machine.Identity) []dns.Machine {
	out := slices.DeleteFunc(slices.Clone(machines), func(m dns.Machine) bool { return m.Name == self.Name })
	return append(out, machineOf(self.Name, self.Subnet4, self.Overlay))
}

// Routes adds what is known of freshness, and what a deploy asks for after its commit.
func (s *routingSource) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, struct {
			dns.Status
			Routing routing.Report `json:"routing"`
		}{s.server.Status(), s.report()})
	})
	mux.HandleFunc("GET /freshness", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.report()) })
	mux.HandleFunc("GET /applied", s.answerApplied)
}

func (s *routingSource) report() routing.Report {
	at := map[string]store.Revision{}
	for _, n := range s.server.Zone().Namespaces {
		at[n.Name] = store.Revision(n.Sequence)
	}
	r := s.follower.Report(func(namespace string) store.Revision { return at[namespace] })
	r.PID, r.Version, r.Started = os.Getpid(), version, s.started
	if why := s.server.Status().Uncertain; why != "" {
		r.Uncertain, r.Why = true, why
	}
	return r
}

// answerApplied answers for this process alone: one that is replaced ends within milliseconds, and
// a client's cache holds its answers for longer than that anyway.
func (s *routingSource) answerApplied(w http.ResponseWriter, r *http.Request) {
	namespace := r.FormValue("namespace")
	if namespace == "" {
		http.Error(w, "which one? /applied?namespace=NAME", http.StatusBadRequest)
		return
	}
	var served store.Revision
	for _, n := range s.server.Zone().Namespaces {
		if n.Name == namespace {
			served = store.Revision(n.Sequence)
		}
	}
	answer(w, s.follower.Statement(namespace, served))
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails when the client left
}
