package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/runtime"
)

// PeerPort is where ployzd answers other machines, on its overlay address.
const PeerPort = 7480

// passHeader carries the pass of a request from another machine.
const passHeader = "Ployz-Pass"

// PeerSurface is what a machine shows to the cluster's other machines, and to nobody else: the blobs of its images,
// and what it knows and reaches of its own instances.
//
// A connection is let in when it comes from the overlay address of a member, for which WireGuard vouches. But
// whatever runs on that machine can connect from its address, so each request carries a pass as well, which
// only the machine's own keys can seal.
type PeerSurface struct {
	// ID is this machine's id.
	ID string
	// Members reads the memberships, from the machine's own mirror.
	Members func(ctx context.Context) ([]machine.Member, error)
	// Machine verifies a member's pass, Operator that of a member which may command.
	Machine, Operator coordination.Verify
	// Member is as API.Member; Blobs are those of the machine's images.
	Member func() *Member
	Blobs  runtime.Blobs
	Store  PeerStore
	// Packages are this machine's copies of the appliance's own package.
	Packages PackageShelf
	// Volumes are sent to the machines that an operation names; nil where this machine keeps none.
	Volumes PeerVolumes
	// Observed is where this machine reaches others, by their WireGuard keys.
	Observed func(ctx context.Context) (map[string]netip.AddrPort, error)
	Log      *slog.Logger
}

// Serve answers on l until ctx ends, and closes it.
func (p *PeerSurface) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           p.handler(ctx),
		ConnContext:       withMachine,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(p.Log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(newGate(ctx, l, p.admit)) }()
	select {
	case err := <-ended:
		return api.Errorf(api.CodeInternal, "the overlay's listener: %w", err)
	case <-ctx.Done():
		return server.Close() // followers of logs never end by themselves
	}
}

// handler binds the local surface's own answers to this machine's part. What leaves HTTP ends with ctx.
func (p *PeerSurface) handler(ctx context.Context) http.Handler {
	alone := &API{Log: p.Log, Member: func() *Member {
		m := p.Member()
		if m == nil {
			return nil
		}
		here := *m
		here.Elsewhere = nil
		return &here
	}}
	mux := http.NewServeMux()
	mux.Handle("GET /v1/blobs/{digest}", p.passed(p.Machine, p.blob))
	mux.Handle("GET /v1/mesh/observed", p.passed(p.Machine, func(w http.ResponseWriter, r *http.Request) {
		list, err := p.Observed(r.Context())
		writeJSON(w, list, err)
	}))
	mux.Handle("GET /v1/packages/{digest}", p.passed(p.Machine, p.sendPackage))
	mux.Handle("POST "+volumePath, p.passed(p.Machine, p.sendVolume(ctx)))
	mux.Handle("GET /v1/images", p.passed(p.Operator, alone.member(listImages)))
	mux.Handle("GET /v1/instances", p.passed(p.Operator, alone.member(instancesHere)))
	mux.Handle("GET /v1/logs", p.passed(p.Operator, alone.stream(logs)))
	mux.Handle("GET /v1/volumes", p.passed(p.Operator, alone.member(listVolumes)))
	mux.Handle("GET /v1/volumes/{volume}/snapshots", p.passed(p.Operator, alone.member(snapshotsHere)))
	mux.Handle("GET /v1/stats", p.passed(p.Operator, alone.member(stats)))
	mux.Handle("POST /v1/instances/{id}/exec", p.passed(p.Operator, alone.exec))
	mux.Handle("GET "+copyPath, p.passed(p.Operator, p.copy))
	mux.Handle("POST "+fencePath, p.passed(p.Operator, p.fence))
	mux.Handle("POST "+movePath, p.passed(p.Operator, p.move))
	return mux
}

// passed lets a request in whose pass is by the machine that the connection comes from, and for this very request.
func (p *PeerSurface) passed(verify coordination.Verify, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _ := r.Context().Value(machineKey{}).(machine.Member)
		pass, err := coordination.ReadPass(r.Context(), r.Header.Get(passHeader), p.ID, verify)
		if err == nil && (pass.Sender != from.ID || pass.Request != requestLine(r.Method, r.URL.RequestURI())) {
			err = api.Errorf(api.CodeParticipantRefused, "the pass is another machine's, or for another request")
		}
		if err != nil {
			p.Log.Warn("a peer's request was refused", "machine", from.Name, "request", r.URL.Path, "why", err.Error())
			writeError(w, err)
			return
		}
		ctx := context.WithValue(r.Context(), peerKey{}, Peer{Name: pass.Caller + " on " + from.Name})
		next(w, r.WithContext(ctx))
	})
}

func requestLine(method, uri string) string { return method + " " + uri }

// blob serves one blob, or a part of it.
func (p *PeerSurface) blob(w http.ResponseWriter, r *http.Request) {
	f, err := p.Blobs.OpenBlob(r.PathValue("digest"))
	sendFile(w, r, f, err)
}

// sendFile serves what was opened, or a part of it, and closes it.
func sendFile(w http.ResponseWriter, r *http.Request, f io.ReadSeekCloser, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	defer f.Close() // read-only
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
}

// admit finds the member whose overlay address it is. This machine itself is nobody's peer.
func (p *PeerSurface) admit(ctx context.Context, from netip.Addr) (machine.Member, error) {
	members, err := p.Members(ctx)
	if err != nil {
		return machine.Member{}, err
	}
	for _, m := range members {
		if m.Overlay == from && m.ID != p.ID {
			return m, nil
		}
	}
	p.Log.Warn("a stranger's connection was closed", "address", from)
	return machine.Member{}, api.Errorf(api.CodePermission, "%s is no member's overlay address", from)
}

type machineKey struct{}

func withMachine(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(memberConn); ok {
		return context.WithValue(ctx, machineKey{}, c.from)
	}
	return ctx // passed refuses a request from nobody
}

// memberConn is a connection that was let in.
type memberConn struct {
	net.Conn
	from machine.Member
}

// gate is a listener that closes strangers' connections before a byte of theirs is read, each by itself, so
// that looking one up holds up no other.
type gate struct {
	net.Listener
	admit    func(ctx context.Context, from netip.Addr) (machine.Member, error)
	admitted chan net.Conn
	ended    chan struct{}
	end      sync.Once
}

// admitTimeout bounds the look at the memberships.
const admitTimeout = 5 * time.Second

func newGate(ctx context.Context, l net.Listener, admit func(context.Context, netip.Addr) (machine.Member, error)) *gate {
	g := &gate{Listener: l, admit: admit, admitted: make(chan net.Conn), ended: make(chan struct{})}
	go func() {
		defer g.end.Do(func() { close(g.ended) })
		for {
			conn, err := l.Accept()
			if err != nil {
				if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) && transient(ctx) {
					continue
				}
				return
			}
			go g.let(ctx, conn)
		}
	}()
	return g
}

// transient waits a moment, as for a descriptor to become free, and reports whether to go on.
func transient(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

func (g *gate) let(ctx context.Context, conn net.Conn) {
	bounded, stop := context.WithTimeout(ctx, admitTimeout)
	defer stop()
	addr, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		conn.Close()
		return
	}
	from, err := g.admit(bounded, addr.Addr().Unmap())
	if err != nil {
		conn.Close()
		return
	}
	select {
	case g.admitted <- memberConn{conn, from}:
	case <-g.ended:
		conn.Close()
	}
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case conn := <-g.admitted:
		return conn, nil
	case <-g.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (g *gate) Close() error {
	g.end.Do(func() { close(g.ended) })
	return g.Listener.Close()
}
