package natsstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/textproto"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// errNoMessage is JetStream's number for a subject without a message.
const errNoMessage = 10037

type facts struct{ s *Store }

// Facts returns the leader's face.
func (s *Store) Facts() store.Facts { return facts{s} }

// Get implements store.Facts.
func (f facts) Get(ctx context.Context, key store.Key) (store.Fact, error) {
	if err := key.Valid(); err != nil {
		return store.Fact{}, err
	}
	return f.s.get(ctx, key)
}

func (s *Store) get(ctx context.Context, key store.Key) (store.Fact, error) {
	m, err := s.lastMessage(ctx, s.subject(key))
	if isAPIError(err, errNoMessage) {
		return store.Fact{Key: key}, store.NotFound(key)
	}
	if err != nil {
		return store.Fact{}, unavailable(string(key), err)
	}
	fact := store.Fact{Key: key, Value: m.Data, Revision: store.Revision(m.Sequence), Written: m.Time}
	if header := m.header(); isRemoval(header.Get) || expired(header.Get(headerTTL), m.Time) {
		fact.Value = nil
		return fact, store.NotFound(key)
	}
	return fact, nil
}

// storedMessage is a message as MSG.GET returns it.
type storedMessage struct {
	Subject  string    `json:"subject"`
	Sequence uint64    `json:"seq"`
	Header   string    `json:"hdrs"`
	Data     []byte    `json:"data"`
	Time     time.Time `json:"time"`
}

// header is empty where it cannot be read: our own messages' can.
func (m storedMessage) header() textproto.MIMEHeader {
	raw, err := base64.StdEncoding.DecodeString(m.Header)
	if err != nil || len(raw) == 0 {
		return nil
	}
	_, rest, _ := bytes.Cut(raw, []byte("\r\n"))
	header, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(rest))).ReadMIMEHeader()
	if err != nil {
		return nil
	}
	return header
}

// isRemoval knows our own removals and those of the standard tools.
func isRemoval(header func(string) string) bool {
	op := header(headerOperation)
	return op == "DEL" || op == "PURGE"
}

// goneMsg says that a message tells of no fact: of a removal, or of one that has come to its end.
func goneMsg(m *nats.Msg, written time.Time) bool {
	return isRemoval(m.Header.Get) || expired(m.Header.Get(headerTTL), written)
}

// leaderTries are how long the leader may take to answer a read. While none is elected a question is lost, and asked
// again it finds the next one; together they are how long a read hangs where there is no majority.
var leaderTries = []time.Duration{time.Second, 2 * time.Second}

// lastMessage asks the leader. A wildcard gives the newest of all that match.
func (s *Store) lastMessage(ctx context.Context, subject string) (m storedMessage, err error) {
	for _, within := range leaderTries {
		if m, err = s.askLast(ctx, within, subject); !errors.Is(err, errSilent) {
			return m, err
		}
	}
	return m, err
}

func (s *Store) askLast(ctx context.Context, within time.Duration, subject string) (storedMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return s.core.last(ctx, natsconf.FactsStream(s.cfg.Generation), subject)
}

// last is a stream's newest message with a subject, as its leader knows it. Errors: errNoMessage.
func (l *link) last(ctx context.Context, stream, subject string) (storedMessage, error) {
	var reply struct {
		Message storedMessage `json:"message"`
	}
	err := l.call(ctx, "$JS.API.STREAM.MSG.GET."+stream, map[string]string{"last_by_subj": subject}, &reply)
	return reply.Message, err
}

// List implements store.Facts. The newest sequence under the prefix comes from the leader; the
// facts come from a consumer, on whichever voter it runs, and count once they reach that far.
func (f facts) List(ctx context.Context, prefix store.Key) (list []store.Fact, err error) {
	if err := prefix.ValidPrefix(); err != nil {
		return nil, err
	}
	err = upToDate(ctx,
		func(ctx context.Context) (uint64, error) { return f.newest(ctx, prefix) },
		func(ctx context.Context, upTo uint64) error {
			list, err = f.s.list(ctx, f.s.core, prefix, upTo)
			return err
		})
	if err != nil {
		return nil, unavailable(string(prefix), err)
	}
	return list, nil
}

func (f facts) newest(ctx context.Context, prefix store.Key) (upTo uint64, err error) {
	for _, subject := range f.s.subjects(prefix) {
		m, err := f.s.lastMessage(ctx, subject)
		if err != nil && !isAPIError(err, errNoMessage) {
			return 0, err
		}
		upTo = max(upTo, m.Sequence)
	}
	return upTo, nil
}

// unavailable is the error of a read that got no answer; the reader's own deadline included.
func unavailable(what string, err error) error {
	if what == "" {
		what = "the facts"
	}
	return store.Unavailable(what, err)
}

// subject is where a key lives.
func (s *Store) subject(key store.Key) string {
	return natsconf.FactsSubject(s.cfg.Generation) + string(key)
}

// subjects are what a prefix matches: itself, and all below it by whole tokens.
func (s *Store) subjects(prefix store.Key) []string {
	if prefix == "" {
		return []string{s.subject(">")}
	}
	return []string{s.subject(prefix), s.subject(prefix + ".>")}
}

func (s *Store) keyOf(subject string) store.Key {
	return store.Key(strings.TrimPrefix(subject, natsconf.FactsSubject(s.cfg.Generation)))
}

var errGap = errors.New("the consumer lost its place")
