package main

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

const (
	// holdFor is a little less than nats-server waits for the answer to a mirror's request.
	holdFor = 28 * time.Second
	// askEvery is how often the core is asked meanwhile, each time for as long.
	askEvery = 200 * time.Millisecond
)

// relay hands the requests of this edge's mirrors on to the core once the core can answer.
//
// A mirror asks the core for a consumer. When nobody answers, because the core is still electing
// or the leaf is not connected yet, nats-server waits 30 s and then backs off for up to two
// minutes; after every boot of a lone machine its view would be half a minute stale. So mirrors
// ask under a prefix of our own, and the request is held here instead of being lost.
type relay struct {
	s  *server.Server
	nc *nats.Conn

	mu   sync.Mutex
	held map[string]context.CancelFunc // by stream: a newer request replaces the older; guarded by mu
}

func startRelay(s *server.Server, key *inner) error {
	nc, err := key.connect(s, natsconf.Inbox(strings.TrimPrefix(s.Name(), natsconf.EdgeDomain(""))))
	if err != nil {
		return err
	}
	r := &relay{s: s, nc: nc, held: map[string]context.CancelFunc{}}
	_, err = nc.Subscribe(natsconf.MirrorAPI+".>", r.take)
	return err
}

// take gets PREFIX.CONSUMER.CREATE.STREAM[.NAME...].
func (r *relay) take(m *nats.Msg) {
	rest := strings.TrimPrefix(m.Subject, natsconf.MirrorAPI+".")
	words := strings.Split(rest, ".")
	if len(words) < 3 || words[0] != "CONSUMER" {
		r.s.Warnf("Relay: not a mirror's request: %s", m.Subject)
		return
	}
	stream := words[2]
	ctx, cancel := context.WithTimeout(context.Background(), holdFor)
	r.mu.Lock()
	if before := r.held[stream]; before != nil {
		before()
	}
	r.held[stream] = cancel
	r.mu.Unlock()
	go func() {
		defer cancel()
		r.hold(ctx, stream, rest, m)
	}()
}

func (r *relay) hold(ctx context.Context, stream, rest string, m *nats.Msg) {
	core := "$JS." + natsconf.CoreDomain + ".API."
	for ctx.Err() == nil {
		if r.answers(ctx, core+"STREAM.INFO."+stream) {
			out := &nats.Msg{Subject: core + rest, Reply: m.Reply, Header: m.Header, Data: m.Data}
			if err := r.nc.PublishMsg(out); err != nil {
				r.s.Warnf("Relay: %v", err)
			}
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(askEvery):
		}
	}
}

// answers says whether the core knows the stream and has a leader for it.
func (r *relay) answers(ctx context.Context, subject string) bool {
	ctx, cancel := context.WithTimeout(ctx, askEvery)
	defer cancel()
	m, err := r.nc.RequestWithContext(ctx, subject, nil)
	if err != nil {
		return false
	}
	var reply server.ApiResponse
	return json.Unmarshal(m.Data, &reply) == nil && reply.Error == nil
}
