package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

type view struct{ s *Store }

// View returns the face of the machine's own mirror.
func (s *Store) View() store.View { return view{s} }

// Get implements store.View by a direct get on the edge.
func (v view) Get(ctx context.Context, key store.Key) (store.Fact, error) {
	if err := key.Valid(); err != nil {
		return store.Fact{}, err
	}
	stream := natsconf.FactsStream(v.s.cfg.Generation)
	m, err := v.s.edge.send(ctx, nats.NewMsg("$JS.API.DIRECT.GET."+stream+"."+v.s.subject(key)))
	if err != nil {
		return store.Fact{}, unavailable(string(key), err)
	}
	switch status := m.Header.Get("Status"); status {
	case "":
	case "404":
		return store.Fact{Key: key}, store.NotFound(key)
	default:
		return store.Fact{}, unavailable(string(key), fmt.Errorf("%s %s", status, m.Header.Get("Description")))
	}
	return directFact(key, m)
}

func directFact(key store.Key, m *nats.Msg) (store.Fact, error) {
	seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return store.Fact{}, unavailable(string(key), err)
	}
	written, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	if err != nil {
		return store.Fact{}, unavailable(string(key), err)
	}
	fact := store.Fact{Key: key, Revision: store.Revision(seq), Written: written}
	if goneMsg(m, written) {
		return fact, store.NotFound(key)
	}
	fact.Value = m.Data
	return fact, nil
}

// List implements store.View.
func (v view) List(ctx context.Context, prefix store.Key) ([]store.Fact, error) {
	if err := prefix.ValidPrefix(); err != nil {
		return nil, err
	}
	list, err := v.s.list(ctx, v.s.edge, prefix, 0)
	if err != nil {
		return nil, unavailable(string(prefix), err)
	}
	return list, nil
}

// Follow implements store.View: one message per key from the beginning is the snapshot, and what
// follows are the changes.
func (v view) Follow(ctx context.Context, prefix store.Key) (store.Feed, error) {
	if err := prefix.ValidPrefix(); err != nil {
		return nil, err
	}
	t, err := openTail(ctx, v.s.edge, natsconf.FactsStream(v.s.cfg.Generation), v.s.subjects(prefix), 0)
	if err != nil {
		return nil, unavailable(string(prefix), err)
	}
	return &feed{s: v.s, t: t}, nil
}

// feed turns a tail into changes, and finds the place of the Current mark.
type feed struct {
	s       *Store
	t       *tail
	current bool // the mark was given
}

// Close implements store.Feed.
func (f *feed) Close() error {
	f.t.close()
	return nil
}

// Next implements store.Feed.
func (f *feed) Next(ctx context.Context) (store.Change, error) {
	if !f.current && f.t.pending == 0 && f.t.seen == 0 && f.t.ctx.Err() == nil {
		return f.mark(store.Change{}), nil
	}
	for {
		m, meta, err := f.receive(ctx)
		if err != nil {
			return store.Change{}, err
		}
		if m == nil {
			return f.mark(store.Change{}), nil
		}
		c, mine := f.change(m, meta)
		if !f.current && meta.NumPending == 0 {
			return f.mark(c), nil
		}
		if mine {
			return c, nil
		}
	}
}

func (f *feed) mark(c store.Change) store.Change {
	f.current, c.Current = true, true
	return c
}

// receive returns no message when the snapshot turned out to have nothing left.
func (f *feed) receive(ctx context.Context) (*nats.Msg, *nats.MsgMetadata, error) {
	for !f.current {
		quiet, cancel := context.WithTimeout(ctx, quietFor)
		m, meta, err := f.t.next(quiet)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return m, meta, err
		}
		if done, err := f.t.l.drained(ctx, f.t.stream, f.t.consumer, f.t.seen); err == nil && done {
			return nil, nil, nil
		}
	}
	return f.t.next(ctx)
}

// change is not mine for the carriers of guards, which no reader should see.
func (f *feed) change(m *nats.Msg, meta *nats.MsgMetadata) (_ store.Change, mine bool) {
	key := f.s.keyOf(m.Subject)
	if key == carrierToken {
		return store.Change{}, false
	}
	c := store.Change{
		Fact:    store.Fact{Key: key, Revision: store.Revision(meta.Sequence.Stream), Written: meta.Timestamp},
		Removed: goneMsg(m, meta.Timestamp),
	}
	if !c.Removed {
		c.Fact.Value = m.Data
	}
	return c, true
}

// activeWithin is how old the origin's last sign may be: it gives one every two seconds.
const activeWithin = 5 * time.Second

// Freshness implements store.View. It asks the edge's process, and by it the core's leader. Three kinds of lying
// mirror are told apart here: one that never reached its origin says "no lag, no silence"; one of an
// older generation is known by the newest cluster fact in it; and one whose origin is a voter of a minority
// hears from that as ever, while the others commit.
func (v view) Freshness(ctx context.Context) (store.Freshness, error) {
	s := v.s
	m, err := s.mirrorState(ctx)
	if err != nil {
		return store.Freshness{}, unavailable("the mirror", err)
	}
	f := store.Freshness{Generation: s.cfg.Generation, Last: store.Revision(m.Last)}
	if !m.Mirror {
		f.Why = "the edge's stream is not a mirror"
		return f, nil
	}
	led := s.ledAgo(m)
	f.Active = max(m.Active, led)
	if f.Why = mirrorWhy(m.Active, m.Lag); f.Why == "" && led > activeWithin {
		f.Why = fmt.Sprintf("no majority of the voters has been heard of for %s", led.Round(time.Second))
	}
	if f.Why == "" {
		f.Why = v.generationWhy(ctx, m)
	}
	f.Fresh = f.Why == ""
	return f, nil
}

func (s *Store) mirrorState(ctx context.Context) (natsconf.MirrorState, error) {
	var m natsconf.MirrorState
	ctx, cancel := context.WithTimeout(ctx, stateWithin)
	defer cancel()
	err := s.edge.call(ctx, natsconf.MirrorQuestion(natsconf.FactsStream(s.cfg.Generation)), nil, &m)
	return m, err
}

// ledAgo is how long ago the core was last known to have a leader with a quorum; never is some seconds before
// this Store was opened.
func (s *Store) ledAgo(m natsconf.MirrorState) time.Duration {
	var voters *raftGroup
	if len(m.Leader) > 0 && json.Unmarshal(m.Leader, &voters) == nil && voters.quorum() == nil {
		s.led.Store(max(s.led.Load(), time.Now().Add(-m.Heard).UnixNano()))
	}
	return time.Since(time.Unix(0, s.led.Load()))
}

func mirrorWhy(active time.Duration, lag uint64) string {
	switch {
	case active <= 0:
		return "the mirror has not reached the core since the edge started"
	case active > activeWithin:
		return fmt.Sprintf("the mirror has not heard from the core for %s", active.Round(time.Second))
	case lag > 0:
		return fmt.Sprintf("the mirror is %d writes behind", lag)
	}
	return ""
}

// generationSeen is what the cluster fact said when the mirror was made at created and held last.
type generationSeen struct {
	created    time.Time
	last       uint64
	generation uint64
}

// generationWhy compares with the cluster fact, of which only its generation is read here. It is read
// again only once the mirror holds more, or is another one: readers ask this all the time.
func (v view) generationWhy(ctx context.Context, mirror natsconf.MirrorState) string {
	seen := v.s.seen.Load()
	if seen == nil || !seen.created.Equal(mirror.Created) || seen.last != mirror.Last {
		generation, err := v.generation(ctx)
		if err != nil {
			return err.Error()
		}
		seen = &generationSeen{mirror.Created, mirror.Last, generation}
		v.s.seen.Store(seen)
	}
	if seen.generation > v.s.cfg.Generation {
		return fmt.Sprintf("the cluster is at generation %d, this mirror at %d", seen.generation, v.s.cfg.Generation)
	}
	return ""
}

// generation is the one of the cluster fact, 0 where there is none yet.
func (v view) generation(ctx context.Context) (uint64, error) {
	fact, err := v.Get(ctx, store.Cluster())
	if store.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var cluster struct {
		Generation uint64 `json:"generation"`
	}
	if err := json.Unmarshal(fact.Value, &cluster); err != nil {
		return 0, fmt.Errorf("the cluster fact cannot be read: %w", err)
	}
	return cluster.Generation, nil
}
