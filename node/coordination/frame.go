package coordination

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
)

// beat is how often a machine says that it still works on a command; silence for patience beats
// means that nobody knows any more.
const (
	beat     = 2 * time.Second
	patience = 3
)

// frame is one message on the way back. Frames of a call are numbered from 1, so that a missing one shows.
type frame struct {
	Number int    `json:"n"`
	Kind   string `json:"kind"`
	// Body is a report of progress or the answer, Part a piece of an answer that is too large
	// for one message, Error a refusal.
	Body  json.RawMessage `json:"body,omitempty"`
	Part  []byte          `json:"part,omitempty"`
	Error *api.Error      `json:"error,omitempty"`
}

// The kinds of frames. After frameAnswer nothing comes.
const (
	frameBeat     = "beat"
	frameProgress = "progress"
	framePart     = "part"
	frameAnswer   = "answer"
)

// partBytes keeps a frame well below a message's limit of 1 MiB, also in base64.
const partBytes = 384 << 10

// speaker writes one call's frames.
type speaker struct {
	reply func([]byte) error

	mu     sync.Mutex // guards number, and the order of frames
	number int
}

// say drops what cannot be sent: a caller that cannot be reached hears silence, which is the truth.
func (s *speaker) say(f frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	f.Number = s.number
	if text, err := json.Marshal(f); err == nil {
		_ = s.reply(text) // as above
	}
}

func (s *speaker) progress(body json.RawMessage) { s.say(frame{Kind: frameProgress, Body: body}) }

// answer is the last word.
func (s *speaker) answer(body json.RawMessage, err error) {
	if err != nil {
		s.say(frame{Kind: frameAnswer, Error: api.AsError(err)})
		return
	}
	if len(body) <= partBytes {
		s.say(frame{Kind: frameAnswer, Body: body})
		return
	}
	for len(body) > 0 {
		n := min(len(body), partBytes)
		s.say(frame{Kind: framePart, Part: body[:n]})
		body = body[n:]
	}
	s.say(frame{Kind: frameAnswer})
}

// beats says at once and then at intervals that the command is being worked on, until stop.
func (s *speaker) beats(every time.Duration) (stop func()) {
	s.say(frame{Kind: frameBeat})
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				s.say(frame{Kind: frameBeat})
			}
		}
	})
	return func() { close(done); ended.Wait() }
}
