package natsstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// heartbeat is how often a silent consumer shows that it is there.
	heartbeat = 5 * time.Second
	// silence is when it counts as lost.
	silence = 12 * time.Second
	// again is the pause between attempts to find the place again.
	again = 100 * time.Millisecond
)

var (
	errFeedClosed = errors.New("the feed was closed")
	errRewound    = errors.New("the stream was made anew, so its history may be another")
)

// tail is an ordered consumer: it hands out a stream's messages in order, notices when one is
// missing, and goes on behind the last one seen after every disturbance. In a stream with one
// message per subject what it skips is only what was overwritten.
//
// One goroutine may use it at a time; close may come from any.
type tail struct {
	l       *link
	stream  string
	filters []string

	ctx     context.Context // the feed's life
	close   context.CancelFunc
	created time.Time // of the stream; another one means another history
	last    uint64    // stream sequence handed out last

	sub      *nats.Subscription
	release  func() bool     // takes back what the end of ctx would do to sub
	epoch    context.Context // of the connection the consumer was made on
	consumer string
	seen     uint64 // consumer sequence seen last
	pending  uint64 // what was left when the consumer was made
}

// openTail starts behind the sequence after. Errors are those of the link.
func openTail(ctx context.Context, l *link, stream string, filters []string, after uint64) (*tail, error) {
	t := &tail{l: l, stream: stream, filters: filters, last: after}
	t.ctx, t.close = context.WithCancel(ctx)
	if err := t.place(ctx); err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

// stop ends the tail for good; the consumer goes with its subscription.
func (t *tail) stop() {
	t.close()
	t.leave()
}

func (t *tail) leave() {
	if t.sub != nil && t.release() {
		t.l.abandon(t.sub, t.stream, t.consumer)
	}
	t.sub = nil
}

func (l *link) abandon(sub *nats.Subscription, stream, consumer string) {
	_ = sub.Unsubscribe() // fails only when the connection is gone, and the subscription with it
	l.forget(stream, consumer)
}

// place makes a consumer behind the last message seen.
func (t *tail) place(ctx context.Context) error {
	if t.l == nil {
		return errNotConfigured
	}
	t.leave()
	epoch := t.l.connected()
	var info streamState
	if err := t.l.call(ctx, "$JS.API.STREAM.INFO."+t.stream, nil, &info); err != nil {
		return err
	}
	if !t.created.IsZero() && (!t.created.Equal(info.Created) || info.State.LastSeq < t.last) {
		return errRewound
	}
	inbox := t.l.nc.NewInbox()
	sub, err := t.l.nc.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnsent, err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	made, err := t.l.consume(ctx, t.stream, inbox, t.filters, map[string]any{
		"deliver_policy": "by_start_sequence", "opt_start_seq": t.last + 1, "flow_control": true, "idle_heartbeat": heartbeat,
	})
	if err != nil {
		_ = sub.Unsubscribe()
		return err
	}
	t.created, t.sub, t.epoch, t.consumer, t.seen, t.pending = info.Created, sub, epoch, made.Name, 0, made.Pending
	t.release = context.AfterFunc(t.ctx, func() { t.l.abandon(sub, t.stream, made.Name) })
	return nil
}

// next waits for a message. Errors: ctx's own, and store errors once the tail cannot go on.
func (t *tail) next(ctx context.Context) (*nats.Msg, *nats.MsgMetadata, error) {
	for {
		m, err := t.receive(ctx)
		if err == nil && m != nil {
			meta, err := t.accept(m)
			if err == nil && meta != nil {
				return m, meta, nil
			}
			if err == nil {
				continue
			}
		}
		if err := t.resume(ctx); err != nil {
			return nil, nil, err
		}
	}
}

// receive waits on the subscription until there is a message, or a reason to look elsewhere.
func (t *tail) receive(ctx context.Context) (*nats.Msg, error) {
	if t.sub == nil || t.epoch.Err() != nil || t.ctx.Err() != nil {
		return nil, errGap
	}
	wait, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	defer context.AfterFunc(t.epoch, cancel)()
	return t.sub.NextMsgWithContext(wait)
}

// accept answers the server's flow control, and returns no metadata for what is not a stored
// message. An error means that something is missing.
func (t *tail) accept(m *nats.Msg) (*nats.MsgMetadata, error) {
	if status := m.Header.Get("Status"); status != "" {
		return nil, t.control(m, status)
	}
	meta, err := m.Metadata()
	if err != nil {
		return nil, err
	}
	if meta.Sequence.Consumer != t.seen+1 {
		return nil, errGap
	}
	t.seen, t.last = meta.Sequence.Consumer, meta.Sequence.Stream
	return meta, nil
}

func (t *tail) control(m *nats.Msg, status string) error {
	if status != "100" {
		return fmt.Errorf("%w: %s %s", errGap, status, m.Header.Get("Description"))
	}
	if m.Reply != "" {
		return m.Respond(nil)
	}
	if stalled := m.Header.Get("Nats-Consumer-Stalled"); stalled != "" {
		if err := t.l.nc.Publish(stalled, nil); err != nil {
			return err
		}
	}
	if last, err := strconv.ParseUint(m.Header.Get("Nats-Last-Consumer"), 10, 64); err == nil && last > t.seen {
		return errGap
	}
	return nil
}

// resume finds the place again, however long that takes, unless ctx or the feed ends first.
func (t *tail) resume(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if t.ctx.Err() != nil {
			t.leave()
			return unavailable("the feed", errFeedClosed)
		}
		err := t.place(ctx)
		if err == nil {
			return nil
		}
		if errors.Is(err, errRewound) || t.l.nc.IsClosed() {
			return unavailable("the feed", err)
		}
		select {
		case <-ctx.Done():
		case <-t.ctx.Done():
		case <-time.After(again):
		}
	}
}
