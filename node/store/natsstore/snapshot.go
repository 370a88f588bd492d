package natsstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// quietFor is how long a snapshot may stall before the consumer is asked whether it is done: the
// last messages it had pending may have been overwritten or may have expired meanwhile.
const quietFor = 200 * time.Millisecond

// lagPatience is how long a read goes on asking voters that lag.
const lagPatience = 30 * time.Second

// errBehind is a snapshot that ended before the sequence it was to reach: it was made on a voter that has still to
// catch up, or the message with that sequence is gone.
var errBehind = errors.New("the voter that was asked lags behind the leader")

// upToDate reads again while what was read is behind what the leader had before it; newest is 0 where there is nothing.
func upToDate(ctx context.Context, newest func(context.Context) (uint64, error), read func(ctx context.Context, upTo uint64) error) error {
	ctx, cancel := context.WithTimeout(ctx, lagPatience)
	defer cancel()
	for {
		upTo, err := newest(ctx)
		if err != nil || upTo == 0 {
			return err
		}
		if err := read(ctx, upTo); !errors.Is(err, errBehind) {
			return err
		}
		if !pause(ctx, quietFor) {
			return errBehind
		}
	}
}

// pause waits a while; false once ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// newest is the sequence of that message (last); 0 where there is none.
func (l *link) newest(ctx context.Context, stream, subject string) (uint64, error) {
	m, err := l.last(ctx, stream, subject)
	if isAPIError(err, errNoMessage) {
		return 0, nil
	}
	return m.Sequence, err
}

// list reads the last value of every key under the prefix, as of sequence upTo at least. The
// stream keeps one message per subject, so all of them are the last ones. It must read until
// nothing is pending: a key that is overwritten meanwhile shows up again further on.
func (s *Store) list(ctx context.Context, l *link, prefix store.Key, upTo uint64) ([]store.Fact, error) {
	live := map[store.Key]store.Fact{}
	err := l.snapshot(ctx, natsconf.FactsStream(s.cfg.Generation), s.subjects(prefix), "all", upTo, func(m *nats.Msg, meta *nats.MsgMetadata) {
		key := s.keyOf(m.Subject)
		if goneMsg(m, meta.Timestamp) {
			delete(live, key)
			return
		}
		live[key] = store.Fact{Key: key, Value: m.Data, Revision: store.Revision(meta.Sequence.Stream), Written: meta.Timestamp}
	})
	if err != nil {
		return nil, err
	}
	var out []store.Fact
	for _, f := range live {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b store.Fact) int { return cmp.Compare(a.Key, b.Key) })
	return out, nil
}

// snapshot hands out every message the filters and the policy select, up to sequence upTo at least. It
// uses a consumer that lives as long as the call. Errors: errBehind.
func (l *link) snapshot(ctx context.Context, stream string, filters []string, policy string, upTo uint64, each func(*nats.Msg, *nats.MsgMetadata)) error {
	if l == nil {
		return errNotConfigured
	}
	ctx, cancel := context.WithTimeout(ctx, max(l.timeout, 30*time.Second))
	defer cancel()
	inbox := l.nc.NewInbox()
	in, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnsent, err)
	}
	defer in.Unsubscribe() //nolint:errcheck // fails only with the connection
	if err := in.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	consumer, err := l.consume(ctx, stream, inbox, filters, map[string]any{"deliver_policy": policy})
	if err != nil {
		return err
	}
	defer l.forget(stream, consumer.Name)
	if consumer.Pending == 0 {
		return reached(0, upTo)
	}
	return l.drain(ctx, stream, consumer.Name, in, upTo, each)
}

type consumerState struct {
	Name      string `json:"name"`
	Pending   uint64 `json:"num_pending"`
	Delivered struct {
		Consumer uint64 `json:"consumer_seq"`
	} `json:"delivered"`
}

// consume makes an ephemeral consumer that delivers to inbox. settings are added to what every
// consumer here has in common.
func (l *link) consume(ctx context.Context, stream, inbox string, filters []string, settings map[string]any) (consumerState, error) {
	name := nuid.Next()
	config := map[string]any{
		"name": name, "ack_policy": "none", "deliver_subject": inbox, "filter_subjects": filters,
		"mem_storage": true, "num_replicas": 1, "inactive_threshold": 30 * time.Second, "max_deliver": 1,
	}
	maps.Copy(config, settings)
	var info consumerState
	body := map[string]any{"stream_name": stream, "config": config}
	err := l.call(ctx, "$JS.API.CONSUMER.CREATE."+stream+"."+name, body, &info)
	return info, err
}

// forget deletes the consumer without waiting; should the request be lost, it goes by itself.
func (l *link) forget(stream, name string) {
	_ = l.nc.Publish("$JS.API.CONSUMER.DELETE."+stream+"."+name, nil)
}

func (l *link) drain(ctx context.Context, stream, consumer string, in *nats.Subscription, upTo uint64, each func(*nats.Msg, *nats.MsgMetadata)) error {
	var seen, last uint64
	for {
		quiet, cancel := context.WithTimeout(ctx, quietFor)
		m, err := in.NextMsgWithContext(quiet)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			done, err := l.drained(ctx, stream, consumer, seen)
			if err != nil {
				return err
			}
			if done {
				return reached(last, upTo)
			}
			continue
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if seen++; meta.Sequence.Consumer != seen {
			return fmt.Errorf("%w: message %d came as number %d", errGap, meta.Sequence.Consumer, seen)
		}
		each(m, meta)
		last = meta.Sequence.Stream
		if last >= upTo && meta.NumPending == 0 {
			return nil
		}
	}
}

func reached(last, upTo uint64) error {
	if last < upTo {
		return errBehind
	}
	return nil
}

// drained asks whether a silent consumer has nothing left, and delivered no more than was seen.
func (l *link) drained(ctx context.Context, stream, consumer string, seen uint64) (bool, error) {
	var info consumerState
	if err := l.call(ctx, "$JS.API.CONSUMER.INFO."+stream+"."+consumer, nil, &info); err != nil {
		return false, err
	}
	return info.Pending == 0 && info.Delivered.Consumer == seen, nil
}
