package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"
)

// Page is what one program tells.
type Page struct {
	Program Program
	Version string
	// Fill tells the program's own figures. It is called for each scrape, of which there may be two at once, and
	// should take well under a second.
	Fill func(*Sheet)
	Log  *slog.Logger
}

// Place is where a machine is in its cluster.
type Place struct {
	// Overlay is the machine's own address.
	Overlay netip.Addr
	// Cluster is the prefix of all machines' subnets.
	Cluster netip.Prefix
}

// admits tells machines, by their own addresses, from workloads and strangers. An answer to such an address goes
// by WireGuard, so nobody elsewhere can pretend to have it.
func (p Place) admits(from netip.Addr) bool {
	from = from.Unmap().WithZone("")
	return from == p.Overlay || p.Cluster.Contains(from) && isMachine(from)
}

// isMachine tells a machine's own address, the first of its /64.
func isMachine(a netip.Addr) bool {
	b := a.As16()
	return [8]byte(b[8:]) == [8]byte{7: 1}
}

const (
	// lookAgain is how often a machine that is in no cluster yet, or whose port somebody else holds, is looked at.
	lookAgain = 5 * time.Second
	// atOnce is how many scrapes are answered at once; more are told to come again.
	atOnce = 2
	// answerWithin bounds one.
	answerWithin = 8 * time.Second
)

// Run answers until ctx ends. It waits for the machine to have a place, and for the port: neither is an error,
// since a program serves without metrics too. place is asked until it knows.
func (p *Page) Run(ctx context.Context, place func() (Place, error)) {
	handler := p.Handler()
	var told string
	for {
		where, err := place()
		if err == nil {
			err = p.serve(ctx, where, handler)
			if err != nil && err.Error() != told {
				told = err.Error()
				p.Log.Error("the metrics are not served", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookAgain):
		}
	}
}

// serve answers at a place until ctx ends, then returns nil.
func (p *Page) serve(ctx context.Context, where Place, handler http.Handler) error {
	l, err := listen(ctx, netip.AddrPortFrom(where.Overlay, p.Program.Port()))
	if err != nil {
		return err
	}
	return p.serveOn(ctx, admitting{l, where}, handler)
}

func (p *Page) serveOn(ctx context.Context, l net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: answerWithin, WriteTimeout: 2 * answerWithin, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(p.Log.Handler(), slog.LevelDebug),
	}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

// Handler answers GET /metrics.
func (p *Page) Handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		newCollector(p.Program, func(s *Sheet) {
			s.Put("ployz_build_info", 1, string(p.Program), p.Version)
			p.Fill(s)
		}),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(p.Log.Handler(), slog.LevelWarn), MaxRequestsInFlight: atOnce, Timeout: answerWithin,
	}))
	return mux
}

// listen listens also before the machine has the address, and, during a hand-over, beside the predecessor, which
// stops when its successor serves.
func listen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var set error
		err := conn.Control(func(fd uintptr) {
			set = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
			)
		})
		return errors.Join(err, set)
	}}
	return config.Listen(ctx, "tcp6", net.JoinHostPort(at.Addr().String(), strconv.Itoa(int(at.Port()))))
}

// admitting closes the connections of strangers unread.
type admitting struct {
	net.Listener
	place Place
}

// Accept implements net.Listener.
func (a admitting) Accept() (net.Conn, error) {
	for {
		conn, err := a.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		if err == nil && a.place.admits(from.Addr()) {
			return conn, nil
		}
		conn.Close()
	}
}
