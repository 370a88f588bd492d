package gateway

import (
	"cmp"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ployz/ployz/datapath/tally"
)

// Status is what a gateway process says about itself; the JSON of GET /status.
type Status struct {
	PID         int               `json:"pid"`
	Started     time.Time         `json:"started"`
	Draining    bool              `json:"draining"` // this process is being replaced
	Namespaces  []NamespaceStatus `json:"namespaces"`
	Upstreams   []UpstreamStatus  `json:"upstreams"`
	Ports       []PortStatus      `json:"ports,omitempty"`
	Connections int               `json:"connections"`
	// Predecessors are pids of processes that handed over and still drain. Each answers on the
	// status socket with its pid appended; an upstream is free when none of them has it in flight.
	Predecessors []int             `json:"predecessors,omitempty"`
	Counters     map[string]uint64 `json:"counters"`
}

// NamespaceStatus says how fresh the view of a namespace is.
type NamespaceStatus struct {
	Name       string  `json:"name"`
	Sequence   uint64  `json:"sequence"`
	AgeSeconds float64 `json:"ageSeconds"` // since this process first served the sequence
	// Uncertain: newer facts may exist; see Server.SetUncertain.
	Uncertain string `json:"uncertain,omitempty"`
	// Rejected is the newest view that was not taken; see Server.NoteRejected.
	Rejected *Rejection `json:"rejected,omitempty"`
}

// Rejection is a view of a namespace that did not validate.
type Rejection struct {
	Sequence uint64 `json:"sequence"`
	Reason   string `json:"reason"`
}

// UpstreamStatus says what an upstream is doing for this process.
type UpstreamStatus struct {
	ID       string `json:"id"`
	Address  string `json:"address"`
	InFlight int64  `json:"inFlight"`
	// Draining or Gone: nothing new goes there. InFlight 0 then means it can be stopped, as far
	// as this process is concerned.
	Draining bool   `json:"draining,omitempty"`
	Gone     bool   `json:"gone,omitempty"`    // not in the table any more
	Failing  bool   `json:"failing,omitempty"` // an observation of this process, for the moment
	Asked    uint64 `json:"asked"`
	Failures uint64 `json:"failures"` // failed attempts to reach it
}

// PortStatus says whether a TCP route's port is open.
type PortStatus struct {
	Port  uint16 `json:"port"`
	Error string `json:"error,omitempty"`
}

// counters count since the start of the process.
type counters struct {
	requests, retries, clientGone, handshakeFailures, tcpConnections, connectFailures, heldEver atomic.Uint64

	held atomic.Int64 // requests and connections that wait now

	classes [6]atomic.Uint64 // answers by class of status
	took    *tally.Durations

	refusals sync.Map // reason → *atomic.Uint64
}

func (c *counters) refused(reason string) {
	n, ok := c.refusals.Load(reason)
	if !ok {
		n, _ = c.refusals.LoadOrStore(reason, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1)
}

func (c *counters) snapshot() map[string]uint64 {
	m := map[string]uint64{
		"requests":          c.requests.Load(),
		"retries":           c.retries.Load(),
		"clientGone":        c.clientGone.Load(),
		"handshakeFailures": c.handshakeFailures.Load(),
		"tcpConnections":    c.tcpConnections.Load(),
		"connectFailures":   c.connectFailures.Load(),
		"held":              c.heldEver.Load(),
	}
	c.refusals.Range(func(k, v any) bool {
		m["refused:"+k.(string)] = v.(*atomic.Uint64).Load()
		return true
	})
	return m
}

// notes are what the main knows about freshness and the server only passes on.
type notes struct {
	mu        sync.Mutex
	uncertain string               // guarded by mu
	rejected  map[string]Rejection // guarded by mu; by namespace
}

// SetUncertain marks every view as possibly old and says why; "" takes the mark away.
func (s *Server) SetUncertain(why string) {
	s.notes.mu.Lock()
	defer s.notes.mu.Unlock()
	s.notes.uncertain = why
}

// NoteRejected shows a view of a namespace that was not taken, until a later one is applied.
func (s *Server) NoteRejected(namespace string, r Rejection) {
	s.notes.mu.Lock()
	defer s.notes.mu.Unlock()
	if s.notes.rejected == nil {
		s.notes.rejected = map[string]Rejection{}
	}
	s.notes.rejected[namespace] = r
}

// Status looks at everything once; the figures of different upstreams are not of one instant.
func (s *Server) Status() Status {
	st := s.state.Load()
	out := Status{
		PID: os.Getpid(), Started: s.started, Draining: s.draining.Load(),
		Namespaces: s.namespaceStatus(st), Upstreams: s.upstreamStatus(st), Ports: s.portStatus(),
		Connections: len(s.conns.list()), Counters: s.counts.snapshot(),
	}
	if s.Predecessors != nil {
		out.Predecessors = s.Predecessors()
	}
	return out
}

func (s *Server) namespaceStatus(st *state) []NamespaceStatus {
	s.notes.mu.Lock()
	defer s.notes.mu.Unlock()
	out := []NamespaceStatus{}
	for _, n := range st.table.Namespaces {
		v := NamespaceStatus{
			Name: n.Name, Sequence: n.Sequence, Uncertain: s.notes.uncertain,
			AgeSeconds: time.Since(st.applied[n.Name]).Seconds(),
		}
		if r, ok := s.notes.rejected[n.Name]; ok && r.Sequence > n.Sequence {
			v.Rejected = &r
		}
		out = append(out, v)
	}
	return out
}

func (s *Server) upstreamStatus(st *state) []UpstreamStatus {
	out := []UpstreamStatus{}
	now := time.Now()
	for _, u := range s.upstream.list() {
		k := upstreamKey{u.id, u.address}
		out = append(out, UpstreamStatus{
			ID: u.id, Address: u.address, InFlight: u.inFlight.Load(),
			Draining: st.draining[k], Gone: !st.named[k], Failing: u.failing(now),
			Asked: u.asked.Load(), Failures: u.failures.Load(),
		})
	}
	slices.SortFunc(out, func(a, b UpstreamStatus) int { return cmp.Compare(a.ID+a.Address, b.ID+b.Address) })
	return out
}

// InFlight counts the requests and TCP connections that are open now, by instance id; those with
// none are left out. It costs a walk over the upstreams and nothing else, so it may be asked often.
func (s *Server) InFlight() map[string]int64 {
	out := map[string]int64{}
	for _, u := range s.upstream.list() {
		if n := u.inFlight.Load(); n > 0 {
			out[u.id] += n
		}
	}
	return out
}

func (s *Server) portStatus() []PortStatus {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	var out []PortStatus
	for n, p := range s.ports {
		v := PortStatus{Port: n}
		if p.err != nil {
			v.Error = p.err.Error()
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b PortStatus) int { return cmp.Compare(a.Port, b.Port) })
	return out
}

// StatusHandler answers GET /status and GET /routes (the table) for the status socket.
func (s *Server) StatusHandler() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Status()) })
	mux.HandleFunc("GET /routes", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Table()) })
	return mux
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.Encode(v) // an error here means the client left
}
