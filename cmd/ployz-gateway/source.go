package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ployz/ployz/datapath/gateway"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// routingSource serves the cluster's routes: the last good ones from disk at once, then those of
// the machine's edge. It asks nobody else.
type routingSource struct {
	log      *slog.Logger
	server   *gateway.Server
	follower *routing.Follower
	certs    *certificates
	// siblings finds the other processes' own status sockets, by pid.
	siblings func() map[int]string
	started  time.Time

	// Both are used by Apply only, which the follower calls from one goroutine at a time.
	views  map[string]gateway.Namespace // newest of each namespace, converted
	served map[string]gateway.Namespace // what the server's table has
}

// edgeOptions say where the machine keeps what the source needs.
type edgeOptions struct {
	state string // folder of machine.json, keys and the projection
	seed  string // file of the key for the edge; "" is the one in state
	url   string
}

// newRoutingSource follows the edge; nothing is read or asked before Begin.
func newRoutingSource(o edgeOptions, tlsDir string, server *gateway.Server, log *slog.Logger) *routingSource {
	s := &routingSource{
		log: log, server: server, started: time.Now(), siblings: func() map[int]string { return nil },
		certs: &certificates{dir: tlsDir, server: server, log: log},
		views: map[string]gateway.Namespace{}, served: map[string]gateway.Namespace{},
	}
	s.follower = &routing.Follower{
		View: &routing.Opening{Open: o.open, Generation: func() (uint64, error) { return machine.GenerationOf(o.state) }}, Path: filepath.Join(o.state, "gateway", "projection.json"), Log: log,
		Check: check, Apply: s.apply, Uncertain: server.SetUncertain,
	}
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
		seed = natsstore.SeedFile(filepath.Join(o.state, "keys"), natsconf.RoleGateway)
	}
	s, err := natsstore.Open(natsstore.Config{
		Machine: self.ID, Reader: natsconf.RoleGateway, Generation: self.Generation, EdgeURL: o.url, EdgeSeed: seed,
	})
	if err != nil {
		return nil, err
	}
	return s.Reading(), nil
}

// check refuses a view that the gateway could not serve even alone.
func check(v routing.View) error {
	return gateway.Table{Namespaces: []gateway.Namespace{convert(v, 1)}}.Validate()
}

// Begin serves what is on disk and goes on from there in the background.
func (s *routingSource) Begin(ctx context.Context) error {
	s.certs.load()
	go s.certs.watch(ctx)
	s.follower.Load()
	go s.follower.Run(ctx)
	return nil
}

// apply serves a projection. Where two namespaces cannot be served beside each other, the one that
// changed last keeps what it had, or nothing.
func (s *routingSource) apply(p routing.Projection) {
	next := s.convertAll(p)
	for {
		err := s.server.Apply(table(next))
		var bad *gateway.TableError
		if err == nil {
			s.served = next
			return
		}
		if !errors.As(err, &bad) {
			s.log.Error("the routes cannot be served; the ones before stay", "error", err)
			return
		}
		s.fallBack(next, bad)
	}
}

// convertAll converts what is new in a projection.
func (s *routingSource) convertAll(p routing.Projection) map[string]gateway.Namespace {
	views := make(map[string]gateway.Namespace, len(p.Namespaces))
	for name, a := range p.Namespaces {
		if a.Rejected != nil {
			s.server.NoteRejected(name, gateway.Rejection{Sequence: uint64(a.Rejected.Revision), Reason: a.Rejected.Error.Error()})
		}
		if a.Revision == 0 {
			continue
		}
		view, have := s.views[name]
		if !have || view.Sequence != uint64(a.Revision) {
			view = convert(a.View, a.Revision)
		}
		views[name] = view
	}
	s.views = views
	next := make(map[string]gateway.Namespace, len(views))
	for name, view := range views {
		next[name] = view
	}
	return next
}

// fallBack puts the namespace that a table was refused for back to what is served of it. Each
// call takes something away, so there is an end to them.
func (s *routingSource) fallBack(next map[string]gateway.Namespace, bad *gateway.TableError) {
	refused := next[bad.Namespace]
	s.log.Error("a namespace's newest routes cannot be served beside the others", "namespace", bad.Namespace, "sequence", refused.Sequence, "error", bad)
	s.server.NoteRejected(bad.Namespace, gateway.Rejection{Sequence: refused.Sequence, Reason: bad.Error()})
	before, have := s.served[bad.Namespace]
	if have && before.Sequence != refused.Sequence {
		next[bad.Namespace] = before
		return
	}
	delete(next, bad.Namespace)
}

// table puts older views first: the gateway refuses the later of two that claim the same.
func table(views map[string]gateway.Namespace) gateway.Table {
	t := gateway.Table{Namespaces: make([]gateway.Namespace, 0, len(views))}
	for _, v := range views {
		t.Namespaces = append(t.Namespaces, v)
	}
	slices.SortFunc(t.Namespaces, func(a, b gateway.Namespace) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Name, b.Name))
	})
	return t
}

// revision is the one that the server serves a namespace at, 0 for not at all.
func (s *routingSource) revision(namespace string) store.Revision {
	for _, n := range s.server.Table().Namespaces {
		if n.Name == namespace {
			return store.Revision(n.Sequence)
		}
	}
	return 0
}

// Routes adds what is known of freshness, and what a deploy asks for after its commit.
func (s *routingSource) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, struct {
			gateway.Status
			Routing      routing.Report      `json:"routing"`
			Certificates []certificateStatus `json:"certificates"`
		}{s.server.Status(), s.report(), s.certs.status()})
	})
	mux.HandleFunc("GET /freshness", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.report()) })
	mux.HandleFunc("GET /applied", s.answerApplied)
}

func (s *routingSource) report() routing.Report {
	at := map[string]store.Revision{}
	for _, n := range s.server.Table().Namespaces {
		at[n.Name] = store.Revision(n.Sequence)
	}
	r := s.follower.Report(func(namespace string) store.Revision { return at[namespace] })
	r.PID, r.Version, r.Started = os.Getpid(), version, s.started
	return r
}

// answerApplied answers for all processes of the gateway, or with own=1 for this one.
func (s *routingSource) answerApplied(w http.ResponseWriter, r *http.Request) {
	namespace := r.FormValue("namespace")
	if namespace == "" {
		http.Error(w, "which one? /applied?namespace=NAME", http.StatusBadRequest)
		return
	}
	out := s.follower.Statement(namespace, s.revision(namespace))
	out.InFlight = s.server.InFlight()
	if r.FormValue("own") == "" {
		for _, socket := range s.siblings() {
			other, err := askSibling(r.Context(), socket, namespace)
			if errors.Is(err, errEnded) {
				continue
			}
			if err != nil {
				http.Error(w, "a gateway that is being replaced does not answer: "+err.Error(), http.StatusServiceUnavailable)
				return
			}
			out = out.Merge(other)
		}
	}
	answer(w, out)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails when the client left
}
