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
	}{MirrorState: r.mirror(stream)}
	if answer.MirrorState == nil {
		answer.Error = &server.ApiError{Code: 404, ErrCode: uint16(server.JSStreamNotFoundErr), Description: "stream not found"}
	} else {
		answer.Leader, answer.Heard = r.word(stream).latest(r, stream)
	}
	text, err := json.Marshal(answer)
	if err == nil {
		err = reply(text)
	}
	if err != nil {
		r.s.Warnf("Relay: %v", err)
	}
}

// mirror is read from the server's memory; none is known by that name when it is nil.
func (r *relay) mirror(stream string) *natsconf.MirrorState {
	account, err := r.s.JszAccount(&server.JSzOptions{Account: natsconf.AccountStore, Streams: true})
	if err != nil {
		return nil
	}
	for _, s := range account.Streams {
		if s.Name != stream {
			continue
		}
		state := &natsconf.MirrorState{Created: s.Created, Last: s.State.LastSeq}
		if s.Mirror != nil {
			state.Mirror, state.Lag, state.Active = true, s.Mirror.Lag, s.Mirror.Active
		}
		return state
	}
	return nil
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
	ctx, cancel := context.WithTimeout(context.Background(), leaderWithin)
	defer cancel()
	asked := time.Now()
	m, err := r.nc.RequestWithContext(ctx, coreAPI+"STREAM.INFO."+stream, nil)
	var info struct {
		Cluster json.RawMessage  `json:"cluster"`
		Error   *server.ApiError `json:"error"`
	}
	if err != nil || json.Unmarshal(m.Data, &info) != nil || info.Error != nil {
		w.next = time.Now().Add(leaderWithin)
		return
	}
	if info.Cluster == nil {
		info.Cluster = json.RawMessage("null") // not clustered, which is an answer too
	}
	w.text, w.heard, w.next = info.Cluster, asked, asked.Add(wordFor)
}
