package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// visitWithin bounds one visit: a voter that is there answers within milliseconds, one that was
// paused or unplugged takes the connection, or not even that, and says nothing.
const visitWithin = 1500 * time.Millisecond

// visit is what one core said when it was asked by itself, over a connection of its own. Asking by
// broadcast would miss a voter whose routes to the others are cut, which is when the answer matters.
type visit[T any] struct {
	url    string
	server serverName
	answer T
	err    error
}

type serverName struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// each visits every core in the system account and asks the same question, all at once. The question
// is the last word of $SYS.REQ.SERVER.<id>.<question>.
func each[T any](ctx context.Context, s *Store, question string, body any) []visit[T] {
	urls := s.cores()
	out := make([]visit[T], len(urls))
	var all sync.WaitGroup
	for i, url := range urls {
		all.Go(func() {
			out[i].url = url
			out[i].server, out[i].err = s.at(ctx, url, func(l *link) error {
				return l.monitor(ctx, question, body, &out[i].answer)
			})
		})
	}
	all.Wait()
	return out
}

// at connects to one core in the system account and lets do speak there.
func (s *Store) at(ctx context.Context, url string, do func(*link) error) (serverName, error) {
	ctx, cancel := context.WithTimeout(ctx, visitWithin)
	defer cancel()
	l, err := s.knock(ctx, url)
	if err != nil {
		return serverName{}, err
	}
	defer l.nc.Close()
	name := serverName{l.nc.ConnectedServerId(), l.nc.ConnectedServerName()}
	return name, do(l)
}

// knock connects once: unlike dial it does not try again, so that an absent core is known as such.
func (s *Store) knock(ctx context.Context, url string) (*link, error) {
	key, err := nats.NkeyOptionFromSeed(s.cfg.SystemSeed)
	if err != nil {
		return nil, fmt.Errorf("natsstore: the seed for the system account: %w", err)
	}
	l := &link{name: "core", timeout: visitWithin}
	l.epoch, l.end = context.WithCancel(context.Background())
	within := visitWithin
	if deadline, ok := ctx.Deadline(); ok {
		within = max(time.Until(deadline), time.Millisecond)
	}
	l.nc, err = nats.Connect(url, key, nats.Name("ployz system"), nats.CustomInboxPrefix(s.cfg.inbox()),
		nats.NoReconnect(), nats.Timeout(within), nats.IgnoreDiscoveredServers(),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { l.drop() }),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	)
	return l, err
}

// monitor asks the core that this link leads to about itself.
func (l *link) monitor(ctx context.Context, question string, body, answer any) error {
	var wrapped struct {
		Data  json.RawMessage `json:"data"`
		Error *apiError       `json:"error"`
	}
	if err := l.call(ctx, "$SYS.REQ.SERVER."+l.nc.ConnectedServerId()+"."+question, body, &wrapped); err != nil {
		return err
	}
	if answer == nil || len(wrapped.Data) == 0 {
		return nil
	}
	return json.Unmarshal(wrapped.Data, answer)
}

// admin asks the group's leader, through whichever core lets us in: requests travel over the routes.
// Errors: *apiError (the leader's "no"), or an error wrapping errSilent, errNobody or errUnsent.
func (s *Store) admin(ctx context.Context, subject string, body, reply any) error {
	if len(s.cores()) == 0 {
		return errNotConfigured
	}
	var failed error
	for _, url := range s.cores() {
		_, err := s.at(ctx, url, func(l *link) error { return l.call(ctx, subject, body, reply) })
		var refused *apiError
		if err == nil || errors.As(err, &refused) {
			return err
		}
		failed = errors.Join(failed, fmt.Errorf("%s: %w", url, err))
	}
	return failed
}

// poll repeats a look until it is done, a refusal ends it, or ctx does. look returns what is still missing, for the
// message; an error ends the wait only where it is for good.
func poll(ctx context.Context, look func() (missing string, err error)) error {
	var last string
	for {
		missing, err := look()
		if err != nil || missing == "" {
			return err
		}
		last = missing
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %s", ctx.Err(), last)
		case <-time.After(again):
		}
	}
}
