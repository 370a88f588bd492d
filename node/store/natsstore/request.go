package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// How a request can end without an answer. The difference is the whole point: after errUnsent the
// server has not seen it, after errSilent nobody knows.
var (
	errUnsent        = errors.New("not sent")
	errNobody        = errors.New("nobody answers for it")
	errSilent        = errors.New("no answer")
	errNotConfigured = errors.New("natsstore: no such server configured")
)

// apiError is the error object of JetStream's replies.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

// Error is the server's own sentence with its number.
func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode) }

// send publishes a message and waits for its one answer. Errors wrap errUnsent, errNobody or
// errSilent; messages before it on the same link arrive before it.
func (l *link) send(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	if l == nil {
		return nil, fmt.Errorf("%w: %w", errUnsent, errNotConfigured)
	}
	return l.sendWithin(ctx, l.timeout, m)
}

func (l *link) sendWithin(ctx context.Context, d time.Duration, m *nats.Msg) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnsent, err)
	}
	if !l.nc.IsConnected() {
		if err := l.nc.LastError(); err != nil {
			return nil, fmt.Errorf("%w: not connected to the %s: %w", errUnsent, l.name, err)
		}
		return nil, fmt.Errorf("%w: not connected to the %s", errUnsent, l.name)
	}
	dropped := l.connected().Done()
	answers := make(chan *nats.Msg, 1)
	m.Reply = l.nc.NewInbox()
	sub, err := l.nc.ChanSubscribe(m.Reply, answers)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnsent, err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // fails only when the connection is gone, and the subscription with it
	if err := l.nc.PublishMsg(m); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnsent, err)
	}
	return wait(ctx, answers, dropped)
}

func wait(ctx context.Context, answers <-chan *nats.Msg, dropped <-chan struct{}) (*nats.Msg, error) {
	select {
	case a := <-answers:
		if len(a.Data) == 0 && a.Header.Get("Status") == "503" {
			return nil, errNobody
		}
		return a, nil
	case <-dropped:
		return nil, fmt.Errorf("%w: the connection dropped", errSilent)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errSilent, ctx.Err())
	}
}

// call asks JetStream's API; body and reply are JSON. Errors as send, or *apiError.
func (l *link) call(ctx context.Context, subject string, body, reply any) error {
	m := nats.NewMsg(subject)
	if body != nil {
		var err error
		if m.Data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	a, err := l.send(ctx, m)
	if err != nil {
		return err
	}
	var failed struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(a.Data, &failed); err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	if failed.Error != nil {
		return failed.Error
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(a.Data, reply)
}

func isAPIError(err error, codes ...int) bool {
	var e *apiError
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.ErrCode == c {
			return true
		}
	}
	return false
}
