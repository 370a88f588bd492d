package daemon

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
)

// progressPause thins out progress: one line per part in this time is enough for any eye.
const progressPause = 100 * time.Millisecond

// stream is one running operation's events, for any number of followers, each from the beginning.
type stream struct {
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	events []api.Event          // guarded by mu
	ended  bool                 // guarded by mu
	shown  map[string]time.Time // guarded by mu; when a part's progress was last kept
	moved  chan struct{}        // guarded by mu; closed and replaced on every change
}

func newStream(cancel context.CancelCauseFunc) *stream {
	return &stream{cancel: cancel, shown: map[string]time.Time{}, moved: make(chan struct{})}
}

// add takes an event from the runner. The runner's own outcome entry is left out: end writes the
// complete one, also for operations that never got as far as the ledger.
func (s *stream) add(e api.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Type == api.EventOutcome || e.Type == api.EventProgress && !s.worthLocked(e) {
		return
	}
	s.appendLocked(e)
}

func (s *stream) worthLocked(e api.Event) bool {
	now := time.Now()
	if e.Done != e.Total && now.Sub(s.shown[e.Part]) < progressPause {
		return false
	}
	s.shown[e.Part] = now
	return true
}

func (s *stream) appendLocked(e api.Event) {
	s.events = append(s.events, e)
	close(s.moved)
	s.moved = make(chan struct{})
}

// end adds the last event.
func (s *stream) end(out api.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.appendLocked(outcomeEvent(out))
}

func outcomeEvent(out api.Outcome) api.Event {
	return api.Event{
		Type: api.EventOutcome, Time: time.Now().UTC(), Operation: out.Operation, Kind: out.Kind, Scope: out.Scope,
		Elapsed: out.Took, Outcome: &out,
	}
}

// follow emits every event from the first to the outcome, or until ctx ends.
func (s *stream) follow(ctx context.Context, emit func(api.Event) error) error {
	for position := 0; ; {
		s.mu.Lock()
		events, ended, moved := s.events[position:], s.ended, s.moved
		s.mu.Unlock()
		for _, e := range events {
			if err := emit(e); err != nil {
				return err
			}
		}
		position += len(events)
		if ended {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-moved:
		}
	}
}

// begin admits one more operation.
func (r *running) begin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopping {
		return api.Errorf(api.CodeDaemonStopping, "the daemon is stopping and takes no new operation").Again().
			WithHint("repeat it once the daemon is back: systemctl status ployzd")
	}
	r.all.Add(1)
	r.now++
	return nil
}

func (r *running) opened(id string, s *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil {
		r.byID = map[string]*stream{}
	}
	r.byID[id] = s
}

// ending is what endings of operations are counted by.
type ending struct {
	kind    string
	outcome api.Result
}

func (r *running) ended(id string, out api.Outcome) {
	r.mu.Lock()
	delete(r.byID, id)
	if r.endings == nil {
		r.endings = map[ending]uint64{}
	}
	r.endings[ending{out.Kind, out.Outcome}]++
	r.now--
	r.mu.Unlock()
	r.all.Done()
}

// figures are the number of operations now, and how those before ended.
func (r *running) figures() (now int, endings map[ending]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now, maps.Clone(r.endings)
}

func (r *running) find(id string) *stream {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[id]
}

func (r *running) cancelAll(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.byID {
		s.cancel(cause)
	}
}
