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
	// passWithin is how long one attempt to make the consumer may take.
	passWithin = 2 * time.Second
)

// relay hands the requests of this edge's mirrors on to the core once the core can answer.
//
// A mirror asks the core for a consumer. When nobody answers, because the core is still electing
// or the leaf is not connected yet, nats-server waits 30 s and then backs off for up to two
// minutes; after every boot of a lone machine its view would be half a minute stale. So mirrors
// ask under a prefix of our own, and the request is held here instead of being lost.
type relay struct {
	s   *server.Server
	nc  *nats.Conn
	key *inner

	mu      sync.Mutex
	held    map[string]context.CancelFunc // by stream: a newer request replaces the older; guarded by mu
	deliver map[string]string             // by stream: where its mirror wants its messages; guarded by mu
	words   map[string]*leaderWord        // by stream; guarded by mu
}

func startRelay(s *server.Server, key *inner) error {
	nc, err := key.connect(s, natsconf.Inbox(strings.TrimPrefix(s.Name(), natsconf.EdgeDomain(""))))
	if err != nil {
		return err
	}
	r := &relay{s: s, nc: nc, key: key, held: map[string]context.CancelFunc{}, deliver: map[string]string{}, words: map[string]*leaderWord{}}
	if _, err = nc.Subscribe(natsconf.MirrorAPI+".>", r.take); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { s.WaitForShutdown(); close(ended) }()
	go r.watch(ended)
	return nil
}

// take gets PREFIX.CONSUMER.CREATE.STREAM[.NAME...] of a mirror, or a reader's natsconf.MirrorQuestion.
func (r *relay) take(m *nats.Msg) {
	rest := strings.TrimPrefix(m.Subject, natsconf.MirrorAPI+".")
	words := strings.Split(rest, ".")
	if len(words) == 2 && words[0] == "MIRROR" {
		go r.tell(words[1], m.Respond)
		return
	}
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
	if subject, request := calmer(m.Data); subject != "" {
		r.deliver[stream], m.Data = subject, request
	}
	r.mu.Unlock()
	go func() {
		defer cancel()
		r.hold(ctx, stream, rest, m)
	}()
}

// calmer is where the consumer that a mirror asks for shall deliver, and the request for one that beats as seldom as is needed.
func calmer(request []byte) (deliver string, calm []byte) {
	var r server.CreateConsumerRequest
	if json.Unmarshal(request, &r) != nil || r.Config.DeliverSubject == "" {
		return "", nil
	}
	r.Config.Heartbeat = mirrorBeat
	calm, err := json.Marshal(r)
	if err != nil {
		return "", nil
	}
	return r.Config.DeliverSubject, calm
}

// coreAPI is where the core's JetStream is asked from an edge.
const coreAPI = "$JS." + natsconf.CoreDomain + ".API."

func (r *relay) hold(ctx context.Context, stream, rest string, m *nats.Msg) {
	for ctx.Err() == nil {
		if r.answers(ctx, stream) && r.pass(ctx, coreAPI+rest, m) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(askEvery):
		}
	}
}

// pass asks the core in the mirror's place, and hands the answer back once there is one. What is lost
// between two leaders is asked again: to make a consumer that is there already is nothing.
func (r *relay) pass(ctx context.Context, subject string, m *nats.Msg) bool {
	ctx, cancel := context.WithTimeout(ctx, passWithin)
	defer cancel()
	answer, err := r.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Header: m.Header, Data: m.Data})
	if err != nil {
		return false
	}
	var reply server.ApiResponse
	if json.Unmarshal(answer.Data, &reply) == nil && reply.Error != nil && reply.Error.Code == 503 {
		return false // not yet
	}
	if err := r.nc.Publish(m.Reply, answer.Data); err != nil {
		r.s.Warnf("Relay: %v", err)
	}
	return true
}

// answers says whether the core knows the stream and has a leader for it.
func (r *relay) answers(ctx context.Context, stream string) bool {
	_, answers := r.leader(ctx, stream, askEvery)
	return answers
}

// leader asks the core's leader of a stream, and returns what it says of the voters.
func (r *relay) leader(ctx context.Context, stream string, within time.Duration) (voters json.RawMessage, answers bool) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	m, err := r.nc.RequestWithContext(ctx, coreAPI+"STREAM.INFO."+stream, nil)
	if err != nil {
		return nil, false
	}
	var info struct {
		Cluster json.RawMessage  `json:"cluster"`
		Error   *server.ApiError `json:"error"`
	}
	answers = json.Unmarshal(m.Data, &info) == nil && info.Error == nil
	return info.Cluster, answers
}
