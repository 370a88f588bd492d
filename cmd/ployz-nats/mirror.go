package main

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

const (
	// wordFor is how long a leader's answer serves everybody who asks for it here.
	wordFor = 2 * time.Second
	// leaderWithin is how long a leader may take, and how long none is asked again after it took longer.
	leaderWithin = 500 * time.Millisecond
)

// leaderWord is what the core's leader of a stream said last.
type leaderWord struct {
	mu    sync.Mutex
	text  json.RawMessage // of the voters; guarded by mu
	heard time.Time       // guarded by mu
	next  time.Time       // when to ask again; guarded by mu
}

// tell answers a reader's question about a mirror.
func (r *relay) tell(stream string, reply func([]byte) error) {
	answer := struct {
		*natsconf.MirrorState
		Error *server.ApiError `json:"error,omitempty"`
	}{}
	if state, known := r.mirrors()[stream]; known {
		answer.MirrorState = &state
		answer.Leader, answer.Heard = r.word(stream).latest(r, stream)
	} else {
		answer.Error = &server.ApiError{Code: 404, ErrCode: uint16(server.JSStreamNotFoundErr), Description: "stream not found"}
	}
	text, err := json.Marshal(answer)
	if err == nil {
		err = reply(text)
	}
	if err != nil {
		r.s.Warnf("Relay: %v", err)
	}
}

// mirrors are the streams of this edge by name, read from the server's memory, without what the leader says.
func (r *relay) mirrors() map[string]natsconf.MirrorState {
	account, err := r.s.JszAccount(&server.JSzOptions{Account: natsconf.AccountStore, Streams: true})
	if err != nil {
		return nil
	}
	list := make(map[string]natsconf.MirrorState, len(account.Streams))
	for _, s := range account.Streams {
		state := natsconf.MirrorState{Created: s.Created, Last: s.State.LastSeq}
		if s.Mirror != nil {
			state.Mirror, state.Lag, state.Active = true, s.Mirror.Lag, s.Mirror.Active
		}
		list[s.Name] = state
	}
	return list
}

func (r *relay) word(stream string) *leaderWord {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.words[stream]
	if w == nil {
		w = &leaderWord{}
		r.words[stream] = w
	}
	return w
}

// latest asks the leader unless somebody just did. Without a leader the answer grows old.
func (w *leaderWord) latest(r *relay, stream string) (json.RawMessage, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Now().After(w.next) {
		w.ask(r, stream)
	}
	return w.text, time.Since(w.heard)
}

func (w *leaderWord) ask(r *relay, stream string) {
	asked := time.Now()
	voters, answers := r.leader(context.Background(), stream, leaderWithin)
	if !answers {
		w.next = time.Now().Add(leaderWithin)
		return
	}
	if voters == nil {
		voters = json.RawMessage("null") // not clustered, which is an answer too
	}
	w.text, w.heard, w.next = voters, asked, asked.Add(wordFor)
}
