package natsbus

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/coordination"
)

// Edge says how a machine listens.
type Edge struct {
	// URL is the machine's own edge, Seed the path of the bus seed of its ployzd.
	URL  string
	Seed string
	// Inbox is the prefix of the connection's inbox; Commands the subject prefix of this
	// machine's commands, with its dot.
	Inbox    string
	Commands string
}

// Listener hears one machine's commands. It reconnects by itself.
type Listener struct {
	link *link
	end  context.CancelFunc
	busy sync.WaitGroup
}

// Listen hears the machine's commands until Close. One wildcard covers them all: a consumer that an
// intruder makes deliver under a literal subject does not reach it, and the subject is looked at again.
func Listen(edge Edge, receive coordination.Receive) (*Listener, error) {
	l, err := dial("edge", []string{edge.URL}, edge.Seed, edge.Inbox, edgePing)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	listener := &Listener{link: l, end: end}
	_, err = l.nc.Subscribe(edge.Commands+">", func(m *nats.Msg) {
		if !strings.HasPrefix(m.Subject, edge.Commands) || m.Reply == "" {
			return
		}
		listener.busy.Go(func() { receive(ctx, m.Data, m.Respond) })
	})
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("natsbus: listening on the edge: %w", err)
	}
	return listener, nil
}

// Close stops listening, ends the commands under way, and waits until they have.
func (l *Listener) Close() {
	l.end()
	l.busy.Wait()
	l.link.nc.Close()
}
