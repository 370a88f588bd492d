package dns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/ployz/ployz/datapath/tally"
)

// States of a server.
const (
	StateServing   = "serving"
	StateUncertain = "uncertain" // the zone may be out of date; Status.Uncertain says why
	StateDegraded  = "degraded"  // a part of the zone was rejected; Status.Rejected says which
)

// Status is what a server says of itself.
type Status struct {
	State          string            `json:"state"`
	Machine        string            `json:"machine"`
	Generation     string            `json:"generation,omitempty"`
	Sequence       uint64            `json:"sequence"` // highest of the namespaces'
	AppliedAt      time.Time         `json:"appliedAt,omitzero"`
	Uncertain      string            `json:"uncertain,omitempty"`
	UncertainSince time.Time         `json:"uncertainSince,omitzero"`
	Namespaces     []NamespaceStatus `json:"namespaces"`
	Rejected       []Rejection       `json:"rejected,omitempty"`
	Listening      []Listening       `json:"listening"`
	Upstreams      []UpstreamStatus  `json:"upstreams"`
	UpstreamError  string            `json:"upstreamError,omitempty"` // of reading resolv.conf
	Cache          CacheStatus       `json:"cache"`
	Counts         Counts            `json:"counts"`
	StartedAt      time.Time         `json:"startedAt"`
	PID            int               `json:"pid"`
}

// NamespaceStatus is the view of one namespace that is served.
type NamespaceStatus struct {
	Name      string `json:"name"`
	ID        uint32 `json:"id"`
	Sequence  uint64 `json:"sequence"`
	Services  int    `json:"services"`
	Instances int    `json:"instances"`
}

// Counts are queries since start, by what became of them.
type Counts struct {
	Local     int64 `json:"local"`     // answered from the zone, also that there is nothing
	Forwarded int64 `json:"forwarded"` // sent on to the forwarder, which may have remembered
	Failed    int64 `json:"failed"`    // of the forwarded: SERVFAIL
	Refused   int64 `json:"refused"`   // strangers
	Limited   int64 `json:"limited"`   // over RatePerSource
	Malformed int64 `json:"malformed"` // FORMERR and NOTIMP
	Dropped   int64 `json:"dropped"`   // got nothing: no query, or too many strangers
	Unsent    int64 `json:"unsent"`    // replies that the kernel did not take
}

type counters struct {
	local, forwarded, failed, refused, limited, malformed, dropped, unsent atomic.Int64

	replies replies
	forward *tally.Durations
}

func (c *counters) counts() Counts {
	return Counts{c.local.Load(), c.forwarded.Load(), c.failed.Load(), c.refused.Load(),
		c.limited.Load(), c.malformed.Load(), c.dropped.Load(), c.unsent.Load()}
}

// Status returns what the server serves and has seen.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	z := s.view.Load().zone
	out := Status{
		State: s.state.name(), Machine: z.Machine, Generation: z.Generation,
		AppliedAt: s.state.at, Uncertain: s.state.uncertain,
		Namespaces: []NamespaceStatus{}, Rejected: s.state.rejected, Listening: s.bound,
		Upstreams: s.Forwarder.status(), Cache: s.Forwarder.cacheStatus(), Counts: s.count.counts(),
		StartedAt: s.started, PID: os.Getpid(),
	}
	if out.Uncertain != "" {
		out.UncertainSince = s.state.uncertainSince
	}
	if err := s.Forwarder.conf.failure(); err != nil {
		out.UpstreamError = err.Error()
	}
	for _, n := range z.Namespaces {
		ns := NamespaceStatus{n.Name, n.ID, n.Sequence, len(n.Services), 0}
		for _, service := range n.Services {
			ns.Instances += len(service.Instances)
		}
		out.Namespaces = append(out.Namespaces, ns)
		out.Sequence = max(out.Sequence, n.Sequence)
	}
	return out
}

func (a *applied) name() string {
	switch {
	case a.uncertain != "":
		return StateUncertain
	case len(a.rejected) > 0:
		return StateDegraded
	}
	return StateServing
}

// Zone returns the zone that is served. It must not be changed.
func (s *Server) Zone() Zone { return s.view.Load().zone }

// StatusHandler answers GET /status and GET /zone with JSON.
func (s *Server) StatusHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, s.Status()) })
	mux.HandleFunc("GET /zone", func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, s.Zone()) })
	return mux
}

func (s *Server) writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		s.Log.Warn("status not written", "error", err)
	}
}

// ListenStatus listens on a Unix socket at path (mode 0660), in place of the one of a
// predecessor that may still be draining. The file is left behind when the listener is closed.
func ListenStatus(path string) (net.Listener, error) {
	temp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(temp, 0o660)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(temp))
	}
	return l, nil
}
