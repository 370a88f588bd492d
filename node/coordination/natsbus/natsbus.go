// Package natsbus is the bus over NATS, in the account BUS: coordinators are clients of the cores, and every
// machine listens on its own edge, which is a leaf of the cores.
//
// It knows no layout of subjects: the composition root says under which subjects a machine's commands
// go and which inboxes a key may hear. What travels is sealed by node/coordination; this package only
// carries it, and lends the nkeys that sign it.
package natsbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
)

// pings are how often a silent connection is tried: a core can vanish with its machine, and the edge's end
// is told by this machine's kernel.
const (
	corePing = 2 * time.Second
	edgePing = 30 * time.Second
)

// link is a connection that says when it dropped.
type link struct {
	nc *nats.Conn

	mu    sync.Mutex
	epoch context.Context // ends at the next disconnect; guarded by mu
	end   context.CancelFunc
}

func dial(name string, urls []string, seed, inbox string, ping time.Duration) (*link, error) {
	key, err := nats.NkeyOptionFromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("natsbus: the seed for the %s: %w", name, err)
	}
	l := &link{}
	l.epoch, l.end = context.WithCancel(context.Background())
	l.nc, err = nats.Connect(strings.Join(urls, ","), key, nats.Name("ployz-bus"), nats.CustomInboxPrefix(inbox),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 0), nats.IgnoreAuthErrorAbort(), nats.IgnoreDiscoveredServers(),
		nats.DontRandomize(), // the first of them is the nearest
		// A command that waits for a reconnection would be neither sent nor refused.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(ping), nats.MaxPingsOutstanding(2), nats.Timeout(2*time.Second),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { l.drop() }),
		// Errors reach the caller of each command; the library's own handler would print them.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	)
	if err != nil {
		return nil, fmt.Errorf("natsbus: the %s at %s: %w", name, strings.Join(urls, ","), err)
	}
	return l, nil
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

// Core says how a coordinator comes in.
type Core struct {
	// URLs are the client addresses of all voters, Seed the path of the coordinator's bus seed.
	URLs []string
	Seed string
	// Inbox is the prefix of replies that the key may hear.
	Inbox string
	// Commands is the subject prefix of a machine's commands, with its dot.
	Commands func(machine string) string
}

// Wire is a coordinator's access to the bus. It reconnects by itself.
type Wire struct {
	core Core
	link *link
}

var _ coordination.Wire = (*Wire)(nil)

// Dial prepares the connection and returns at once, also when no core answers yet: commands then end in
// participant.absent.
func Dial(core Core) (*Wire, error) {
	l, err := dial("core", core.URLs, core.Seed, core.Inbox, corePing)
	return &Wire{core, l}, err
}

// Move names the cores anew, as when the voters have changed. A connection to one that is none of them moves at
// once, before that one ends: open conversations then end with coordination.ErrDropped. Any other stays.
func (w *Wire) Move(urls []string) error {
	nc := w.link.nc
	at := nc.ConnectedUrl() // once the pool is set it says where the next connection goes
	if err := nc.SetServerPool(urls); err != nil {
		return err
	}
	if at != "" && !slices.Contains(urls, at) {
		return nc.ForceReconnect()
	}
	return nil
}

// Connected reports whether a core takes commands at this moment.
func (w *Wire) Connected() bool { return w.link.nc.IsConnected() }

// Close ends the connection; open conversations end with coordination.ErrDropped.
func (w *Wire) Close() { w.link.nc.Close() }

// errAway says that no core could be given the command.
var errAway = errors.New("no store core is connected")

// Send implements coordination.Wire.
func (w *Wire) Send(_ context.Context, machine, verb string, sealed []byte) (coordination.Conversation, error) {
	l := w.link
	nc := l.nc
	if !nc.IsConnected() {
		return nil, errors.Join(errAway, nc.LastError())
	}
	dropped := l.connected()
	replies, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return nil, err
	}
	m := &nats.Msg{Subject: w.core.Commands(machine) + verb, Reply: replies.Subject, Data: sealed}
	if err := nc.PublishMsg(m); err != nil {
		_ = replies.Unsubscribe() // the connection's end takes it along
		return nil, unsent(err, len(sealed), nc.MaxPayload())
	}
	return &conversation{replies, dropped}, nil
}

// unsent types why a command was not even buffered.
func unsent(err error, size int, most int64) error {
	if errors.Is(err, nats.ErrMaxPayload) {
		return api.Errorf(api.CodeBadRequest, "the command has %d bytes, the bus carries %d", size, most).
			WithHint("large configs belong into an image or a volume")
	}
	return err
}

type conversation struct {
	replies *nats.Subscription
	dropped context.Context
}

// Next implements coordination.Conversation.
func (c *conversation) Next(ctx context.Context) ([]byte, error) {
	bounded, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(c.dropped, stop)()
	m, err := c.replies.NextMsgWithContext(bounded)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, coordination.ErrNobody
	case err == nil:
		return m.Data, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		return nil, fmt.Errorf("%w: %w", coordination.ErrDropped, err)
	}
}

// Close implements coordination.Conversation.
func (c *conversation) Close() {
	_ = c.replies.Unsubscribe() // fails only when the connection is gone, and the subscription with it
}
