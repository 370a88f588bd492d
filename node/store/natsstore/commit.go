package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Headers of JetStream's publishing that a batch uses.
const (
	headerMsgID       = "Nats-Msg-Id"
	headerTTL         = "Nats-TTL"
	headerExpect      = "Nats-Expected-Last-Subject-Sequence"
	headerExpectOther = "Nats-Expected-Last-Subject-Sequence-Subject"
	headerExpectID    = "Nats-Expected-Last-Msg-Id"
	headerBatchID     = "Nats-Batch-Id"
	headerBatchSeq    = "Nats-Batch-Sequence"
	headerBatchCommit = "Nats-Batch-Commit"
	// headerOperation marks a removal as the standard key-value tools do.
	headerOperation = "KV-Operation"
)

// Numbers of JetStream's errors that mean something to a writer.
const (
	errWrongLast         = 10071 // a guard did not hold
	errWrongLastConstant = 10164 // a guard did not hold: another write of the subject is in flight
	errDuplicateInBatch  = 10201 // the batch was committed before
	errDuplicateInFlight = 10158 // the same ID is being written
	errStoreFailed       = 10077 // with a sentence: maximum bytes or messages exceeded
	errNoResources       = 10023
	errAccountFull       = 10002
	errNoMemory          = 10028
	errNoStorage         = 10047
	errTooLarge          = 10054
	errHeaderTooLarge    = 10097
	errBatchTooLarge     = 10199
)

// carrierToken names the one subject whose writes carry nothing but a guard. Keys cannot hold a
// leading underscore by convention only, so it is spelled as no schema function spells one.
const carrierToken store.Key = "_check"

// writableFor is how long one answer from the leader vouches for a quorum.
const writableFor = time.Second

// Commit implements store.Facts by one atomic batch. A leader also refuses a batch while another write of what it guards
// is in flight, and that one may come to nothing: where every guard holds after all, the batch is sent again.
func (f facts) Commit(ctx context.Context, b store.Batch) (store.Revision, error) {
	if err := b.Valid(); err != nil {
		return 0, err
	}
	what := "batch " + b.ID
	if err := f.s.writable(ctx, what); err != nil {
		return 0, err
	}
	for try := 1; ; try++ {
		ack, err := f.s.settle(ctx, f.s.messages(b))
		if err == nil {
			f.s.wrote.Store(time.Now().UnixNano())
			return store.Revision(ack.Sequence), nil
		}
		if !isAPIError(err, errWrongLast, errWrongLastConstant) {
			return 0, refused(what, err)
		}
		if key, moved := f.s.moved(ctx, b); moved || try == inFlightTries || !pause(ctx, landing(try)) {
			return 0, store.Conflict(key)
		}
	}
}

// inFlightTries is how often a batch is sent whose guards all hold whenever they are looked at.
const inFlightTries = 8

// landing is a time for what is in flight to land, longer with each try and not the same as others'.
func landing(try int) time.Duration {
	return time.Duration(try) * (5*time.Millisecond + rand.N(20*time.Millisecond))
}

type pubAck struct {
	Error     *apiError `json:"error"`
	Stream    string    `json:"stream"`
	Sequence  uint64    `json:"seq"`
	Duplicate bool      `json:"duplicate"`
}

// messages lays a batch out: checks ride on puts without a guard of their own, and on carriers
// where there are none left. Carriers come first, so that the last message is the last put.
func (s *Store) messages(b store.Batch) []*nats.Msg {
	var msgs []*nats.Msg
	checks := b.Checks
	free := 0
	for _, p := range b.Puts {
		if p.Expect == nil {
			free++
		}
	}
	for ; len(checks) > free; checks = checks[1:] {
		m := s.message(store.Put{Key: carrierToken, Remove: true})
		s.guard(m, checks[0])
		msgs = append(msgs, m)
	}
	for _, p := range b.Puts {
		m := s.message(p)
		if p.Expect == nil && len(checks) > 0 {
			s.guard(m, checks[0])
			checks = checks[1:]
		}
		msgs = append(msgs, m)
	}
	for i, m := range msgs {
		m.Header.Set(headerMsgID, b.ID+"#"+strconv.Itoa(i))
	}
	return msgs
}

func (s *Store) message(p store.Put) *nats.Msg {
	m := nats.NewMsg(s.subject(p.Key))
	if p.Remove {
		m.Header.Set(headerOperation, "DEL")
	} else {
		m.Data = p.Value
	}
	if p.Expect != nil {
		m.Header.Set(headerExpect, strconv.FormatUint(uint64(*p.Expect), 10))
	}
	if ttl := store.WholeSeconds(p.TTL); ttl > 0 {
		m.Header.Set(headerTTL, strconv.FormatInt(int64(ttl/time.Second), 10))
	}
	return m
}

// guard is by the literal subject, always: a wildcard is not compared with writes in flight.
func (s *Store) guard(m *nats.Msg, c store.Check) {
	m.Header.Set(headerExpect, strconv.FormatUint(uint64(c.Expect), 10))
	m.Header.Set(headerExpectOther, s.subject(c.Key))
}

// publish sends the messages and waits for the one answer that covers all. A single message
// needs no batch.
func (s *Store) publish(ctx context.Context, msgs []*nats.Msg) (pubAck, error) {
	last := msgs[len(msgs)-1]
	if len(msgs) > 1 {
		// The server's name for the attempt, not for the batch: a retry must not run into the
		// remains of an attempt that is still being given up.
		attempt := nuid.Next()
		for i, m := range msgs {
			m.Header.Set(headerBatchID, attempt)
			m.Header.Set(headerBatchSeq, strconv.Itoa(i+1))
		}
		last.Header.Set(headerBatchCommit, "1")
		for _, m := range msgs[:len(msgs)-1] {
			if err := s.core.nc.PublishMsg(m); err != nil {
				return pubAck{}, fmt.Errorf("%w: %w", errUnsent, err)
			}
		}
	}
	return s.ack(ctx, last)
}

func (s *Store) ack(ctx context.Context, m *nats.Msg) (pubAck, error) {
	answer, err := s.core.send(ctx, m)
	if err != nil {
		return pubAck{}, err
	}
	var a pubAck
	if err := json.Unmarshal(answer.Data, &a); err != nil {
		return a, fmt.Errorf("%w: an answer that is none: %q", errSilent, answer.Data)
	}
	if a.Error != nil {
		return a, a.Error
	}
	if a.Sequence == 0 {
		return a, fmt.Errorf("%w: an answer without a sequence: %q", errSilent, answer.Data)
	}
	return a, nil
}

// settle publishes, and finds out whether a refusal only means that this was a retry. A batch is
// recognised before its guards are judged; a single message, on a stream of one replica, after.
func (s *Store) settle(ctx context.Context, msgs []*nats.Msg) (pubAck, error) {
	ack, err := s.publish(ctx, msgs)
	last := msgs[len(msgs)-1]
	switch {
	case isAPIError(err, errDuplicateInBatch):
	case len(msgs) == 1 && isAPIError(err, errWrongLast):
		_, seen := s.publish(ctx, []*nats.Msg{probe(last, headerBatchID, nuid.Next(), headerBatchSeq, "1", headerBatchCommit, "1")})
		if isAPIError(seen, errWrongLast, errWrongLastConstant) {
			return ack, err // the server never saw this ID: the guard's refusal stands
		}
		if !isAPIError(seen, errDuplicateInBatch) {
			return ack, fmt.Errorf("%w: whether it was sent before is not known: %v", errSilent, seen)
		}
	default:
		return ack, err
	}
	first, unknown := s.original(ctx, last)
	if unknown == nil {
		return first, nil
	}
	return first, fmt.Errorf("%w: it was sent before, and its revision is not known: %v", errSilent, unknown)
}

// impossible is a revision that no subject has.
const impossible = "4611686018427387904"

// probe is a message of the same ID that no state of the stream lets through.
func probe(last *nats.Msg, headers ...string) *nats.Msg {
	m := nats.NewMsg(last.Subject)
	m.Header.Set(headerMsgID, last.Header.Get(headerMsgID))
	m.Header.Set(headerExpect, impossible)
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	return m
}

// original asks with which sequence a message was stored before, by sending its ID again. The ID must
// be known to the server. A replicated stream recognises it before it judges the guard; a stream of
// one replica judges that guard first, and only the one on the last ID afterwards.
//
// That guard must never reach a replicated stream with an ID that is not known: the leader does not
// judge it before it replicates the message, every replica then takes its refusal for a failed
// write, and the stream stands still on all of them until they are restarted (2.15.2).
func (s *Store) original(ctx context.Context, last *nats.Msg) (pubAck, error) {
	a, err := s.ack(ctx, probe(last))
	if isAPIError(err, errWrongLast, errWrongLastConstant) {
		m := probe(last, headerExpectID, "no message has this ID "+nuid.Next())
		m.Header.Del(headerExpect)
		a, err = s.ack(ctx, m)
	}
	if err == nil && !a.Duplicate {
		err = fmt.Errorf("the question was stored, at %d", a.Sequence)
	}
	return a, err
}

// refused turns the end of a write into the store's words. Only silence is uncertain.
func refused(what string, err error) error {
	if isAPIError(err, errDuplicateInFlight) {
		return store.Uncertain(what, err)
	}
	return writeError(what, err)
}

func writeError(what string, err error) error {
	switch {
	case errors.Is(err, errSilent):
		return store.Uncertain(what, err)
	case isAPIError(err, errStoreFailed, errNoResources, errAccountFull, errNoMemory, errNoStorage):
		return store.Full(what, err)
	case isAPIError(err, errTooLarge, errHeaderTooLarge, errBatchTooLarge):
		return api.Errorf(api.CodeStoreTooLarge, "%s: %w", what, err)
	}
	return store.Unavailable(what, err)
}

// moved finds the guarded key that changed. Where none did, by now, the first guard's stands in.
func (s *Store) moved(ctx context.Context, b store.Batch) (key store.Key, moved bool) {
	guards := append([]store.Check{}, b.Checks...)
	for _, p := range b.Puts {
		if p.Expect != nil {
			guards = append(guards, store.Check{Key: p.Key, Expect: *p.Expect})
		}
	}
	if len(guards) == 0 {
		return "", false
	}
	for _, g := range guards[:min(len(guards), 64)] {
		fact, err := s.get(ctx, g.Key)
		if (err == nil || store.IsNotFound(err)) && fact.Revision != g.Expect {
			return g.Key, true
		}
	}
	return guards[0].Key, false
}

// writable asks the leader before sending: a leader that lost its followers would take the write
// and never answer, and so make uncertain what can be refused.
func (s *Store) writable(ctx context.Context, what string) error {
	if time.Since(time.Unix(0, s.wrote.Load())) < writableFor {
		return nil
	}
	info, err := s.streamState(ctx, s.core, natsconf.FactsStream(s.cfg.Generation))
	if err != nil {
		return store.Unavailable(what, err)
	}
	if err := info.Cluster.quorum(); err != nil {
		return store.Unavailable(what, err)
	}
	s.wrote.Store(time.Now().UnixNano())
	return nil
}
