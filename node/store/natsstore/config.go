package natsstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Config says where the two servers are and with which keys to come in. Seeds are paths of files.
type Config struct {
	// Machine is this machine's id; Reader replaces it in the inbox of a process that only reads
	// (natsconf.RoleGateway, natsconf.RoleDNS).
	Machine string
	Reader  natsconf.Role
	// Generation names the streams; 0 means 1.
	Generation uint64

	// CoreURLs are the client addresses of all voters; none makes a Store that only reads.
	CoreURLs []string
	// CoordinatorSeed is the seed of natsconf.RoleCoordinator, SystemSeed that of
	// natsconf.RoleSystem (needed by CheckSettings only).
	CoordinatorSeed string
	SystemSeed      string

	// EdgeURL is the machine's own edge, EdgeSeed the seed of natsconf.RoleLocal or of the
	// reader's role, EdgeSystemSeed that of natsconf.RoleLocalSystem (CheckSettings).
	EdgeURL        string
	EdgeSeed       string
	EdgeSystemSeed string

	// Timeout bounds a request whose context has no nearer deadline; 0 means 5 s. Writes resume
	// up to 8 s after the loss of a leader, so a caller that wants to sit that out retries.
	Timeout time.Duration
}

func (c Config) inbox() string {
	if c.Reader != "" {
		return natsconf.Inbox(string(c.Reader))
	}
	return natsconf.Inbox(c.Machine)
}

// Store is one process's access to the cluster's facts: through the core for writing and for
// decisions, through the machine's own edge for reading. It reconnects by itself.
type Store struct {
	cfg  Config
	core *link // nil without CoreURLs
	edge *link // nil without EdgeURL

	coreURLs atomic.Pointer[[]string] // since UseCores
	wrote    atomic.Int64             // unix nanoseconds of the last answer that proved the core writable
	led      atomic.Int64             // unix nanoseconds of the last answer, by the edge, of a leader with a quorum
	seen     atomic.Pointer[generationSeen]
}

// Open prepares the connections and returns at once, also when no server answers yet: requests
// then end in store.unavailable. Errors: an unreadable seed, a malformed address.
func Open(c Config) (*Store, error) {
	if c.Generation == 0 {
		c.Generation = 1
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	s := &Store{cfg: c}
	s.led.Store(time.Now().Add(-2 * activeWithin).UnixNano()) // nobody has vouched for the core yet
	var err error
	if len(c.CoreURLs) > 0 {
		if s.core, err = dial("core", c.CoreURLs, c.CoordinatorSeed, c.inbox(), c.Timeout, corePing); err != nil {
			return nil, err
		}
	}
	if c.EdgeURL != "" {
		if s.edge, err = dial("edge", []string{c.EdgeURL}, c.EdgeSeed, c.inbox(), c.Timeout, edgePing); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Close ends the connections; feeds end with store.unavailable.
func (s *Store) Close() {
	for _, l := range []*link{s.core, s.edge} {
		if l != nil {
			l.nc.Close()
		}
	}
}

// AwaitEdge waits until the edge lets this process in.
func (s *Store) AwaitEdge(ctx context.Context) error { return s.edge.await(ctx) }

// AwaitCore waits until a core lets this process in; it may still be without a leader.
func (s *Store) AwaitCore(ctx context.Context) error { return s.core.await(ctx) }

// link is a connection that says when it dropped, so that a request in flight need not wait for
// an answer that can no longer come.
type link struct {
	name    string
	nc      *nats.Conn
	timeout time.Duration

	mu    sync.Mutex
	epoch context.Context // ends at the next disconnect; guarded by mu
	end   context.CancelFunc
}

// How often a silent connection is tried. A core can vanish with its machine, and there may be
// another: a majority shall write again within ten seconds. The edge's end is told by this machine's kernel.
const (
	corePing = 2 * time.Second
	edgePing = 30 * time.Second
)

func dial(name string, urls []string, seed, inbox string, timeout, ping time.Duration) (*link, error) {
	key, err := nats.NkeyOptionFromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("natsstore: the seed for the %s: %w", name, err)
	}
	l := &link{name: name, timeout: timeout}
	l.epoch, l.end = context.WithCancel(context.Background())
	l.nc, err = nats.Connect(joinURLs(urls), key, nats.Name("ployz"), nats.CustomInboxPrefix(inbox),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 0), nats.IgnoreAuthErrorAbort(), nats.IgnoreDiscoveredServers(),
		nats.DontRandomize(), // the first of them is the nearest
		// A write that waits for a reconnection would be neither sent nor refused.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(ping), nats.MaxPingsOutstanding(2), nats.Timeout(2*time.Second),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { l.drop() }),
		// Errors reach the caller of each request; the library's own handler would print them.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	)
	if err != nil {
		return nil, fmt.Errorf("natsstore: the %s at %s: %w", name, joinURLs(urls), err)
	}
	return l, nil
}

func joinURLs(urls []string) string {
	out := ""
	for i, u := range urls {
		if i > 0 {
			out += ","
		}
		out += u
	}
	return out
}

func (l *link) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
	l.epoch, l.end = context.WithCancel(context.Background())
}

// connected returns a context that ends when the present connection does.
func (l *link) connected() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch
}

func (l *link) await(ctx context.Context) error {
	if l == nil {
		return errNotConfigured
	}
	for !l.nc.IsConnected() {
		select {
		case <-ctx.Done():
			return unavailable("the "+l.name, fmt.Errorf("%w; last: %v", ctx.Err(), l.nc.LastError()))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}
